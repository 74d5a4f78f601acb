package database

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const personColumns = `p.id, p.address, p.name, p.admin, p.created, p.disabled, p.reason`

func personInto(p *identity.Person) []any {
	return []any{&p.ID, &p.Address, &p.Name, &p.Admin, stamp{&p.Created}, stamp{&p.Disabled}, &p.Reason}
}

// AddPerson keeps a new person. Their address must not be anybody's yet: not a person's,
// not an alias or a mailbox, and not the login name of an app password. Whom an
// administrator had shut out before a directory removed them is shut out again.
func (db *DB) AddPerson(ctx context.Context, p identity.Person) error {
	if err := checkPerson(p); err != nil {
		return err
	}
	return db.write(ctx, "add person", func(tx *tx) error {
		if err := tx.unused(p.Address, ""); err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO person (id, address, name, admin, created, disabled, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			string(p.ID), p.Address, p.Name, p.Admin, micros(p.Created), micros(p.Disabled), p.Reason); err != nil {
			return err
		}
		if err := tx.touchPerson(p.ID); err != nil {
			return err
		}
		return db.reheld(tx, p, "", p.Created)
	})
}

func checkPerson(p identity.Person) error {
	if p.ID == "" {
		return fmt.Errorf("person without id: %w", identity.ErrInvalid)
	}
	if strings.HasPrefix(p.Address, "@") {
		return fmt.Errorf("person with a catch-all address: %w", identity.ErrInvalid)
	}
	return checkOwn(p.Address)
}

// unused gives ErrExists when an address is in use as something else than the address of a
// person, which the table itself keeps unique. What belongs to the person alone is theirs
// to take.
func (t *tx) unused(address string, person identity.PersonID) error {
	taken, err := t.there(`SELECT 1 FROM credential WHERE login = $1 AND revoked = 0 AND person <> $2`, address, string(person))
	if err == nil && !taken {
		taken, err = t.there(`SELECT 1 FROM address a WHERE a.address = $1 AND (
			NOT EXISTS (SELECT 1 FROM address_owner o WHERE o.address = a.address)
			OR EXISTS (SELECT 1 FROM address_owner o WHERE o.address = a.address AND o.person <> $2))`, address, string(person))
	}
	if taken {
		return fmt.Errorf("address %s: %w", address, identity.ErrExists)
	}
	return err
}

// Person finds a person.
func (db *DB) Person(ctx context.Context, id identity.PersonID) (identity.Person, error) {
	var p identity.Person
	err := db.one(ctx, "find person", `SELECT `+personColumns+` FROM person p WHERE p.id = $1`, []any{string(id)}, personInto(&p)...)
	return p, err
}

// PersonByAddress finds the person whose canonical address it is; not who owns it otherwise.
func (db *DB) PersonByAddress(ctx context.Context, address string) (identity.Person, error) {
	var p identity.Person
	err := db.one(ctx, "find person by address", `SELECT `+personColumns+` FROM person p WHERE p.address = $1`, []any{address}, personInto(&p)...)
	return p, err
}

// pageOf is how many rows a page has when the caller does not say.
func pageOf(limit int) int {
	if limit <= 0 {
		return 100
	}
	return limit
}

// People lists persons by address, those after one address; "" starts.
func (db *DB) People(ctx context.Context, after string, limit int) ([]identity.Person, error) {
	var people []identity.Person
	err := db.list(ctx, "list people", `SELECT `+personColumns+` FROM person p WHERE p.address > $1 ORDER BY p.address LIMIT $2`,
		[]any{after, pageOf(limit)}, func() { people = nil }, func(scan func(...any) error) error {
			var p identity.Person
			err := scan(personInto(&p)...)
			people = append(people, p)
			return err
		})
	return people, err
}

// UpdatePerson changes address, name and admin; DisablePerson and EnablePerson change the
// rest. A new address turns the old one into an alias of it: mail goes on arriving, and
// nobody else is given the old address by accident.
func (db *DB) UpdatePerson(ctx context.Context, p identity.Person) error {
	if err := checkPerson(p); err != nil {
		return err
	}
	return db.write(ctx, "update person", func(tx *tx) error {
		var old string
		if err := tx.one(`SELECT address FROM person WHERE id = $1`, []any{string(p.ID)}, &old); err != nil {
			return err
		}
		tx.ended = true
		if err := tx.touchPerson(p.ID); err != nil {
			return err
		}
		if old != p.Address {
			if err := tx.rename(p.ID, old, p.Address); err != nil {
				return err
			}
		}
		if err := tx.must(`UPDATE person SET address = $2, name = $3, admin = $4 WHERE id = $1`, string(p.ID), p.Address, p.Name, p.Admin); err != nil {
			return err
		}
		return tx.touchPerson(p.ID)
	})
}

func (t *tx) rename(id identity.PersonID, old, address string) error {
	if err := t.unused(address, id); err != nil {
		return err
	}
	if err := t.dropAddress(address); err != nil { // their own alias so far
		return err
	}
	if err := t.renameLogins(id, address); err != nil {
		return err
	}
	// What the person or an administrator has put at the old address goes on.
	kept, err := t.there(`SELECT 1 FROM address WHERE address = $1`, old)
	if err != nil || kept {
		return err
	}
	return t.putAddress(identity.Address{Address: old, Targets: []string{address},
		Owners: []identity.Owner{{Person: id, Roles: []identity.Role{identity.RoleSend}}}})
}

// renameLogins gives the app passwords the login names that follow from a new address.
func (t *tx) renameLogins(id identity.PersonID, address string) error {
	logins := map[string]string{}
	err := t.all(`SELECT id, name FROM credential WHERE person = $1`, []any{string(id)}, func(scan func(...any) error) error {
		var credential, name string
		err := scan(&credential, &name)
		logins[credential] = identity.LoginName(address, name)
		return err
	})
	if err != nil {
		return err
	}
	for credential, login := range logins {
		if err := t.loginFree(login); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE credential SET login = $2 WHERE id = $1`, credential, login); err != nil {
			return err
		}
	}
	return nil
}

// DisablePerson shuts a person out everywhere and ends their sessions; the first reason
// stays. Their credentials, grants and second factors work nowhere until EnablePerson.
func (db *DB) DisablePerson(ctx context.Context, id identity.PersonID, at time.Time, reason string) error {
	return db.write(ctx, "disable person", func(tx *tx) error {
		_, err := tx.hold(identity.Hold{Person: id, Source: identity.HoldHand, Since: at, Reason: reason})
		return err
	})
}

// EnablePerson lets a disabled person in again, whoever has shut them out.
func (db *DB) EnablePerson(ctx context.Context, id identity.PersonID) error {
	return db.write(ctx, "enable person", func(tx *tx) error {
		if err := tx.touchPerson(id); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM hold WHERE person = $1`, string(id)); err != nil {
			return err
		}
		return tx.must(`UPDATE person SET disabled = 0, reason = '' WHERE id = $1`, string(id))
	})
}

// DeletePerson forgets a person with their bindings, sessions, factors and app passwords, and the
// addresses that were theirs alone; their grants stay, revoked, and so does the audit trail.
func (db *DB) DeletePerson(ctx context.Context, id identity.PersonID) error {
	now := db.o.Now()
	return db.write(ctx, "delete person", func(tx *tx) error { return tx.deletePerson(id, now) })
}

func (t *tx) deletePerson(id identity.PersonID, now time.Time) error {
	t.ended = true
	if err := t.touchPerson(id); err != nil {
		return err
	}
	if err := t.must(`DELETE FROM person WHERE id = $1`, string(id)); err != nil {
		return err
	}
	var alone []string
	err := t.all(`SELECT a.address FROM address_owner a WHERE a.person = $1
		AND NOT EXISTS (SELECT 1 FROM address_owner o WHERE o.address = a.address AND o.person <> $1)`, []any{string(id)}, gather(&alone))
	if err != nil {
		return err
	}
	for _, address := range alone {
		if err := t.dropAddress(address); err != nil {
			return err
		}
	}
	for _, text := range []string{
		`DELETE FROM address_owner WHERE person = $1`,
		`DELETE FROM upstream_grant WHERE EXISTS (SELECT 1 FROM binding b WHERE b.person = $1 AND b.issuer = upstream_grant.issuer AND b.subject = upstream_grant.subject)`,
		`DELETE FROM leaver WHERE person = $1`,
		`DELETE FROM binding WHERE person = $1`,
		`DELETE FROM hold WHERE person = $1`,
		`DELETE FROM directory WHERE person = $1`,
		`DELETE FROM session WHERE person = $1`,
		`DELETE FROM mail_token WHERE mail_session IN (SELECT id FROM mail_session WHERE person = $1)`,
		`DELETE FROM mail_session WHERE person = $1`,
		`DELETE FROM passkey WHERE person = $1`,
		`DELETE FROM totp WHERE person = $1`,
		`DELETE FROM recovery_code WHERE person = $1`,
		`DELETE FROM credential_sender WHERE credential IN (SELECT id FROM credential WHERE person = $1)`,
		`DELETE FROM credential WHERE person = $1`,
	} {
		if _, err := t.exec(text, string(id)); err != nil {
			return err
		}
	}
	_, err = t.exec(`UPDATE consent SET revoked = $2, reason = 'person deleted' WHERE person = $1 AND revoked = 0`, string(id), micros(now))
	return err
}
