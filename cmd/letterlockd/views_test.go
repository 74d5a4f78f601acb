package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// A sentinel closes seen once a word was written.
type sentinel struct {
	word string
	seen chan struct{}
	all  []byte
}

func (s *sentinel) Write(p []byte) (int, error) {
	before := bytes.Contains(s.all, []byte(s.word))
	s.all = append(s.all, p...)
	if !before && bytes.Contains(s.all, []byte(s.word)) {
		close(s.seen)
	}
	return len(p), nil
}

// The daemon makes the view file; commands follow it, whether the daemon runs or not, and
// make none themselves: it would belong to whoever ran the command.
func TestViewFileOfServeAndCommands(t *testing.T) {
	dir := t.TempDir()
	conf, views := filepath.Join(dir, "letterlockd.toml"), filepath.Join(dir, "mail.db")
	text := fmt.Sprintf("domains = [\"try.test\"]\n[database]\nurl = \"sqlite:%s/letterlockd.db\"\nview_file = %q\n", dir, views)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (cli.Code, string) {
		var said bytes.Buffer
		p := &program{args: append([]string{"letterlockd", "--config", conf}, args...), random: rand.Reader, getenv: func(string) string { return "" }, now: time.Now,
			term: &cli.Terminal{In: strings.NewReader(""), Out: &said, Err: &said}}
		return p.run(t.Context()), said.String()
	}
	must := func(args ...string) {
		t.Helper()
		if code, said := run(args...); code != 0 {
			t.Fatalf("%v: %d %s", args, code, said)
		}
	}
	must("person", "add", "ann@try.test")
	must("credential", "make", "ann@try.test", "--label", "phone")
	if _, err := os.Stat(views); err == nil {
		t.Error("a command made the view file")
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready := &sentinel{word: "msg=ready", seen: make(chan struct{})}
	p := &program{args: []string{"letterlockd", "--config", conf, "serve"}, random: rand.Reader, getenv: func(string) string { return "" }, now: time.Now,
		term: &cli.Terminal{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: ready}}
	ended := make(chan cli.Code, 1)
	go func() { ended <- p.run(ctx) }()
	select {
	case <-ready.seen:
	case code := <-ended:
		t.Fatalf("serve ended with %d: %s", code, ready.all)
	}

	logins := func() (n int) {
		t.Helper()
		pool, err := sql.Open("sqlite", "file:"+views+"?mode=ro&_pragma=busy_timeout(60000)")
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := pool.QueryRowContext(t.Context(), `SELECT count(*) FROM dovecot_passdb WHERE login = 'ann+phone@try.test' AND service = 'imap'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := logins(); n != 1 {
		t.Errorf("%d logins in the file of the daemon", n)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("serve ended with %d: %s", code, ready.all)
	}
	must("credential", "revoke", "ann@try.test", "phone")
	if n := logins(); n != 0 {
		t.Error("revoked while the daemon was down, and the mail servers still take it")
	}
	if code, said := run("migrate", "--dovecot-role", "dovecot"); code == 0 || !strings.Contains(said, "view_file") {
		t.Errorf("SQLite has no roles: %d %s", code, said)
	}
}
