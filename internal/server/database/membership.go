package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// BindingsAt lists the accounts of one issuer by subject, those after one; "" starts.
func (db *DB) BindingsAt(ctx context.Context, issuer, after string, limit int) ([]identity.Binding, error) {
	var bindings []identity.Binding
	err := db.list(ctx, "list bindings of issuer", `SELECT `+bindingColumns+` FROM binding WHERE issuer = $1 AND subject > $2 ORDER BY subject LIMIT $3`,
		[]any{issuer, after, pageOf(limit)}, func() { bindings = nil }, func(scan func(...any) error) error {
			var b identity.Binding
			err := scan(bindingInto(&b)...)
			bindings = append(bindings, b)
			return err
		})
	return bindings, err
}

// PutLeaver keeps what became of an account that is no member; ErrNotFound when nobody is
// bound to it.
func (db *DB) PutLeaver(ctx context.Context, l identity.Leaver) error {
	switch l.State {
	case identity.LeaverWaiting, identity.LeaverApproved, identity.LeaverOut:
	default:
		return fmt.Errorf("leaver in state %q: %w", l.State, identity.ErrInvalid)
	}
	return db.write(ctx, "put leaver", func(tx *tx) error {
		bound, err := tx.there(`SELECT 1 FROM binding WHERE issuer = $1 AND subject = $2 AND person = $3`, l.Issuer, l.Subject, string(l.Person))
		if err != nil {
			return err
		}
		if !bound {
			return identity.ErrNotFound
		}
		_, err = tx.exec(`INSERT INTO leaver (issuer, subject, person, state, since, why) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (issuer, subject) DO UPDATE SET person = $3, state = $4, why = $6`,
			l.Issuer, l.Subject, string(l.Person), string(l.State), micros(l.Since), l.Why)
		return err
	})
}

// DeleteLeaver forgets that an account was no member; to forget nothing is no error.
func (db *DB) DeleteLeaver(ctx context.Context, issuer, subject string) error {
	return db.write(ctx, "delete leaver", func(tx *tx) error {
		_, err := tx.exec(`DELETE FROM leaver WHERE issuer = $1 AND subject = $2`, issuer, subject)
		return err
	})
}

// departuresKept is how long a departure is remembered.
const departuresKept = 7 * 24 * time.Hour

// Depart remembers that a person was suspended on a provider's word alone.
func (db *DB) Depart(ctx context.Context, issuer string, person identity.PersonID, at time.Time) error {
	return db.write(ctx, "depart", func(tx *tx) error {
		if _, err := tx.exec(`DELETE FROM departure WHERE at < $1`, micros(at.Add(-departuresKept))); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO departure (issuer, person, at) VALUES ($1, $2, $3)
			ON CONFLICT (issuer, person) DO UPDATE SET at = CASE WHEN departure.at < $3 THEN $3 ELSE departure.at END`,
			issuer, string(person), micros(at))
		return err
	})
}

// Departed lists who was so suspended after a time, those who are in again or gone too.
func (db *DB) Departed(ctx context.Context, issuer string, since time.Time) ([]identity.PersonID, error) {
	var people []identity.PersonID
	err := db.list(ctx, "list departures", `SELECT person FROM departure WHERE issuer = $1 AND at > $2 ORDER BY person`,
		[]any{issuer, micros(since)}, func() { people = nil }, gather(&people))
	return people, err
}

// Leavers lists the accounts of an issuer, or of all with "", that are no members.
func (db *DB) Leavers(ctx context.Context, issuer string) ([]identity.Leaver, error) {
	var leavers []identity.Leaver
	err := db.list(ctx, "list leavers", `SELECT issuer, subject, person, state, since, why FROM leaver WHERE issuer = $1 OR $1 = '' ORDER BY issuer, subject`,
		[]any{issuer}, func() { leavers = nil }, func(scan func(...any) error) error {
			var l identity.Leaver
			var state string
			err := scan(&l.Issuer, &l.Subject, &l.Person, &state, stamp{&l.Since}, &l.Why)
			l.State = identity.LeaverState(state)
			leavers = append(leavers, l)
			return err
		})
	return leavers, err
}

// PutMembershipLook keeps how a look at an issuer went; with trouble the last answer stays.
func (db *DB) PutMembershipLook(ctx context.Context, l identity.MembershipLook) error {
	return db.write(ctx, "put look at members", func(tx *tx) error {
		if l.Trouble != "" {
			_, err := tx.exec(`INSERT INTO membership_look (issuer, asked, answered, accounts, gone, trouble) VALUES ($1, $2, 0, 0, 0, $3)
				ON CONFLICT (issuer) DO UPDATE SET asked = $2, trouble = $3`, l.Issuer, micros(l.Asked), l.Trouble)
			return err
		}
		_, err := tx.exec(`INSERT INTO membership_look (issuer, asked, answered, accounts, gone, trouble) VALUES ($1, $2, $2, $3, $4, '')
			ON CONFLICT (issuer) DO UPDATE SET asked = $2, answered = $2, accounts = $3, gone = $4, trouble = ''`,
			l.Issuer, micros(l.Asked), l.Accounts, l.Gone)
		return err
	})
}

// MembershipLooks lists how the last look at each issuer went.
func (db *DB) MembershipLooks(ctx context.Context) ([]identity.MembershipLook, error) {
	var looks []identity.MembershipLook
	err := db.list(ctx, "list looks at members", `SELECT issuer, asked, answered, accounts, gone, trouble FROM membership_look ORDER BY issuer`,
		nil, func() { looks = nil }, func(scan func(...any) error) error {
			var l identity.MembershipLook
			err := scan(&l.Issuer, stamp{&l.Asked}, stamp{&l.Answered}, &l.Accounts, &l.Gone, &l.Trouble)
			looks = append(looks, l)
			return err
		})
	return looks, err
}

// PutSealed keeps the refresh token of a bound account; ErrNotFound when nobody is bound to
// it.
func (db *DB) PutSealed(ctx context.Context, g identity.SealedGrant) error {
	if len(g.Sealed) == 0 || len(g.Sealed) > maxOnce {
		return fmt.Errorf("sealed grant of %d bytes: %w", len(g.Sealed), identity.ErrInvalid)
	}
	return db.write(ctx, "put sealed grant", func(tx *tx) error {
		bound, err := tx.there(`SELECT 1 FROM binding WHERE issuer = $1 AND subject = $2`, g.Issuer, g.Subject)
		if err != nil {
			return err
		}
		if !bound {
			return identity.ErrNotFound
		}
		_, err = tx.exec(`INSERT INTO upstream_grant (issuer, subject, sealed, kept) VALUES ($1, $2, $3, $4)
			ON CONFLICT (issuer, subject) DO UPDATE SET sealed = $3, kept = $4`, g.Issuer, g.Subject, g.Sealed, micros(g.Kept))
		return err
	})
}

// Sealed finds the refresh token of an account.
func (db *DB) Sealed(ctx context.Context, issuer, subject string) (identity.SealedGrant, error) {
	g := identity.SealedGrant{Issuer: issuer, Subject: subject}
	err := db.one(ctx, "find sealed grant", `SELECT sealed, kept FROM upstream_grant WHERE issuer = $1 AND subject = $2`,
		[]any{issuer, subject}, &g.Sealed, stamp{&g.Kept})
	return g, err
}

// DeleteSealed forgets a refresh token; to forget nothing is no error. One that was put
// since a time stays: it is not the one that the caller found to be spent.
func (db *DB) DeleteSealed(ctx context.Context, issuer, subject string, since time.Time) error {
	return db.write(ctx, "delete sealed grant", func(tx *tx) error {
		_, err := tx.exec(`DELETE FROM upstream_grant WHERE issuer = $1 AND subject = $2 AND kept <= $3`, issuer, subject, micros(since))
		return err
	})
}
