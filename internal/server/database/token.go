package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The methods of this file and of device.go are the stores of internal/server/authserver,
// whose store.go says what each promises.

const (
	grantColumns   = `g.id, g.person, g.client, g.scopes, g.created, g.revoked, g.reason`
	codeColumns    = `digest, consent, client, redirect_uri, challenge, nonce, auth_time, expires, used`
	accessColumns  = `t.digest, t.consent, t.scopes, t.issued, t.expires, t.revoked`
	refreshColumns = `t.digest, t.consent, t.issued, t.expires, t.spent, t.successor`
)

func grantInto(g *identity.Grant) []any {
	return []any{&g.ID, &g.Person, &g.Client, list[string]{&g.Scopes, bySpace}, stamp{&g.Created}, stamp{&g.Revoked}, &g.Reason}
}

func codeInto(c *identity.Code) []any {
	return []any{digest{&c.Digest}, &c.Grant, &c.Client, &c.RedirectURI, &c.Challenge, &c.Nonce,
		stamp{&c.AuthTime}, stamp{&c.Expires}, stamp{&c.Used}}
}

func accessInto(a *identity.AccessToken) []any {
	return []any{digest{&a.Digest}, &a.Grant, list[string]{&a.Scopes, bySpace}, stamp{&a.Issued}, stamp{&a.Expires}, stamp{&a.Revoked}}
}

func refreshInto(r *identity.RefreshToken) []any {
	return []any{digest{&r.Digest}, &r.Grant, stamp{&r.Issued}, stamp{&r.Expires}, stamp{&r.Spent}, &r.Successor}
}

// AddCode keeps a consent and the code that stands for it.
func (db *DB) AddCode(ctx context.Context, grant identity.Grant, code identity.Code) error {
	return db.write(ctx, "add code", func(tx *tx) error {
		if err := tx.addGrant(grant); err != nil {
			return err
		}
		return tx.addCode(code)
	})
}

// AddCodeAgain keeps a further code of a grant in force.
func (db *DB) AddCodeAgain(ctx context.Context, code identity.Code) error {
	return db.write(ctx, "add code", func(tx *tx) error {
		if err := tx.inForce(code.Grant); err != nil {
			return err
		}
		return tx.addCode(code)
	})
}

func (t *tx) addCode(code identity.Code) error {
	_, err := t.exec(`INSERT INTO code (`+codeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		code.Digest[:], string(code.Grant), string(code.Client), code.RedirectURI, code.Challenge, code.Nonce,
		micros(code.AuthTime), micros(code.Expires), micros(code.Used))
	return err
}

func (t *tx) addGrant(g identity.Grant) error {
	scopes, err := joined(g.Scopes, bySpace)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO consent (id, person, client, scopes, created, revoked, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		string(g.ID), string(g.Person), string(g.Client), scopes, micros(g.Created), micros(g.Revoked), g.Reason)
	return err
}

// TakeCode marks a code used and returns it as it was before.
func (db *DB) TakeCode(ctx context.Context, digest identity.Digest, at time.Time) (identity.Code, error) {
	var code identity.Code
	err := db.write(ctx, "take code", func(tx *tx) error {
		if err := tx.one(`SELECT `+codeColumns+` FROM code WHERE digest = $1`, []any{digest[:]}, codeInto(&code)...); err != nil {
			return err
		}
		if !code.Used.IsZero() {
			return nil
		}
		// A second transaction that also saw it unused fails here, and sees it used when
		// it comes again: the level is serializable.
		_, err := tx.exec(`UPDATE code SET used = $2 WHERE digest = $1 AND used = 0`, digest[:], micros(at))
		return err
	})
	if err != nil {
		return identity.Code{}, err
	}
	return code, nil
}

// Issue keeps new tokens of a grant in force; a zero refresh token is none.
func (db *DB) Issue(ctx context.Context, access identity.AccessToken, refresh identity.RefreshToken) error {
	return db.write(ctx, "issue tokens", func(tx *tx) error {
		if err := tx.inForce(access.Grant); err != nil {
			return err
		}
		if refresh.Digest != (identity.Digest{}) {
			if err := tx.addRefresh(refresh); err != nil {
				return err
			}
		}
		return tx.addAccess(access)
	})
}

func (t *tx) inForce(id identity.GrantID) error {
	var revoked int64
	err := t.one(`SELECT revoked FROM consent WHERE id = $1`, []any{string(id)}, &revoked)
	if err == nil && revoked != 0 {
		return fmt.Errorf("grant: %w", identity.ErrRevoked)
	}
	return err
}

func (t *tx) addAccess(a identity.AccessToken) error {
	scopes, err := joined(a.Scopes, bySpace)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO access_token (digest, consent, scopes, issued, expires, revoked) VALUES ($1, $2, $3, $4, $5, $6)`,
		a.Digest[:], string(a.Grant), scopes, micros(a.Issued), micros(a.Expires), micros(a.Revoked))
	return err
}

func (t *tx) addRefresh(r identity.RefreshToken) error {
	_, err := t.exec(`INSERT INTO refresh_token (digest, consent, issued, expires, spent, successor) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.Digest[:], string(r.Grant), micros(r.Issued), micros(r.Expires), micros(r.Spent), bytesOf(r.Successor))
	return err
}

// bytesOf: an empty value is not NULL.
func bytesOf(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// Rotate spends a refresh token and keeps its successor, once.
func (db *DB) Rotate(ctx context.Context, old identity.Digest, at time.Time, sealed []byte,
	next identity.RefreshToken, access identity.AccessToken) (identity.RefreshToken, error) {
	var token identity.RefreshToken
	err := db.write(ctx, "rotate refresh token", func(tx *tx) error {
		if err := tx.one(`SELECT `+refreshColumns+` FROM refresh_token t WHERE t.digest = $1`, []any{old[:]}, refreshInto(&token)...); err != nil {
			return err
		}
		if err := tx.inForce(token.Grant); err != nil {
			return err
		}
		if !token.Spent.IsZero() {
			return nil
		}
		if _, err := tx.exec(`UPDATE refresh_token SET spent = $2, successor = $3 WHERE digest = $1 AND spent = 0`,
			old[:], micros(at), bytesOf(sealed)); err != nil {
			return err
		}
		if err := tx.addRefresh(next); err != nil {
			return err
		}
		return tx.addAccess(access)
	})
	if err != nil {
		return identity.RefreshToken{}, err
	}
	return token, nil
}

// AccessToken finds an access token and its grant.
func (db *DB) AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error) {
	var token identity.AccessToken
	var grant identity.Grant
	err := db.one(ctx, "find access token", `SELECT `+accessColumns+`, `+grantColumns+`
		FROM access_token t JOIN consent g ON g.id = t.consent WHERE t.digest = $1`,
		[]any{digest[:]}, append(accessInto(&token), grantInto(&grant)...)...)
	return token, grant, err
}

// RefreshToken finds a refresh token and its grant.
func (db *DB) RefreshToken(ctx context.Context, digest identity.Digest) (identity.RefreshToken, identity.Grant, error) {
	var token identity.RefreshToken
	var grant identity.Grant
	err := db.one(ctx, "find refresh token", `SELECT `+refreshColumns+`, `+grantColumns+`
		FROM refresh_token t JOIN consent g ON g.id = t.consent WHERE t.digest = $1`,
		[]any{digest[:]}, append(refreshInto(&token), grantInto(&grant)...)...)
	return token, grant, err
}

// Grant finds a grant, revoked or not.
func (db *DB) Grant(ctx context.Context, id identity.GrantID) (identity.Grant, error) {
	var grant identity.Grant
	err := db.one(ctx, "find grant", `SELECT `+grantColumns+` FROM consent g WHERE g.id = $1`, []any{string(id)}, grantInto(&grant)...)
	return grant, err
}

// GrantsOf lists a person's grants, revoked ones too, the newest first.
func (db *DB) GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error) {
	var grants []identity.Grant
	err := db.list(ctx, "list grants", `SELECT `+grantColumns+` FROM consent g WHERE g.person = $1 ORDER BY g.created DESC, g.id`,
		[]any{string(person)}, func() { grants = nil }, func(scan func(...any) error) error {
			var grant identity.Grant
			err := scan(grantInto(&grant)...)
			grants = append(grants, grant)
			return err
		})
	return grants, err
}

// RevokeGrant ends a grant and with it its family; the first reason stays.
func (db *DB) RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error {
	return db.write(ctx, "revoke grant", func(tx *tx) error {
		tx.ended = true
		return tx.must(`UPDATE consent SET reason = CASE WHEN revoked = 0 THEN $3 ELSE reason END,
			revoked = CASE WHEN revoked = 0 THEN $2 ELSE revoked END WHERE id = $1`, string(id), micros(at), reason)
	})
}

// RevokeAccess ends one access token.
func (db *DB) RevokeAccess(ctx context.Context, digest identity.Digest, at time.Time) error {
	return db.write(ctx, "revoke access token", func(tx *tx) error {
		tx.ended = true
		return tx.must(`UPDATE access_token SET revoked = CASE WHEN revoked = 0 THEN $2 ELSE revoked END WHERE digest = $1`, digest[:], micros(at))
	})
}
