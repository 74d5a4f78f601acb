package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const newestGrant = `SELECT ` + grantColumns + ` FROM consent g WHERE g.person = $1 AND g.client = $2 ORDER BY g.created DESC, g.revoked, g.id LIMIT 1`

// OutsideGrant finds by which grant a client of another issuer acts for a person: the newest,
// a revoked one too. Where there never was any, the given one begins.
func (db *DB) OutsideGrant(ctx context.Context, first identity.Grant) (identity.Grant, error) {
	var grant identity.Grant
	who := []any{string(first.Person), string(first.Client)}
	err := db.one(ctx, "find grant", newestGrant, who, grantInto(&grant)...)
	if !errors.Is(err, identity.ErrNotFound) {
		return grant, err
	}
	err = db.write(ctx, "begin grant", func(tx *tx) error {
		// Six requests of one page come at once, and one of them begins it.
		err := tx.one(newestGrant, who, grantInto(&grant)...)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		grant = first
		return tx.addGrant(first)
	})
	return grant, err
}

// AllowAgain lets a client of another issuer in once more that was revoked. A grant of its
// that is in force stays the one.
func (db *DB) AllowAgain(ctx context.Context, again identity.Grant) error {
	return db.write(ctx, "allow again", func(tx *tx) error {
		there, err := tx.there(`SELECT 1 FROM consent WHERE person = $1 AND client = $2 AND revoked = 0 LIMIT 1`, string(again.Person), string(again.Client))
		if err != nil || there {
			return err
		}
		if there, err = tx.there(`SELECT 1 FROM person WHERE id = $1`, string(again.Person)); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("person: %w", identity.ErrNotFound)
		}
		return tx.addGrant(again)
	})
}
