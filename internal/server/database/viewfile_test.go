package database_test

import (
	"crypto/rand"
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

// reader is how Dovecot has the file open: for years, and for reading only.
func reader(t *testing.T, path string) func(query string, args ...any) string {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() { pool.Close() })
	return func(query string, args ...any) string { return readRows(t, pool, query, args) }
}

func readRows(t *testing.T, pool *sql.DB, query string, args []any) string {
	t.Helper()
	rows, err := pool.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		texts := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		fields := make([]string, len(texts))
		for i, text := range texts {
			fields[i] = text.String
		}
		lines = append(lines, strings.Join(fields, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestViewFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.db")
	o := patient()
	o.ViewFile = path
	db := open(t, filepath.Join(dir, "letterlock.db"), o)
	ctx := t.Context()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("view file: %v, %v", info, err)
	}
	ask := reader(t, path)
	login := func() string {
		return ask(`SELECT username, password FROM dovecot_passdb WHERE login = $1 AND service = 'imap'`, "ann+phone@example.org")
	}
	must(t, db.AddPerson(ctx, person("ann")))
	if login() != "" {
		t.Error("a login before there is a credential")
	}
	must(t, db.AddCredential(ctx, credential("1", "ann", "phone")))
	const in = "ann@example.org|{ARGON2ID}$argon2id$1"
	if got := login(); got != in {
		t.Errorf("login: %q", got)
	}
	must(t, db.DisablePerson(ctx, "ann", at(1), ""))
	if login() != "" || ask(`SELECT * FROM postfix_recipient`) != "" {
		t.Error("a disabled person is still there")
	}
	must(t, db.EnablePerson(ctx, "ann"))
	if login() != in {
		t.Error("an enabled person is not")
	}

	// Another process changes the database: what letterlockd's commands do.
	other := open(t, filepath.Join(dir, "letterlock.db"), patient())
	must(t, other.RevokeCredential(ctx, "1", at(2), ""))
	must(t, db.SyncViews(ctx))
	if login() != "" {
		t.Error("a revocation by another process did not arrive")
	}

	// What runs out does so while nobody writes.
	short := credential("2", "ann", "phone")
	short.Expires = time.Now().Add(-time.Second)
	must(t, db.AddCredential(ctx, short))
	if login() != "" {
		t.Error("an expired credential logs in")
	}
	if got := ask(`SELECT count(*) FROM mail_login`); got == "0" {
		t.Error("the file does not know the expired credential: the check above proves nothing")
	}
	// No -wal or -shm beside it, and nothing of the database inside.
	if left, _ := filepath.Glob(path + "-*"); len(left) != 0 {
		t.Errorf("files beside the view file: %v", left)
	}
	if got := ask(`SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_master WHERE type <> 'index' ORDER BY name)`); got !=
		"dovecot_passdb dovecot_userdb mail_login postfix_alias postfix_recipient postfix_sender_login shown shown_mark" {
		t.Errorf("in the file: %s", got)
	}
}

// Dovecot reads in the middle of a change: it sees the state before or the one after.
func TestViewFileChangesAtOnce(t *testing.T) {
	dir := t.TempDir()
	o := patient()
	o.ViewFile = filepath.Join(dir, "mail.db")
	db := open(t, filepath.Join(dir, "letterlock.db"), o)
	must(t, db.AddPerson(t.Context(), person("ann")))
	ask := reader(t, o.ViewFile)
	done := make(chan error)
	go func() {
		for i := range 30 {
			name := []string{"ann@example.org", "anna@example.org"}[i%2]
			if err := db.UpdatePerson(t.Context(), identity.Person{ID: "ann", Address: name}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			must(t, err)
			return
		default:
			got := ask(`SELECT r.address, a.target FROM postfix_recipient r JOIN postfix_alias a ON a.address = r.address`)
			if got != "ann@example.org|ann@example.org" && got != "anna@example.org|anna@example.org" {
				t.Errorf("half a change is seen: %q", got)
			}
		}
	}
}

func TestViewFileRefused(t *testing.T) {
	dir := t.TempDir()
	for what, file := range map[string]string{"no folder": filepath.Join(dir, "none", "mail.db"), "a folder": dir} {
		db, err := database.Open(t.Context(), filepath.Join(dir, "letterlock.db"), database.Options{ViewFile: file})
		if err == nil {
			t.Errorf("%s: opened", what)
			must(t, db.Close())
		}
	}
}

// A database that was put back to an earlier state counts anew, and its number may be
// smaller than the one in the file: the file follows all the same.
func TestViewFileFollowsARestore(t *testing.T) {
	dir := t.TempDir()
	o := patient()
	o.ViewFile = filepath.Join(dir, "mail.db")
	db := open(t, filepath.Join(dir, "letterlock.db"), o)
	for _, name := range []string{"ann", "bob", "cora", "dan"} {
		must(t, db.AddPerson(t.Context(), person(name)))
	}
	must(t, db.Close())
	other := open(t, filepath.Join(dir, "restored.db"), o)
	must(t, other.AddPerson(t.Context(), person("ann")))
	must(t, other.DisablePerson(t.Context(), "ann", time.Now(), "left"))
	must(t, other.SyncViews(t.Context()))
	if got := reader(t, o.ViewFile)(`SELECT address FROM postfix_recipient`); got != "" {
		t.Errorf("the file still shows %q", got)
	}
}

// Who opens the file anew, as each command does, leaves its schema alone: a change, even to
// the same, fails the next question of every Dovecot process that has asked before.
func TestViewFileKeepsItsSchema(t *testing.T) {
	dir := t.TempDir()
	o := patient()
	o.ViewFile = filepath.Join(dir, "mail.db")
	place := filepath.Join(dir, "letterlock.db")
	open(t, place, o)
	look := reader(t, o.ViewFile)
	before := look("PRAGMA schema_version")
	for range 3 {
		must(t, open(t, place, o).AddPerson(t.Context(), identity.Person{ID: identity.PersonID(rand.Text()), Address: strings.ToLower(rand.Text()) + "@example.org"}))
	}
	if after := look("PRAGMA schema_version"); after != before {
		t.Errorf("the schema is number %s, and was %s", after, before)
	}
	// Another version's view is replaced all the same.
	other, err := sql.Open("sqlite", "file:"+o.ViewFile)
	must(t, err)
	_, err = other.ExecContext(t.Context(), `DROP VIEW dovecot_passdb; CREATE VIEW dovecot_passdb AS SELECT 1 AS login`)
	must(t, errors.Join(err, other.Close()))
	open(t, place, o)
	if got := look("SELECT count(*) FROM dovecot_passdb WHERE service = 'imap'"); got != "0" {
		t.Errorf("an old view stays: %s", got)
	}
}
