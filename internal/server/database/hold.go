package database

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// hold keeps a word against a person, once for each who says it, and disables them with the
// first. turned: they were enabled until now.
func (t *tx) hold(h identity.Hold) (turned bool, err error) {
	if h.Source == "" {
		return false, fmt.Errorf("hold without a source: %w", identity.ErrInvalid)
	}
	var disabled int64
	var reason string
	if err := t.one(`SELECT disabled, reason FROM person WHERE id = $1`, []any{string(h.Person)}, &disabled, &reason); err != nil {
		return false, err
	}
	if disabled != 0 {
		// Shut out by nobody whom we know of, as before there were holds: it was by hand.
		if err := t.exceptHeld(h.Person, disabled, reason); err != nil {
			return false, err
		}
	}
	if _, err := t.exec(`INSERT INTO hold (person, source, since, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (person, source) DO NOTHING`,
		string(h.Person), h.Source, micros(h.Since), h.Reason); err != nil {
		return false, err
	}
	t.ended = true
	if err := t.touchPerson(h.Person); err != nil {
		return false, err
	}
	if disabled == 0 {
		if _, err := t.exec(`UPDATE person SET disabled = $2, reason = $3 WHERE id = $1`, string(h.Person), micros(h.Since), h.Reason); err != nil {
			return false, err
		}
	}
	_, err = t.exec(`DELETE FROM session WHERE person = $1`, string(h.Person))
	return disabled == 0, err
}

func (t *tx) exceptHeld(person identity.PersonID, disabled int64, reason string) error {
	held, err := t.there(`SELECT 1 FROM hold WHERE person = $1 LIMIT 1`, string(person))
	if err != nil || held {
		return err
	}
	_, err = t.exec(`INSERT INTO hold (person, source, since, reason) VALUES ($1, $2, $3, $4)`, string(person), identity.HoldHand, disabled, reason)
	return err
}

// release takes a word back, and enables the person when it was the last. turned: they are
// enabled from now on.
func (t *tx) release(person identity.PersonID, source string) (turned bool, err error) {
	n, err := t.exec(`DELETE FROM hold WHERE person = $1 AND source = $2`, string(person), source)
	if err != nil || n == 0 {
		return false, err
	}
	var left []identity.Hold
	if err := t.all(`SELECT since, reason FROM hold WHERE person = $1 ORDER BY since, source`, []any{string(person)}, func(scan func(...any) error) error {
		var h identity.Hold
		err := scan(stamp{&h.Since}, &h.Reason)
		left = append(left, h)
		return err
	}); err != nil {
		return false, err
	}
	if err := t.touchPerson(person); err != nil {
		return false, err
	}
	if len(left) > 0 {
		_, err := t.exec(`UPDATE person SET reason = $2 WHERE id = $1`, string(person), left[0].Reason)
		return false, err
	}
	return true, t.must(`UPDATE person SET disabled = 0, reason = '' WHERE id = $1`, string(person))
}

// keepHeld remembers what an administrator has said about a person who is being removed:
// to be removed and made again by a directory is no way round it.
func (t *tx) keepHeld(p identity.Person, external string) error {
	if p.Disabled.IsZero() {
		return nil
	}
	if err := t.exceptHeld(p.ID, micros(p.Disabled), p.Reason); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO held (address, external, since, reason)
		SELECT $2, $3, h.since, h.reason FROM hold h WHERE h.person = $1 AND h.source = $4
		ON CONFLICT (address) DO UPDATE SET external = excluded.external, since = excluded.since, reason = excluded.reason`,
		string(p.ID), p.Address, external, identity.HoldHand)
	return err
}

// reheld shuts a person who has just been made, or renamed by a directory, out again, if an
// administrator had shut them out before they were removed. It is told after they are.
func (db *DB) reheld(tx *tx, p identity.Person, external string, at time.Time) error {
	h := identity.Hold{Person: p.ID, Source: identity.HoldHand}
	err := tx.one(`SELECT since, reason FROM held WHERE address = $1 OR external = $2 AND external <> '' ORDER BY since LIMIT 1`,
		[]any{p.Address, external}, stamp{&h.Since}, &h.Reason)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM held WHERE address = $1 OR external = $2 AND external <> ''`, p.Address, external); err != nil {
		return err
	}
	if _, err := tx.hold(h); err != nil {
		return err
	}
	line, err := db.line("person.disabled", p.ID, at, "system", strings.TrimSuffix("as before they were removed: "+h.Reason, ": "))
	tx.last = append(tx.last, line)
	return err
}

// Held lists by address what is held against people who are gone.
func (db *DB) Held(ctx context.Context, after string, limit int) ([]identity.Held, error) {
	var held []identity.Held
	err := db.list(ctx, "list what is held", `SELECT address, external, since, reason FROM held WHERE address > $1 ORDER BY address LIMIT $2`,
		[]any{after, pageOf(limit)}, func() { held = nil }, func(scan func(...any) error) error {
			var h identity.Held
			err := scan(&h.Address, &h.External, stamp{&h.Since}, &h.Reason)
			held = append(held, h)
			return err
		})
	return held, err
}

// ReleaseHeld forgets what is held against whoever had the address: who is made in their
// place is let in.
func (db *DB) ReleaseHeld(ctx context.Context, address string) error {
	return db.write(ctx, "release what is held", func(tx *tx) error { return tx.must(`DELETE FROM held WHERE address = $1`, address) })
}

// Suspend shuts a person out by the word of one source and writes it into the audit trail,
// in one transaction; false: they were out already.
func (db *DB) Suspend(ctx context.Context, h identity.Hold, actor string) (bool, error) {
	turned := false
	err := db.write(ctx, "suspend person", func(tx *tx) error {
		var err error
		if turned, err = tx.hold(h); err != nil || !turned {
			return err
		}
		return db.note(tx, "person.disabled", h.Person, h.Since, actor, h.Reason)
	})
	return turned, err
}

// Release takes the word of one source back; false: another still stands, or there was none.
func (db *DB) Release(ctx context.Context, person identity.PersonID, source string, at time.Time, actor, why string) (bool, error) {
	turned := false
	err := db.write(ctx, "release person", func(tx *tx) error {
		var err error
		if turned, err = tx.release(person, source); err != nil || !turned {
			return err
		}
		return db.note(tx, "person.enabled", person, at, actor, why)
	})
	return turned, err
}

// note adds to the audit trail in the transaction that does what it tells.
func (db *DB) note(tx *tx, kind string, person identity.PersonID, at time.Time, actor, detail string) error {
	line, err := db.line(kind, person, at, actor, detail)
	if err != nil {
		return err
	}
	return tx.next(line)
}

// line is one of the audit trail.
func (db *DB) line(kind string, person identity.PersonID, at time.Time, actor, detail string) (identity.Event, error) {
	id, err := identity.NewID(db.o.Random, at)
	return identity.Event{ID: id, At: at, Kind: kind, Person: person, Actor: actor, Detail: detail}, err
}

// Holds lists who says that a person is shut out, the first to say so first.
func (db *DB) Holds(ctx context.Context, person identity.PersonID) ([]identity.Hold, error) {
	var holds []identity.Hold
	err := db.list(ctx, "list holds", `SELECT person, source, since, reason FROM hold WHERE person = $1 ORDER BY since, source`,
		[]any{string(person)}, func() { holds = nil }, func(scan func(...any) error) error {
			var h identity.Hold
			err := scan(&h.Person, &h.Source, stamp{&h.Since}, &h.Reason)
			holds = append(holds, h)
			return err
		})
	return holds, err
}
