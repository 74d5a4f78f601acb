package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// GivenUpBefore gives transactions up before their commit is asked for: nothing can have
// been written, and the answer must not leave that open.
func GivenUpBefore(t *testing.T, db *DB) {
	for name, undone := range map[string]func(*tx) error{
		"the context is done": func(*tx) error { return nil },
		"the transaction is undone, too": func(tx *tx) error {
			for {
				// Asked with a context of its own: with the one that is done, that would
				// be the answer.
				_, err := tx.inner.ExecContext(context.Background(), "SELECT 1")
				if errors.Is(err, sql.ErrTxDone) {
					return nil
				}
				if t.Context().Err() != nil {
					return errors.New("the transaction is not undone")
				}
			}
		},
	} {
		tries := 0
		ctx, cancel := context.WithCancel(t.Context())
		err := db.write(ctx, "write", func(tx *tx) error {
			tries++
			if _, err := tx.exec(`INSERT INTO once (digest, kind, data, expires) VALUES ($1, 'given up', $1, 1)`, []byte("x")); err != nil {
				return err
			}
			cancel()
			return undone(tx)
		})
		var u *Unavailable
		if !errors.As(err, &u) || u.Unknown || u.Trouble != Slow || !errors.Is(err, context.Canceled) || tries != 1 {
			t.Errorf("%s: %v after %d tries, want one that is given up, and nothing unknown", name, err, tries)
		}
		var rows int
		if err := db.one(t.Context(), "count", `SELECT count(*) FROM once WHERE kind = 'given up'`, nil, &rows); err != nil || rows != 0 {
			t.Errorf("%s: %d rows, %v; want none", name, rows, err)
		}
	}
}

func TestGivenUpBeforeTheCommit(t *testing.T) {
	GivenUpBefore(t, openViews(t, t.TempDir()+"/letterlock.db", ""))
}

// before is an error of pgconn that came before anything was sent.
type before struct{ error }

func (before) SafeToRetry() bool { return true }

func TestUnsent(t *testing.T) {
	for name, c := range map[string]struct {
		err         error
		asked, want bool
	}{
		"before it was asked":            {context.Canceled, false, true},
		"too late to be asked":           {context.DeadlineExceeded, false, true},
		"not a byte went out":            {fmt.Errorf("timeout: %w", before{context.Canceled}), true, true},
		"given up while it was answered": {context.Canceled, true, false},
		"too late while it was answered": {fmt.Errorf("timeout: %w", context.DeadlineExceeded), true, false},
		"cut":                            {io.ErrUnexpectedEOF, true, false},
		"cut without a context's end":    {io.ErrUnexpectedEOF, false, false},
		"the server goes down":           {&pgconn.PgError{Code: "57P01"}, true, false},
	} {
		if got := unsent(c.err, c.asked); got != c.want {
			t.Errorf("%s: unsent %v, want %v", name, got, c.want)
		}
	}
}
