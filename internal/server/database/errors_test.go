package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func state(code string) error { return fmt.Errorf("exec: %w", &pgconn.PgError{Code: code}) }

// Only an answer about the noun is an answer: every other error is "later".
func TestErrorsAreSorted(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		want    error // what explain makes of it
		trouble Trouble
		again   chance
	}{
		"no row":                   {sql.ErrNoRows, identity.ErrNotFound, "", never},
		"unique violation":         {state("23505"), identity.ErrExists, "", never},
		"revoked":                  {identity.ErrRevoked, identity.ErrRevoked, "", never},
		"serialization failure":    {state("40001"), ErrUnavailable, Busy, contended},
		"deadlock":                 {state("40P01"), ErrUnavailable, Busy, contended},
		"lock timeout":             {state("55P03"), ErrUnavailable, Busy, contended},
		"idle in transaction":      {state("25P03"), ErrUnavailable, Gone, reconnect},
		"rolled back at commit":    {pgx.ErrTxCommitRollback, ErrUnavailable, Broken, contended},
		"admin shutdown":           {state("57P01"), ErrUnavailable, Gone, reconnect},
		"starting up":              {state("57P03"), ErrUnavailable, Gone, reconnect},
		"connection failure":       {state("08006"), ErrUnavailable, Gone, reconnect},
		"read-only transaction":    {state("25006"), ErrUnavailable, ReadOnly, reconnect},
		"disk full":                {state("53100"), ErrUnavailable, Full, never},
		"too many connections":     {state("53300"), ErrUnavailable, Gone, never},
		"statement timeout":        {state("57014"), ErrUnavailable, Slow, never},
		"no rights":                {state("42501"), ErrUnavailable, Broken, never},
		"wrong password":           {state("28P01"), ErrUnavailable, Broken, never},
		"old prepared statement":   {state("0A000"), ErrUnavailable, Broken, reconnect},
		"refused":                  {&net.OpError{Op: "dial", Err: errors.New("refused")}, ErrUnavailable, Gone, reconnect},
		"cut":                      {io.ErrUnexpectedEOF, ErrUnavailable, Gone, reconnect},
		"bad connection":           {driver.ErrBadConn, ErrUnavailable, Gone, reconnect},
		"deadline":                 {context.DeadlineExceeded, ErrUnavailable, Slow, never},
		"given up":                 {context.Canceled, ErrUnavailable, Slow, never},
		"what nobody thought of":   {errors.New("surprise"), ErrUnavailable, Broken, never},
		"a driver's error in Join": {errors.Join(state("40001"), errors.New("close")), ErrUnavailable, Busy, contended},
	} {
		err := explain("op", c.err)
		if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "op: ") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want != ErrUnavailable && errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("%s: an answer looks like an outage", name)
		}
		if c.trouble != "" && trouble(c.err) != c.trouble {
			t.Errorf("%s: trouble %s, want %s", name, trouble(c.err), c.trouble)
		}
		if again(c.err) != c.again {
			t.Errorf("%s: tried again %v, want %v", name, again(c.err), c.again)
		}
	}
}

// TestSchemaOutruns asks for a table that is not there while another process makes and drops
// one, until SQLite gives up comparing schemas. That is no answer: the first instances of a
// new database meet it when they start at once.
func TestSchemaOutruns(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "letterlock.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var other sync.WaitGroup
	other.Go(func() {
		for ctx.Err() == nil {
			if _, err := db.soft.Exec(`CREATE TABLE brief (a); DROP TABLE brief`); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer other.Wait()
	defer cancel()
	for range 1_000_000 {
		_, err := db.reads.Exec(`SELECT a FROM missing`)
		switch {
		case sqliteCode(err) == sqlite3.SQLITE_ERROR: // no such table: an answer
		case sqliteCode(err) != sqlite3.SQLITE_SCHEMA:
			t.Fatalf("%v: neither a missing table nor a schema that changed", err)
		case again(err) != contended || trouble(err) != Busy:
			t.Fatalf("%v: tried again %v, trouble %s", err, again(err), trouble(err))
		default:
			return
		}
	}
	t.Error("no statement was outrun")
}

// A commit whose outcome is unknown is never tried again: a code would look used by
// somebody else, and its tokens be revoked.
func TestUnknownOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		answered bool
	}{
		"refused by the server": {state("40001"), true},
		"rolled back":           {pgx.ErrTxCommitRollback, true},
		"server shuts down":     {state("57P01"), false},
		"cut":                   {io.ErrUnexpectedEOF, false},
	} {
		if answered(c.err) != c.answered {
			t.Errorf("%s: answered %v, want %v", name, !c.answered, c.answered)
		}
	}
	unknown := &Unavailable{Op: "commit", Trouble: Gone, Unknown: true, Err: io.ErrUnexpectedEOF}
	if !errors.Is(unknown, ErrUnavailable) || !strings.Contains(unknown.Error(), "unknown") {
		t.Errorf("got %v", unknown)
	}
	tries := 0
	db := &DB{}
	db.o.setDefaults()
	if err := db.repeat(t.Context(), "op", func(context.Context) error { tries++; return unknown }); !errors.Is(err, ErrUnavailable) || tries != 1 {
		t.Errorf("%v after %d tries, want one", err, tries)
	}
}

// The authors of modernc.org/sqlite want modernc.org/libc at the version it was made
// with; another module can raise it unseen, as goose v3.29.0 does.
func TestLibcIsTheOneOfSQLite(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "graph").Output()
	if err != nil {
		t.Fatal(err)
	}
	selected, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Path}}@{{.Version}}", "modernc.org/sqlite", "modernc.org/libc").Output()
	if err != nil {
		t.Fatal(err)
	}
	if line := strings.Join(strings.Fields(string(selected)), " "); !strings.Contains(string(out), line+"\n") {
		t.Errorf("go mod graph lacks %q: libc is not at the version of SQLite's go.mod", line)
	}
}
