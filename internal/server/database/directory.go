package database

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// maxAttributes bounds what a directory may leave with a person.
const maxAttributes = 32 << 10

const userRows = `SELECT ` + personColumns + `, COALESCE(d.external, ''), COALESCE(d.attributes, ''), COALESCE(d.changed, 0)
	FROM person p LEFT JOIN directory d ON d.person = p.id `

func userInto(u *identity.User) []any {
	return append(personInto(&u.Person), &u.External, &u.Attributes, stamp{&u.Changed})
}

// User finds a person as a directory sees them.
func (db *DB) User(ctx context.Context, id identity.PersonID) (identity.User, error) {
	return db.user(ctx, `WHERE p.id = $1`, string(id))
}

// UserByAddress finds one by the canonical address.
func (db *DB) UserByAddress(ctx context.Context, address string) (identity.User, error) {
	return db.user(ctx, `WHERE p.address = $1`, address)
}

// UserByExternal finds one by the directory's own id.
func (db *DB) UserByExternal(ctx context.Context, external string) (identity.User, error) {
	return db.user(ctx, `WHERE d.external = $1 AND d.external <> ''`, external)
}

func (db *DB) user(ctx context.Context, where, arg string) (identity.User, error) {
	var u identity.User
	err := db.one(ctx, "find user", userRows+where, []any{arg}, userInto(&u)...)
	return u, err
}

// Users lists people by address, leaving out the first offset, and says how many there are.
func (db *DB) Users(ctx context.Context, offset, limit int) ([]identity.User, int, error) {
	var users []identity.User
	var total int
	err := db.snapshot(ctx, "list users", func(tx *tx) error {
		users = nil
		if err := tx.one(`SELECT count(*) FROM person`, nil, &total); err != nil || limit <= 0 {
			return err
		}
		return tx.all(userRows+`ORDER BY p.address LIMIT $1 OFFSET $2`, []any{limit, offset}, func(scan func(...any) error) error {
			var u identity.User
			err := scan(userInto(&u)...)
			users = append(users, u)
			return err
		})
	})
	return users, total, err
}

// AddUser makes a person with a mailbox of their own, and writes it into the audit trail, all
// or nothing.
func (db *DB) AddUser(ctx context.Context, u identity.User, actor string) error {
	if err := checkUser(u); err != nil {
		return err
	}
	at := u.Changed
	return db.write(ctx, "add user", func(tx *tx) error {
		p := u.Person
		if err := tx.unused(p.Address, ""); err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO person (id, address, name, admin, created, disabled, reason) VALUES ($1, $2, $3, $4, $5, 0, '')`,
			string(p.ID), p.Address, p.Name, p.Admin, micros(p.Created)); err != nil {
			return err
		}
		if err := tx.putAddress(identity.OwnMailbox(p)); err != nil {
			return err
		}
		if err := tx.putDirectory(u, at); err != nil {
			return err
		}
		if err := tx.touchPerson(p.ID); err != nil {
			return err
		}
		if err := db.note(tx, "person.added", p.ID, at, actor, p.Address); err != nil {
			return err
		}
		if err := db.reheld(tx, p, u.External, at); err != nil {
			return err
		}
		return db.wish(tx, u, at, actor)
	})
}

func checkUser(u identity.User) error {
	if len(u.Attributes) > maxAttributes || len(u.External) > maxAttributes {
		return fmt.Errorf("user with more than %d bytes of attributes: %w", maxAttributes, identity.ErrInvalid)
	}
	return checkPerson(u.Person)
}

func (t *tx) putDirectory(u identity.User, at time.Time) error {
	_, err := t.exec(`INSERT INTO directory (person, external, attributes, changed) VALUES ($1, $2, $3, $4)
		ON CONFLICT (person) DO UPDATE SET external = $2, attributes = $3, changed = $4`,
		string(u.Person.ID), u.External, u.Attributes, micros(at))
	return err
}

// wish does what the directory wants of the person's activity.
func (db *DB) wish(tx *tx, u identity.User, at time.Time, actor string) error {
	switch u.Wish {
	case identity.WishInactive:
		turned, err := tx.hold(identity.Hold{Person: u.Person.ID, Source: identity.HoldSCIM, Since: at, Reason: "by the directory"})
		if err != nil || !turned {
			return err
		}
		return db.note(tx, "person.disabled", u.Person.ID, at, actor, "by the directory")
	case identity.WishActive:
		turned, err := tx.release(u.Person.ID, identity.HoldSCIM)
		if err != nil || !turned {
			return err
		}
		return db.note(tx, "person.enabled", u.Person.ID, at, actor, "by the directory")
	}
	return nil
}

// ChangeUser lets change change a user and keeps what came of it, with its lines in the
// audit trail, in one transaction: nothing comes in between. change may be called more than
// once; an error of its own is returned as it is, and nothing is changed.
func (db *DB) ChangeUser(ctx context.Context, id identity.PersonID, at time.Time, actor string, change func(*identity.User) error) (identity.User, error) {
	var refused error
	var u identity.User
	err := db.write(ctx, "change user", func(tx *tx) error {
		refused, u = nil, identity.User{}
		if err := tx.one(userRows+`WHERE p.id = $1`, []any{string(id)}, userInto(&u)...); err != nil {
			return err
		}
		before := u
		if refused = change(&u); refused != nil {
			return identity.ErrInvalid // ends the transaction; refused says why
		}
		u.Person.ID, u.Person.Admin = before.Person.ID, before.Person.Admin
		if err := checkUser(u); err != nil {
			return err
		}
		if err := db.changed(tx, before, &u, at, actor); err != nil {
			return err
		}
		// To be made under another name first is no way round an administrator's word.
		if before.Person.Address != u.Person.Address || before.External != u.External {
			if err := db.reheld(tx, u.Person, u.External, at); err != nil {
				return err
			}
		}
		wish := u.Wish
		if err := db.wish(tx, u, at, actor); err != nil {
			return err
		}
		if err := tx.one(userRows+`WHERE p.id = $1`, []any{string(id)}, userInto(&u)...); err != nil {
			return err
		}
		u.Wish = wish
		return nil
	})
	if refused != nil {
		return identity.User{}, refused
	}
	return u, err
}

// changed keeps what differs between two states of a user.
func (db *DB) changed(tx *tx, old identity.User, u *identity.User, at time.Time, actor string) error {
	var what []string
	if old.Person.Address != u.Person.Address {
		tx.ended = true
		if err := tx.touchPerson(old.Person.ID); err != nil {
			return err
		}
		if err := tx.dropPlainMailbox(old.Person.ID, old.Person.Address); err != nil {
			return err
		}
		if err := tx.rename(old.Person.ID, old.Person.Address, u.Person.Address); err != nil {
			return err
		}
		if err := db.note(tx, "address.changed", old.Person.ID, at, actor, old.Person.Address+": now "+u.Person.Address); err != nil {
			return err
		}
	}
	if old.Person.Name != u.Person.Name {
		what = append(what, "name")
	}
	if old.External != u.External {
		what = append(what, "external id")
	}
	if old.Attributes != u.Attributes && len(what) == 0 {
		what = append(what, "attributes")
	}
	if len(what) == 0 && old.Person.Address == u.Person.Address {
		return nil
	}
	if err := tx.must(`UPDATE person SET address = $2, name = $3 WHERE id = $1`, string(old.Person.ID), u.Person.Address, u.Person.Name); err != nil {
		return err
	}
	if old.Person.Address != u.Person.Address {
		if err := tx.touchPerson(old.Person.ID); err != nil {
			return err
		}
	}
	if err := tx.putDirectory(*u, at); err != nil || len(what) == 0 {
		return err
	}
	return db.note(tx, "person.changed", old.Person.ID, at, actor, strings.Join(what, ", "))
}

// dropPlainMailbox takes away the row that every new person's own mailbox gets, so that
// rename can make an alias of it. What somebody has put there instead stays.
func (t *tx) dropPlainMailbox(person identity.PersonID, address string) error {
	plain, err := t.there(`SELECT 1 FROM address a JOIN address_owner o ON o.address = a.address WHERE a.address = $1 AND a.targets = '' AND o.person = $2
		AND NOT EXISTS (SELECT 1 FROM address_owner x WHERE x.address = $1 AND x.person <> $2)`, address, string(person))
	if err != nil || !plain {
		return err
	}
	return t.dropAddress(address)
}

// RemoveUser is DeletePerson by a directory, with its line in the audit trail. What an
// administrator has said against the person is kept for the one who is made in their place.
func (db *DB) RemoveUser(ctx context.Context, id identity.PersonID, at time.Time, actor string) error {
	return db.removeUser(ctx, id, at, actor, true)
}

// RemovePerson is DeletePerson by an administrator, with its line in the audit trail.
func (db *DB) RemovePerson(ctx context.Context, id identity.PersonID, at time.Time, actor string) error {
	return db.removeUser(ctx, id, at, actor, false)
}

// removeUser keeps the addresses in the trail: by them sessions at the mail servers are found.
func (db *DB) removeUser(ctx context.Context, id identity.PersonID, at time.Time, actor string, keep bool) error {
	return db.write(ctx, "remove user", func(tx *tx) error {
		var u identity.User
		if err := tx.one(userRows+`WHERE p.id = $1`, []any{string(id)}, userInto(&u)...); err != nil {
			return err
		}
		if keep {
			if err := tx.keepHeld(u.Person, u.External); err != nil {
				return err
			}
		}
		names := []string{u.Person.Address}
		if err := tx.all(`SELECT address FROM address_owner WHERE person = $1 ORDER BY address`, []any{string(id)}, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			return err
		}); err != nil {
			return err
		}
		if err := tx.deletePerson(id, at); err != nil {
			return err
		}
		return db.note(tx, "person.removed", "", at, actor, strings.Join(names, " "))
	})
}
