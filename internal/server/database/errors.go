package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// ErrUnavailable is identity.ErrUnavailable: the database could not be asked, or its answer
// did not arrive.
var ErrUnavailable = fmt.Errorf("database: %w", identity.ErrUnavailable)

// ErrNotEmpty: a backup is restored into an empty database only.
var ErrNotEmpty = errors.New("the database is not empty")

// ErrNewer: a newer letterlockd has migrated the database.
var ErrNewer = errors.New("the database belongs to a newer version")

// A Trouble says why a database could not be asked, for logs, metrics and doctor.
type Trouble string

// The troubles that operators act on differently.
const (
	Gone     Trouble = "gone"      // refuses connections, or cut one
	ReadOnly Trouble = "read-only" // a standby, or a file system mounted so
	Full     Trouble = "full"      // no space left
	Slow     Trouble = "slow"      // did not answer in time
	Busy     Trouble = "busy"      // others kept it from us until the time was over
	Broken   Trouble = "broken"    // refused for a reason of its own: rights, damage, a wrong schema
)

// Unavailable is the error behind ErrUnavailable.
type Unavailable struct {
	Op      string
	Trouble Trouble
	// Unknown: the answer to the commit did not come, because the connection broke or the
	// caller would not wait. What was to be written may have been written or not.
	Unknown bool
	Err     error
}

func (u *Unavailable) Error() string {
	if u.Unknown {
		return fmt.Sprintf("%s: database %s, outcome unknown: %v", u.Op, u.Trouble, u.Err)
	}
	return fmt.Sprintf("%s: database %s: %v", u.Op, u.Trouble, u.Err)
}

// Is makes it ErrUnavailable and identity.ErrUnavailable.
func (u *Unavailable) Is(target error) bool {
	return target == ErrUnavailable || target == identity.ErrUnavailable
}

func (u *Unavailable) Unwrap() error { return u.Err }

// explain turns an error of a driver into an answer of a store. What is no answer about a
// noun is "unavailable": a caller must never take a broken database for a no.
func explain(op string, err error) error {
	var unavailable *Unavailable
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unavailable):
		return err
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrExists), errors.Is(err, identity.ErrRevoked),
		errors.Is(err, identity.ErrDecided), errors.Is(err, identity.ErrInvalid), errors.Is(err, ErrNotEmpty), errors.Is(err, ErrNewer),
		errors.Is(err, errBackup):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", op, identity.ErrNotFound)
	case duplicate(err):
		return fmt.Errorf("%s: %w", op, identity.ErrExists)
	}
	return &Unavailable{Op: op, Trouble: trouble(err), Err: err}
}

func duplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505" // unique_violation
	}
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return true
	}
	return false
}

func sqliteCode(err error) int {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code()
	}
	return 0
}

func trouble(err error) Trouble {
	var pg *pgconn.PgError
	var known *Unavailable
	switch {
	case errors.As(err, &known):
		return known.Trouble
	case errors.As(err, &pg):
		return pgTrouble(pg.Code)
	case sqliteCode(err) != 0:
		return sqliteTrouble(sqliteCode(err))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), pgconn.Timeout(err):
		return Slow
	case cut(err):
		return Gone
	}
	return Broken
}

// pgTrouble sorts SQLSTATEs (PostgreSQL manual, appendix A).
func pgTrouble(code string) Trouble {
	switch {
	case code == "25006":
		return ReadOnly
	case code == "53100", code == "53200":
		return Full
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), code == "53300", code == "25P03":
		return Gone
	case code == "57014":
		return Slow
	case strings.HasPrefix(code, "40"), strings.HasPrefix(code, "55"):
		return Busy
	}
	return Broken
}

func sqliteTrouble(code int) Trouble {
	switch code & 0xff { // the low byte is the primary code
	case sqlite3.SQLITE_FULL:
		return Full
	case sqlite3.SQLITE_READONLY:
		return ReadOnly
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return Busy
	case sqlite3.SQLITE_SCHEMA: // a migration outran the statement; it has not run
		return Busy
	case sqlite3.SQLITE_CANTOPEN:
		return Gone
	case sqlite3.SQLITE_INTERRUPT:
		return Slow
	}
	return Broken
}

// cut reports that there was no connection, or that it broke.
func cut(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	var op *net.OpError
	return errors.As(err, &connect) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) || errors.As(err, &op) || errors.As(err, &network)
}

// A chance says whether the same transaction may be tried again.
type chance int

const (
	never     chance = iota
	contended        // others were faster: as often as time allows
	reconnect        // the connection is worth nothing: a few times, on a new one
)

// again judges an error that came before the commit, or from a commit that the database
// itself refused: nothing has been written.
func again(err error) chance {
	var pg *pgconn.PgError
	var unavailable *Unavailable
	switch {
	case errors.As(err, &unavailable) && unavailable.Unknown:
		return never
	case errors.As(err, &pg):
		switch {
		case pg.Code == "40001", pg.Code == "40P01":
			return contended
		case pg.Code == "55P03":
			return contended // the server's lock_timeout is shorter than our own
		case pg.Code == "25006", strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57P"):
			return reconnect // a new connection may find the server that writes now
		case pg.Code == "25P03":
			return reconnect // ended by the server's idle_in_transaction_session_timeout, with the transaction
		case pg.Code == "0A000", pg.Code == "26000":
			return reconnect // a statement prepared before a migration
		}
		return never
	case sqliteCode(err) != 0:
		if t := sqliteTrouble(sqliteCode(err)); t == Busy {
			return contended
		}
		return never
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return never
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return contended
	case cut(err):
		return reconnect
	}
	return never
}

// answered reports that the database itself said no to a commit, so that nothing was
// written; any other error of a commit leaves the outcome unknown.
func answered(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// A server that goes down may have written the commit before it said so.
		return !strings.HasPrefix(pg.Code, "57P") && !strings.HasPrefix(pg.Code, "08")
	}
	return sqliteCode(err) != 0 || errors.Is(err, pgx.ErrTxCommitRollback)
}
