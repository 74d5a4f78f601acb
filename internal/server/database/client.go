package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	clientColumns = `id, name, redirect_uris, logout_uris, grants, scopes, secret, without_pkce, introspects, consent, created, disabled, reason, jwks`
	keyColumns    = `id, sealed, created, active`
)

// secretDigest reads a digest that may be missing.
type secretDigest struct{ into *identity.Digest }

func (d secretDigest) Scan(value any) error {
	if bytes, ok := value.([]byte); value == nil || ok && len(bytes) == 0 {
		*d.into = identity.Digest{}
		return nil
	}
	return digest(d).Scan(value)
}

func clientInto(c *identity.Client) []any {
	return []any{&c.ID, &c.Name, list[string]{&c.RedirectURIs, byLine}, list[string]{&c.LogoutURIs, byLine},
		list[identity.GrantType]{&c.Grants, bySpace}, list[string]{&c.Scopes, bySpace}, secretDigest{&c.Secret},
		&c.WithoutPKCE, &c.Introspects, &c.Consent, stamp{&c.Created}, stamp{&c.Disabled}, &c.Reason, &c.Keys}
}

// AddClient keeps a program that an administrator enters, with the consent that it acts by
// when there is one: both or neither. An id that is taken gives identity.ErrExists.
func (db *DB) AddClient(ctx context.Context, c identity.Client, consent *identity.Grant) error {
	if c.ID == "" || c.Name == "" {
		return fmt.Errorf("add client: id or name: %w", identity.ErrInvalid)
	}
	redirects, err1 := joined(c.RedirectURIs, byLine)
	logouts, err2 := joined(c.LogoutURIs, byLine)
	grants, err3 := joined(c.Grants, bySpace)
	scopes, err4 := joined(c.Scopes, bySpace)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return fmt.Errorf("add client: %w", err)
		}
	}
	secret := []byte{}
	if c.Secret != (identity.Digest{}) {
		secret = c.Secret[:]
	}
	return db.write(ctx, "add client", func(tx *tx) error {
		taken, err := tx.there(`SELECT 1 FROM client WHERE id = $1`, string(c.ID))
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("client: %w", identity.ErrExists)
		}
		if consent != nil {
			if err := tx.addGrant(*consent); err != nil {
				return err
			}
		}
		_, err = tx.exec(`INSERT INTO client (`+clientColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			string(c.ID), c.Name, redirects, logouts, grants, scopes, secret, c.WithoutPKCE, c.Introspects, string(c.Consent),
			micros(c.Created), micros(c.Disabled), c.Reason, c.Keys)
		return err
	})
}

// Client finds a program that an administrator entered, a disabled one too.
func (db *DB) Client(ctx context.Context, id identity.ClientID) (identity.Client, error) {
	var c identity.Client
	err := db.one(ctx, "find client", `SELECT `+clientColumns+` FROM client WHERE id = $1`, []any{string(id)}, clientInto(&c)...)
	c.Verified = true
	return c, err
}

// Clients lists them by id.
func (db *DB) Clients(ctx context.Context) ([]identity.Client, error) {
	var clients []identity.Client
	err := db.list(ctx, "list clients", `SELECT `+clientColumns+` FROM client ORDER BY id`, nil,
		func() { clients = nil }, func(scan func(...any) error) error {
			c := identity.Client{Verified: true}
			err := scan(clientInto(&c)...)
			clients = append(clients, c)
			return err
		})
	return clients, err
}

// DisableClient keeps a program out and ends everything that people allowed it; the first
// reason stays.
func (db *DB) DisableClient(ctx context.Context, id identity.ClientID, at time.Time, reason string) error {
	return db.write(ctx, "disable client", func(tx *tx) error {
		tx.ended = true
		if err := tx.must(`UPDATE client SET reason = CASE WHEN disabled = 0 THEN $3 ELSE reason END,
			disabled = CASE WHEN disabled = 0 THEN $2 ELSE disabled END WHERE id = $1`, string(id), micros(at), reason); err != nil {
			return err
		}
		return tx.endGrantsOf(id, at, reason)
	})
}

// DeleteClient forgets a program and ends everything that people allowed it.
func (db *DB) DeleteClient(ctx context.Context, id identity.ClientID, at time.Time) error {
	return db.write(ctx, "delete client", func(tx *tx) error {
		tx.ended = true
		if err := tx.must(`DELETE FROM client WHERE id = $1`, string(id)); err != nil {
			return err
		}
		return tx.endGrantsOf(id, at, "the program was removed")
	})
}

func (t *tx) endGrantsOf(id identity.ClientID, at time.Time, reason string) error {
	_, err := t.exec(`UPDATE consent SET revoked = $2, reason = $3 WHERE client = $1 AND revoked = 0`, string(id), micros(at), reason)
	return err
}

// ClientGrants lists the grants in force of a program.
func (db *DB) ClientGrants(ctx context.Context, id identity.ClientID) ([]identity.Grant, error) {
	var grants []identity.Grant
	err := db.list(ctx, "list a client's grants", `SELECT `+grantColumns+` FROM consent g WHERE g.client = $1 AND g.revoked = 0 ORDER BY g.created, g.id`,
		[]any{string(id)}, func() { grants = nil }, func(scan func(...any) error) error {
			var grant identity.Grant
			err := scan(grantInto(&grant)...)
			grants = append(grants, grant)
			return err
		})
	return grants, err
}

// EndRegistration remembers that a program that registered itself is no more, and ends
// everything that people allowed it. Once more is no error.
func (db *DB) EndRegistration(ctx context.Context, id identity.ClientID, at time.Time) error {
	gone := identity.DigestOf(string(id))
	return db.write(ctx, "end registration", func(tx *tx) error {
		tx.ended = true
		if _, err := tx.exec(`INSERT INTO client_gone (digest, gone) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, gone[:], micros(at)); err != nil {
			return err
		}
		return tx.endGrantsOf(id, at, "the program deleted its registration")
	})
}

// RegistrationEnded reports whether EndRegistration was called for the id.
func (db *DB) RegistrationEnded(ctx context.Context, id identity.ClientID) (bool, error) {
	gone := identity.DigestOf(string(id))
	var n int64
	err := db.one(ctx, "find ended registration", `SELECT count(*) FROM client_gone WHERE digest = $1`, []any{gone[:]}, &n)
	return n > 0, err
}

// AddSigningKey keeps a key of ID tokens. With first it is kept only while there is none,
// and else gives identity.ErrExists: of instances that start at once one makes it.
func (db *DB) AddSigningKey(ctx context.Context, key identity.SigningKey, first bool) error {
	return db.write(ctx, "add signing key", func(tx *tx) error {
		if first {
			there, err := tx.there(`SELECT 1 FROM signing_key`)
			if err != nil {
				return err
			}
			if there {
				return fmt.Errorf("signing key: %w", identity.ErrExists)
			}
		}
		_, err := tx.exec(`INSERT INTO signing_key (`+keyColumns+`) VALUES ($1, $2, $3, $4)`,
			key.ID, bytesOf(key.Sealed), micros(key.Created), micros(key.Active))
		return err
	})
}

// SigningKeys lists all of them, the oldest first.
func (db *DB) SigningKeys(ctx context.Context) ([]identity.SigningKey, error) {
	var keys []identity.SigningKey
	err := db.list(ctx, "list signing keys", `SELECT `+keyColumns+` FROM signing_key ORDER BY active, id`, nil,
		func() { keys = nil }, func(scan func(...any) error) error {
			var key identity.SigningKey
			err := scan(&key.ID, &key.Sealed, stamp{&key.Created}, stamp{&key.Active})
			keys = append(keys, key)
			return err
		})
	return keys, err
}

// DeleteSigningKey forgets a key: what it has signed counts for nothing any more.
func (db *DB) DeleteSigningKey(ctx context.Context, id string) error {
	return db.write(ctx, "delete signing key", func(tx *tx) error {
		return tx.must(`DELETE FROM signing_key WHERE id = $1`, id)
	})
}
