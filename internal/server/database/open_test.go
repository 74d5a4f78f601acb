package database_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// raw opens a SQLite file beside the DB, as another process would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(60000)")
	must(t, err)
	t.Cleanup(func() { pool.Close() })
	return pool
}

// Another process holds SQLite's only pen: callers wait as long as their context, no
// longer, and hear "later".
func TestSQLiteDeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letterlock.db")
	o := patient()
	o.Timeout = time.Hour
	db := open(t, path, o)
	must(t, db.AddPerson(t.Context(), person("ann")))
	pen, err := raw(t, path).BeginTx(t.Context(), nil)
	must(t, err)
	for what, call := range map[string]func(context.Context) error{
		"DisablePerson": func(ctx context.Context) error { return db.DisablePerson(ctx, "ann", at(1), "") },
		"Count":         func(ctx context.Context) error { _, err := db.Count(ctx, "k", at(1), 1); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		cancel()
		var u *database.Unavailable
		if !errors.As(err, &u) || u.Trouble != database.Busy && u.Trouble != database.Slow {
			t.Errorf("%s: %v, want busy", what, err)
		}
		// The option's hour would mean that the context was not heard.
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("%s took %v", what, took)
		}
	}
	if _, err := db.Person(t.Context(), "ann"); err != nil {
		t.Errorf("reading while another writes: %v", err)
	}
	done := make(chan error)
	go func() { done <- db.DisablePerson(context.Background(), "ann", at(1), "") }()
	must(t, pen.Rollback())
	must(t, <-done)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "letterlock.db")
	must(t, open(t, good, patient()).AddPerson(t.Context(), person("ann")))
	newer := filepath.Join(dir, "newer.db")
	must(t, open(t, newer, patient()).Close())
	_, err := raw(t, newer).ExecContext(t.Context(), `INSERT INTO letterlock_schema (version_id, is_applied) VALUES (9999, 1)`)
	must(t, err)
	text := filepath.Join(dir, "text.db")
	must(t, os.WriteFile(text, []byte(strings.Repeat("no database\n", 1000)), 0o600))
	for what, c := range map[string]struct {
		place string
		o     database.Options
		want  error
	}{
		"a newer schema":         {newer, database.Options{}, database.ErrNewer},
		"no folder":              {filepath.Join(dir, "none", "a.db"), database.Options{}, database.ErrUnavailable},
		"another kind of file":   {text, database.Options{}, database.ErrUnavailable},
		"nothing, only to read":  {filepath.Join(dir, "none.db"), database.Options{ReadOnly: true}, database.ErrUnavailable},
		"nobody at the address":  {"postgres://u:hunter2@127.0.0.1:1/d", database.Options{}, database.ErrUnavailable},
		"a URL of another thing": {"mysql://u:hunter2@127.0.0.1/d", database.Options{}, nil},
		"a broken URL":           {"postgres://u:hunter2@[::1/d", database.Options{}, nil},
		"memory":                 {":memory:", database.Options{}, nil},
		"no place":               {"", database.Options{}, nil},
	} {
		db, err := database.Open(t.Context(), c.place, c.o)
		if err == nil || db != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none.db")); !os.IsNotExist(err) {
		t.Errorf("reading made a file: %v", err)
	}

	o := patient()
	o.ReadOnly = true
	reader := open(t, "sqlite:"+good, o)
	if found, err := reader.Person(t.Context(), "ann"); err != nil || found.ID != "ann" {
		t.Errorf("read only: %+v, %v", found, err)
	}
	for what, err := range map[string]error{
		"a fact":    reader.AddPerson(t.Context(), person("bob")),
		"a use":     reader.Used(t.Context(), []identity.Use{{Credential: "1", At: at(1)}}),
		"a restore": reader.Restore(t.Context(), strings.NewReader("")),
	} {
		var u *database.Unavailable
		if !errors.As(err, &u) || u.Trouble != database.ReadOnly {
			t.Errorf("%s, only to read: %v", what, err)
		}
	}
}

// The database holds hashes and names: nobody else on the machine reads it.
func TestSQLiteModes(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "letterlock.db"), patient())
	must(t, db.AddPerson(t.Context(), person("ann")))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	if len(files) != 3 {
		t.Fatalf("files %v, want the database, -wal and -shm", files)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(file), info.Mode())
		}
	}
}
