// Package database keeps the nouns of internal/server/identity in SQLite, the default, or
// in PostgreSQL, where several instances of letterlockd share one. It is the only room that
// knows SQL; the capabilities name the few methods each of them needs, and main hands a DB
// to all of them.
//
//	letterlockd --> DB --> writer (one connection) --+--> letterlock.db (WAL) --> view file
//	                  \--> readers ------------------+
//	                  \--> pool of connections ---------> PostgreSQL, CockroachDB, …
//	Dovecot, Postfix (driver = sqlite or pgsql) -------> the view file, or PostgreSQL's views
//
// One SQL text with $1…$n serves both engines. Every method is one transaction, or one
// statement, inside a loop that tries again when the database asks for it, and DB.Together
// makes one of several, such as a change and its line in the audit trail; the isolation
// level is serializable, so that a method means what it says however many instances run.
// Nothing is acknowledged before it is on disk, but for counters and last uses, which a
// power cut may set back.
//
// What is not there is identity.ErrNotFound. Whatever is no answer about the noun itself is
// ErrUnavailable, with the trouble named by [Unavailable].
//
// goose runs the migrations. ORMs and query builders were looked at (sqlc, bun, ent): two
// query sets, or SQL that nobody reads, for queries that fit both engines as they are.
package database

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Options of a database; the zero value is usable.
type Options struct {
	Now    func() time.Time // default: time.Now
	Random io.Reader        // default: crypto/rand
	Log    *slog.Logger     // default: discards
	// ReadOnly neither migrates nor writes: a schema that is not the present one is an
	// error.
	ReadOnly bool
	// Timeout bounds each call whose context ends no sooner. Default: 5 s.
	Timeout time.Duration
	// Conns bounds the connections to PostgreSQL. Default: 16.
	Conns int
	// ViewFile is the SQLite file that Dovecot and Postfix read; empty: none. It holds
	// what the views show and nothing else, so that they need no rights on the database,
	// and lies on the machine of the mail servers whatever the database is.
	ViewFile string
	// ViewCheck has the whole file compared when it is opened; else it is believed to show
	// what it says it does.
	ViewCheck bool
	// ViewMode is the mode of a view file that is made. Default: 0640.
	ViewMode fs.FileMode
}

// A DB is an open database. Its methods may be called from many goroutines.
type DB struct {
	engine engine
	o      Options

	writes *sql.DB // facts: durable when acknowledged
	soft   *sql.DB // counters and last uses
	reads  *sql.DB
	// gate lets one transaction of this process write to SQLite at a time; waiting here
	// ends with the context, which waiting inside SQLite would not. Nil for PostgreSQL.
	gate chan struct{}

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
	views    *viewFile
}

// An engine is what differs between the two databases.
type engine struct {
	name    string // goose's dialect
	words   *strings.Replacer
	options *sql.TxOptions // of a transaction that writes
	reading *sql.TxOptions // of one that reads
}

// Open opens or makes a database and brings its schema up to date. The place is
// "sqlite:PATH", a path, or a "postgres://" URL with the parameters of libpq.
func Open(ctx context.Context, place string, o Options) (*DB, error) {
	o.setDefaults()
	db := &DB{o: o, prepared: map[string]*sql.Stmt{}}
	var err error
	if strings.HasPrefix(place, "postgres://") || strings.HasPrefix(place, "postgresql://") {
		err = db.openPostgres(place)
	} else {
		err = db.openSQLite(strings.TrimPrefix(place, "sqlite:"))
	}
	if err == nil {
		err = db.migrate(ctx)
	}
	if err == nil && o.ViewFile != "" {
		err = db.openViewFile(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	return db, nil
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Conns <= 0 {
		o.Conns = 16
	}
	if o.ViewMode == 0 {
		o.ViewMode = 0o640
	}
}

// Close closes the database after the calls that run have ended.
func (db *DB) Close() error {
	var errs []error
	db.mu.Lock()
	for _, stmt := range db.prepared {
		errs = append(errs, stmt.Close())
	}
	db.prepared = nil
	db.mu.Unlock()
	if db.views != nil {
		errs = append(errs, db.views.close())
	}
	for _, pool := range []*sql.DB{db.reads, db.soft, db.writes} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Generation grows with every change that can take a right away. A cache that finds
// another number than before forgets what it knows: after a failover or a restore the
// number may also be smaller.
func (db *DB) Generation(ctx context.Context) (int64, error) {
	var taken int64
	err := db.one(ctx, "read the generation", `SELECT taken FROM generation WHERE id = 1`, nil, &taken)
	return taken, err
}

// Sweep deletes what ended before a time and could be of no use any more: sessions, codes,
// device requests, tokens, one-time things. Credentials, grants and events stay.
func (db *DB) Sweep(ctx context.Context, before time.Time) error {
	return db.write(ctx, "sweep", func(tx *tx) error {
		for _, table := range []string{"session", "code", "device", "access_token", "refresh_token", "once", "mail_session", "mail_token"} {
			if _, err := tx.exec(`DELETE FROM `+table+` WHERE expires < $1`, micros(before)); err != nil {
				return err
			}
		}
		return nil
	})
}

// micros is how times are kept: exact on both engines.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// The separators of lists that are kept in one column.
const (
	bySpace = " "
	byComma = ","
	byLine  = "\n"
)

// joined writes a list into one column.
func joined[T ~string](list []T, by string) (string, error) {
	texts := make([]string, len(list))
	for i, text := range list {
		if text == "" || strings.Contains(string(text), by) {
			return "", fmt.Errorf("entry %q of a list: %w", text, identity.ErrInvalid)
		}
		texts[i] = string(text)
	}
	return strings.Join(texts, by), nil
}

// split reads such a column; an empty list is nil.
func split[T ~string](text, by string) []T {
	if text == "" {
		return nil
	}
	var list []T
	for part := range strings.SplitSeq(text, by) {
		list = append(list, T(part))
	}
	return list
}
