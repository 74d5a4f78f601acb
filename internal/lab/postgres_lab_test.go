//go:build lab && unix

package lab_test

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// The faults must be real ones: what was written survives a kill, a hung server takes
// connections and answers none, a standby refuses to write until it is promoted.
func TestPostgres(t *testing.T) {
	ctx := within(t)
	p := lab.RunPostgres(t, lab.PostgresOptions{Settings: []string{"wal_level = replica"}})
	ask := func(server *lab.Postgres, text, want string) {
		t.Helper()
		if got, err := server.SQL(ctx, "postgres", text); err != nil || got != want {
			t.Fatalf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	ask(p, "CREATE TABLE kept AS SELECT 1 AS n", "")
	p.Kill()
	if _, err := p.SQL(ctx, "postgres", "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	if err := p.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	ask(p, "SELECT n FROM kept", "1")
	if err := p.Restart(ctx); err != nil {
		t.Fatal(err)
	}

	standby := p.RunStandby(t)
	ask(standby, "SELECT n FROM kept", "1")
	if _, err := standby.SQL(ctx, "postgres", "DELETE FROM kept"); err == nil {
		t.Error("a standby writes")
	}

	p.Hang()
	conn, err := net.Dial("tcp", "127.0.0.1:"+itoa(p.Port))
	if err != nil {
		t.Fatalf("a hung server does not take connections: %v", err)
	}
	defer conn.Close()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if out, err := p.SQL(short, "postgres", "SELECT 1"); err == nil {
		t.Errorf("a hung server answers %q", out)
	}
	p.Continue()
	ask(p, "SELECT n FROM kept", "1")

	p.Halt()
	if _, err := net.Dial("tcp", "127.0.0.1:"+itoa(p.Port)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a halted server: %v", err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	ask(standby, "DELETE FROM kept", "")
	p.Stop()
	p.Stop()
	if _, err := os.Stat(p.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
}
