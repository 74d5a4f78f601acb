package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// newestGrant is the one in force, of which there is one at most, whatever the clocks of the
// instances said that wrote them: by their time alone one that was allowed again would stay
// behind the revoked one, and could not be allowed again either.
const newestGrant = `SELECT ` + grantColumns + ` FROM consent g WHERE g.person = $1 AND g.client = $2
	ORDER BY CASE WHEN g.revoked = 0 THEN 0 ELSE 1 END, g.created DESC, g.id LIMIT 1`

// OutsideGrant finds by which grant a client of another issuer acts for a person: the one in
// force, or the newest that was revoked. Where there never was any, the given one begins.
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
