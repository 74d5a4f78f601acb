package database

import (
	"context"
	"database/sql"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// joining is the key of the transaction that a context belongs to.
type joining struct{ db *DB }

// Together makes one transaction of all that is asked of db with the context that do is
// given: a change and its line in the audit trail, above all. An error of do is returned as
// it is and undoes everything. do may be called more than once, each time after what it
// did before was undone: it must leave nothing behind but its last results, must return
// the errors that db gives it, and keeps other writers waiting while it runs.
func (db *DB) Together(ctx context.Context, do func(ctx context.Context) error) error {
	if db.joined(ctx) != nil {
		return do(ctx)
	}
	var said error
	err := db.write(ctx, "together", func(t *tx) error {
		said = do(context.WithValue(t.ctx, joining{db}, t))
		return said
	})
	if said != nil {
		return said
	}
	return err
}

// joined is the transaction that a context belongs to; nil: none of this database.
func (db *DB) joined(ctx context.Context) *tx {
	t, _ := ctx.Value(joining{db}).(*tx)
	return t
}

// first reads the first row, as QueryRow has it.
func first(rows *sql.Rows, err error, into []any) error {
	found := false
	err = each(rows, err, func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(into...)
	})
	if err == nil && !found {
		return identity.ErrNotFound
	}
	return err
}
