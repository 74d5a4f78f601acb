package database

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A tx is one transaction, or one snapshot that is only read.
type tx struct {
	ctx   context.Context
	inner *sql.Tx
	// A right has ended; something that views show has changed, under names that are not
	// known, or under these. Counted by one statement just before the commit, because that
	// row is the one all writers share.
	ended, shown bool
	names        map[string]bool
	clashed      bool             // with a key that is there already
	noted        int              // lines of the audit trail so far
	last         []identity.Event // lines that come after all others
}

// exec runs a statement and returns how many rows it met.
func (t *tx) exec(text string, args ...any) (int64, error) {
	if !sound(args) {
		return 0, fmt.Errorf("text that is not UTF-8 or holds NUL: %w", identity.ErrInvalid)
	}
	result, err := t.inner.ExecContext(t.ctx, text, args...)
	if err != nil {
		t.clashed = t.clashed || duplicate(err)
		return 0, err
	}
	return result.RowsAffected()
}

// must is exec for a statement that has to meet at least one row.
func (t *tx) must(text string, args ...any) error {
	n, err := t.exec(text, args...)
	if err == nil && n == 0 {
		return identity.ErrNotFound
	}
	return err
}

// one reads one row.
func (t *tx) one(text string, args []any, into ...any) error {
	if !sound(args) {
		return identity.ErrNotFound // nothing like it can have been kept
	}
	return t.inner.QueryRowContext(t.ctx, text, args...).Scan(into...)
}

// returning is one for a statement that writes.
func (t *tx) returning(text string, args []any, into ...any) error {
	if !sound(args) {
		return fmt.Errorf("text that is not UTF-8 or holds NUL: %w", identity.ErrInvalid)
	}
	return t.one(text, args, into...)
}

// there reports whether a query finds a row.
func (t *tx) there(text string, args ...any) (bool, error) {
	var found int
	err := t.one(text, args, &found)
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, identity.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// all calls row for each row; it scans into variables of its own.
func (t *tx) all(text string, args []any, row func(scan func(...any) error) error) error {
	if !sound(args) {
		return nil
	}
	rows, err := t.inner.QueryContext(t.ctx, text, args...)
	return each(rows, err, row)
}

func each(rows *sql.Rows, err error, row func(scan func(...any) error) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// gather takes the values of a query for one column.
func gather[T any](into *[]T) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var value T
		err := scan(&value)
		*into = append(*into, value)
		return err
	}
}

// sound reports whether both engines can keep the texts: PostgreSQL takes neither NUL nor
// bytes that are not UTF-8, and answers with an error that would look like an outage.
func sound(args []any) bool {
	for _, arg := range args {
		if text, ok := arg.(string); ok && (strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text)) {
			return false
		}
	}
	return true
}

// write runs a transaction whose commit is durable.
func (db *DB) write(ctx context.Context, op string, do func(*tx) error) error {
	if db.o.ReadOnly {
		return &Unavailable{Op: op, Trouble: ReadOnly, Err: errors.New("opened for reading only")}
	}
	if t := db.joined(ctx); t != nil {
		return explain(op, do(t))
	}
	shown, clashed := false, false
	once := func(ctx context.Context) error {
		return db.attempt(ctx, db.writes, db.engine.options, true, func(t *tx) error {
			defer func() { shown, clashed = t.shows(), t.clashed }()
			if err := do(t); err != nil {
				return err
			}
			for _, e := range t.last {
				if err := t.next(e); err != nil {
					return err
				}
			}
			return db.count(t)
		})
	}
	doubted := false
	err := db.repeat(ctx, op, func(ctx context.Context) error {
		err := once(ctx)
		if err == nil || !clashed || doubted || db.engine.name != postgres {
			return err
		}
		// PostgreSQL tells of a key that somebody has committed since our snapshot by 23505,
		// though by the snapshot do had looked in vain: now it sees what is there.
		doubted = true
		return once(ctx)
	})
	if err == nil && shown {
		db.syncViews(ctx)
	}
	return err
}

// softly runs one statement that a power cut may undo.
func (db *DB) softly(ctx context.Context, op string, do func(*tx) error) error {
	if db.o.ReadOnly {
		return &Unavailable{Op: op, Trouble: ReadOnly, Err: errors.New("opened for reading only")}
	}
	if t := db.joined(ctx); t != nil {
		return explain(op, do(t))
	}
	return db.repeat(ctx, op, func(ctx context.Context) error {
		return db.attempt(ctx, db.soft, nil, true, do)
	})
}

// snapshot runs queries that see the database at one moment.
func (db *DB) snapshot(ctx context.Context, op string, do func(*tx) error) error {
	if t := db.joined(ctx); t != nil {
		return explain(op, do(t))
	}
	return db.repeat(ctx, op, func(ctx context.Context) error {
		return db.attempt(ctx, db.reads, db.engine.reading, false, do)
	})
}

// one reads one row without a transaction.
func (db *DB) one(ctx context.Context, op, text string, args []any, into ...any) error {
	if !sound(args) {
		return fmt.Errorf("%s: %w", op, identity.ErrNotFound)
	}
	if t := db.joined(ctx); t != nil {
		rows, err := t.inner.QueryContext(t.ctx, text, args...)
		return explain(op, first(rows, err, into))
	}
	return db.repeat(ctx, op, func(ctx context.Context) error {
		rows, err := db.query(ctx, text, args)
		return first(rows, err, into)
	})
}

// list reads rows without a transaction. When it is tried again, start makes the caller
// forget the rows of the try before.
func (db *DB) list(ctx context.Context, op, text string, args []any, start func(), row func(scan func(...any) error) error) error {
	if !sound(args) {
		return nil
	}
	if t := db.joined(ctx); t != nil {
		start()
		return explain(op, t.all(text, args, row))
	}
	return db.repeat(ctx, op, func(ctx context.Context) error {
		start()
		rows, err := db.query(ctx, text, args)
		return each(rows, err, row)
	})
}

// query runs a prepared statement: SQLite would parse the text again each time. pgx keeps
// prepared statements by itself.
func (db *DB) query(ctx context.Context, text string, args []any) (*sql.Rows, error) {
	if db.gate == nil {
		return db.reads.QueryContext(ctx, text, args...)
	}
	stmt, err := db.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// statement keeps each text that reads outside of transactions prepared; they are
// constants of this package, a few dozen.
func (db *DB) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.prepared == nil {
		return nil, sql.ErrConnDone // closed
	}
	if stmt := db.prepared[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := db.reads.PrepareContext(ctx, text)
	if err == nil {
		db.prepared[text] = stmt
	}
	return stmt, err
}

// How often a transaction is tried again on a new connection, and how long it waits.
const (
	reconnects = 3
	firstPause = time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// repeat is the loop around everything: it ends with success, with an answer, or when
// trying again is of no use.
func (db *DB) repeat(ctx context.Context, op string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.o.Timeout)
	defer cancel()
	lost := 0
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		switch again(err) {
		case contended:
		case reconnect:
			if lost++; lost > reconnects+db.staleConns(err) {
				return explain(op, err)
			}
		case never:
			return explain(op, err)
		}
		// Full jitter keeps a crowd from meeting again.
		timer := time.NewTimer(rand.N(pause) + pause/8)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return explain(op, err)
		}
	}
}

// staleConns: after a failover every pooled connection may lead to the server that is
// only read now, and each is found out by one failed try.
func (db *DB) staleConns(err error) int {
	if trouble(err) == ReadOnly && db.engine.name == postgres {
		return db.writes.Stats().OpenConnections
	}
	return 0
}

// attempt runs one transaction once, on one connection that is thrown away when it has
// proved useless.
func (db *DB) attempt(ctx context.Context, pool *sql.DB, options *sql.TxOptions, writes bool, do func(*tx) error) (err error) {
	if writes && db.gate != nil {
		select {
		case db.gate <- struct{}{}:
			defer func() { <-db.gate }()
		case <-ctx.Done():
			return &Unavailable{Op: "wait for the writer", Trouble: Busy, Err: ctx.Err()}
		}
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	// Given back after a panic too, which a web server survives: the one connection that
	// writes to SQLite would be gone for good.
	defer func() { err = errors.Join(err, ignoreDone(conn.Close())) }()
	err = db.run(ctx, conn, options, do)
	if err != nil && again(err) == reconnect {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // closes it
	}
	return err
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

func (db *DB) run(ctx context.Context, conn *sql.Conn, options *sql.TxOptions, do func(*tx) error) error {
	asked := false
	inner, err := conn.BeginTx(context.WithValue(ctx, commitKey{}, &asked), options)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "0A000" {
		// How a hot standby refuses a serializable transaction.
		return &Unavailable{Op: "begin", Trouble: ReadOnly, Err: err}
	}
	if err != nil {
		return err
	}
	// The error of the statement is the one that counts. A rollback that fails has lost its
	// connection, and the transaction with it; after a commit it does nothing.
	defer inner.Rollback()
	if err := do(&tx{ctx: ctx, inner: inner}); err != nil {
		return err
	}
	err = inner.Commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrTxDone):
		return cmp.Or(ctx.Err(), err) // undone, because the context is done
	case unsent(err, asked), answered(err):
		return err
	}
	return &Unavailable{Op: "commit", Trouble: trouble(err), Unknown: true, Err: err}
}

// unsent reports that a commit failed before a word of it went out, so that nothing was
// written: database/sql looks at the context before it asks the driver, and the driver once
// more. The same error from later on says that the caller would not wait for the answer.
func unsent(err error, asked bool) bool {
	return !asked && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) || pgconn.SafeToRetry(err)
}

// commitKey is the key of a *bool, in the context of a transaction, that becomes true when
// the driver is asked to commit.
type commitKey struct{}

// A commitTracer is told by pgx of each statement.
type commitTracer struct{}

func (commitTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if data.SQL == "commit" {
		if asked, ok := ctx.Value(commitKey{}).(*bool); ok {
			*asked = true
		}
	}
	return ctx
}

func (commitTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
