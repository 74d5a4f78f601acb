package database

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const credentialColumns = `c.id, c.person, c.selector, c.hash, c.name, c.label, c.protocols, c.networks, c.senders, c.recipients,
	c.per_hour, c.created, c.expires, c.revoked, c.reason, c.last_use, c.last_from, c.last_protocol`

func credentialInto(c *identity.Credential) []any {
	return []any{&c.ID, &c.Person, &c.Selector, &c.Hash, &c.Name, &c.Label,
		list[identity.Protocol]{&c.Protocols, bySpace}, prefixes{&c.Networks}, list[string]{&c.Senders, byLine}, list[string]{&c.Recipients, byLine},
		&c.PerHour, stamp{&c.Created}, stamp{&c.Expires}, stamp{&c.Revoked}, &c.Reason,
		stamp{&c.LastUse}, addr{&c.LastFrom}, &c.LastProtocol}
}

// AddCredential keeps a new app password. ErrExists: the selector is taken, or the name by
// another that is not revoked, or the login name by an address. A disabled person gets none.
func (db *DB) AddCredential(ctx context.Context, c identity.Credential) error {
	protocols, err := joined(c.Protocols, bySpace)
	networks, networkErr := networkTexts(c.Networks)
	senders, senderErr := joined(c.Senders, byLine)
	recipients, recipientErr := joined(c.Recipients, byLine)
	for _, err := range []error{err, networkErr, senderErr, recipientErr, checkCredential(c)} {
		if err != nil {
			return fmt.Errorf("add credential: %w", err)
		}
	}
	return db.write(ctx, "add credential", func(tx *tx) error {
		if err := tx.livingPerson(c.Person, true); err != nil {
			return err
		}
		var address string
		if err := tx.one(`SELECT address FROM person WHERE id = $1`, []any{string(c.Person)}, &address); err != nil {
			return err
		}
		login := identity.LoginName(address, c.Name)
		if err := tx.loginFree(login); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO credential (id, person, selector, hash, name, login, label, protocols, networks, senders, recipients,
			per_hour, limited, created, expires, revoked, reason, last_use, last_from, last_protocol)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
			string(c.ID), string(c.Person), c.Selector, c.Hash, c.Name, login, c.Label, protocols, networks, senders, recipients,
			c.PerHour, c.Limited(), micros(c.Created), micros(c.Expires), micros(c.Revoked), c.Reason,
			micros(c.LastUse), addrText(c.LastFrom), string(c.LastProtocol))
		if err != nil {
			return err
		}
		for _, sender := range c.Senders {
			if _, err := tx.exec(`INSERT INTO credential_sender (credential, sender, domain) VALUES ($1, $2, $3)`,
				string(c.ID), sender, domainOf(sender)); err != nil {
				return err
			}
		}
		return tx.touchPerson(c.Person)
	})
}

// checkCredential refuses a name that could stand for another login name.
func checkCredential(c identity.Credential) error {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}
	switch {
	case c.ID == "" || c.Selector == "" || c.Hash == "":
		return fmt.Errorf("credential without id, selector or hash: %w", identity.ErrInvalid)
	case c.Name == "" || strings.IndexFunc(c.Name, bad) >= 0:
		return fmt.Errorf("name %q: %w", c.Name, identity.ErrInvalid)
	case c.PerHour < 0:
		return fmt.Errorf("%d messages an hour: %w", c.PerHour, identity.ErrInvalid)
	}
	for i, sender := range c.Senders {
		if err := checkOwn(sender); err != nil {
			return err
		}
		if slices.Contains(c.Senders[:i], sender) {
			return fmt.Errorf("sender %s twice: %w", sender, identity.ErrInvalid)
		}
	}
	return nil
}

// loginFree: a login name that is also an address would be two people to a mail server.
func (t *tx) loginFree(login string) error {
	taken, err := t.there(`SELECT 1 FROM person WHERE address = $1 UNION ALL SELECT 1 FROM address WHERE address = $1`, login)
	if err == nil && taken {
		return fmt.Errorf("login name %s is an address: %w", login, identity.ErrExists)
	}
	return err
}

// CredentialBySelector finds the one app password that a presented one can be, and whose
// it is. It finds revoked and expired ones too, for the log to say which.
func (db *DB) CredentialBySelector(ctx context.Context, selector string) (identity.Credential, identity.Person, error) {
	var c identity.Credential
	var p identity.Person
	err := db.one(ctx, "find credential", `SELECT `+credentialColumns+`, `+personColumns+`
		FROM credential c JOIN person p ON p.id = c.person WHERE c.selector = $1`,
		[]any{selector}, append(credentialInto(&c), personInto(&p)...)...)
	return c, p, err
}

// CredentialByName finds a person's app password by its name: the one in force, else the
// one that was revoked last.
func (db *DB) CredentialByName(ctx context.Context, person identity.PersonID, name string) (identity.Credential, error) {
	var c identity.Credential
	err := db.one(ctx, "find credential by name", `SELECT `+credentialColumns+` FROM credential c
		WHERE c.person = $1 AND c.name = $2 ORDER BY CASE WHEN c.revoked = 0 THEN 0 ELSE 1 END, c.revoked DESC, c.id LIMIT 1`,
		[]any{string(person), name}, credentialInto(&c)...)
	return c, err
}

// Credentials lists a person's app passwords, revoked ones too, the newest first.
func (db *DB) Credentials(ctx context.Context, person identity.PersonID) ([]identity.Credential, error) {
	var credentials []identity.Credential
	err := db.list(ctx, "list credentials", `SELECT `+credentialColumns+` FROM credential c WHERE c.person = $1 ORDER BY c.created DESC, c.id`,
		[]any{string(person)}, func() { credentials = nil }, func(scan func(...any) error) error {
			var c identity.Credential
			err := scan(credentialInto(&c)...)
			credentials = append(credentials, c)
			return err
		})
	return credentials, err
}

// Expiring lists the app passwords in force that end by themselves after one time and up to
// another, the first to end first.
func (db *DB) Expiring(ctx context.Context, after, until time.Time) ([]identity.Credential, error) {
	var credentials []identity.Credential
	err := db.list(ctx, "list expiring credentials", `SELECT `+credentialColumns+` FROM credential c
		WHERE c.expires > $1 AND c.expires <= $2 AND c.revoked = 0 ORDER BY c.expires, c.id`,
		[]any{micros(after), micros(until)}, func() { credentials = nil }, func(scan func(...any) error) error {
			var c identity.Credential
			err := scan(credentialInto(&c)...)
			credentials = append(credentials, c)
			return err
		})
	return credentials, err
}

// RevokeCredential ends an app password; the first reason stays.
func (db *DB) RevokeCredential(ctx context.Context, id identity.CredentialID, at time.Time, reason string) error {
	return db.write(ctx, "revoke credential", func(tx *tx) error {
		tx.ended = true
		var person string
		if err := tx.one(`SELECT person FROM credential WHERE id = $1`, []any{string(id)}, &person); err != nil {
			return err
		}
		if err := tx.touchPerson(identity.PersonID(person)); err != nil {
			return err
		}
		return tx.must(`UPDATE credential SET reason = CASE WHEN revoked = 0 THEN $3 ELSE reason END,
			revoked = CASE WHEN revoked = 0 THEN $2 ELSE revoked END WHERE id = $1`, string(id), micros(at), reason)
	})
}

// Used notes when, from where and for what app passwords were used last. One transaction
// takes the whole batch; of several uses the latest counts, and a batch that arrives late
// sets nothing back. Unknown app passwords are passed over.
func (db *DB) Used(ctx context.Context, uses []identity.Use) error {
	latest := map[identity.CredentialID]identity.Use{}
	for _, use := range uses {
		if known, ok := latest[use.Credential]; !ok || known.At.Before(use.At) {
			latest[use.Credential] = use
		}
	}
	if len(latest) == 0 {
		return nil
	}
	// In one order everywhere, so that two instances do not wait for each other.
	order := make([]identity.CredentialID, 0, len(latest))
	for id := range latest {
		order = append(order, id)
	}
	slices.Sort(order)
	return db.softly(ctx, "note uses", func(tx *tx) error {
		for _, id := range order {
			use := latest[id]
			if _, err := tx.exec(`UPDATE credential SET last_use = $2, last_from = $3, last_protocol = $4 WHERE id = $1 AND last_use < $2`,
				string(id), micros(use.At), addrText(use.From), string(use.Protocol)); err != nil {
				return err
			}
		}
		return nil
	})
}
