//go:build lab

package database_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// unavailable wants an outage of one kind, never an answer.
func unavailable(t *testing.T, what string, err error, trouble database.Trouble) {
	t.Helper()
	var u *database.Unavailable
	if !errors.Is(err, database.ErrUnavailable) || !errors.Is(err, identity.ErrUnavailable) || errors.Is(err, identity.ErrNotFound) ||
		!errors.As(err, &u) || u.Trouble != trouble {
		t.Errorf("%s: got %v, want it unavailable: %s", what, err, trouble)
	}
}

// reads and writes of the kinds that mail logins need.
func calls(db *database.DB) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"CredentialBySelector": func(ctx context.Context) error { _, _, err := db.CredentialBySelector(ctx, "sel1"); return err },
		"AccessToken":          func(ctx context.Context) error { _, _, err := db.AccessToken(ctx, identity.DigestOf("a")); return err },
		"Generation":           func(ctx context.Context) error { _, err := db.Generation(ctx); return err },
		"Addresses":            func(ctx context.Context) error { _, err := db.Addresses(ctx, "", 1); return err },
		"Count":                func(ctx context.Context) error { _, err := db.Count(ctx, "k", at(0), 1); return err },
		"RevokeCredential":     func(ctx context.Context) error { return db.RevokeCredential(ctx, "1", at(1), "") },
	}
}

func filledPostgres(t *testing.T, p *lab.Postgres) (*database.DB, string) {
	t.Helper()
	place := newPlace(t, p)
	db := open(t, place, patient())
	fill(t, db)
	return db, place
}

func TestPostgresStops(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	db, _ := filledPostgres(t, p)
	p.Halt()
	for what, call := range calls(db) {
		unavailable(t, what, call(t.Context()), database.Gone)
	}
	if _, err := database.Open(t.Context(), p.URL("postgres", "d1"), database.Options{}); !errors.Is(err, database.ErrUnavailable) {
		t.Errorf("Open: %v, want it unavailable", err)
	}
	must(t, p.Resume(within(t)))
	for what, call := range calls(db) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s after the restart: %v", what, err)
		}
	}
}

func TestPostgresHangs(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	_, place := filledPostgres(t, p)
	o := patient()
	o.Timeout = time.Hour
	db := open(t, place, o)
	p.Hang()
	for what, call := range calls(db) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		cancel()
		unavailable(t, what, err, database.Slow)
		// A call that overlooked its deadline would end with the option's hour.
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("%s took %v for a deadline of 0.3 s", what, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	unavailable(t, "a call given up", calls(db)["Generation"](ctx), database.Slow)
	p.Continue()
	for what, call := range calls(db) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s after it went on: %v", what, err)
		}
	}
}

// load writes from several goroutines until it is told to stop, and returns what was
// acknowledged. Nothing but an outage may come as an error.
func load(t *testing.T, db *database.DB) (stop func() (events []string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var acknowledged []string
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", worker, n)
				err := db.AddEvent(context.Background(), identity.Event{ID: id, At: at(n), Kind: "load"})
				switch {
				case err == nil:
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
				case !errors.Is(err, database.ErrUnavailable):
					t.Errorf("event %s: %v", id, err)
				}
			}
		})
	}
	t.Cleanup(cancel)
	return func() []string {
		cancel()
		group.Wait()
		return acknowledged
	}
}

// grows waits until the load has written twenty more than there were at first.
func grows(t *testing.T, db *database.DB) {
	t.Helper()
	ctx := within(t)
	for before := -1; ctx.Err() == nil; {
		events, err := db.Events(ctx, identity.EventFilter{Kind: "load", Limit: 1 << 20})
		switch n := len(events); {
		case errors.Is(err, database.ErrUnavailable): // says nothing about the load
		case err != nil:
			t.Fatal(err)
		case before < 0:
			before = n
		case n >= before+20:
			return
		}
	}
	t.Fatal("the load does not go on")
}

func allThere(t *testing.T, db *database.DB, acknowledged []string) {
	t.Helper()
	events, err := db.Events(within(t), identity.EventFilter{Kind: "load", Limit: 1 << 20})
	must(t, err)
	there := map[string]bool{}
	for _, e := range events {
		there[e.ID] = true
	}
	for _, id := range acknowledged {
		if !there[id] {
			t.Errorf("event %s was acknowledged and is lost", id)
		}
	}
	if len(acknowledged) < 20 {
		t.Errorf("only %d writes: that proves little", len(acknowledged))
	}
}

func TestPostgresRestartsInMidLoad(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	db, _ := filledPostgres(t, p)
	stop := load(t, db)
	for _, fault := range []func(context.Context) error{
		p.Restart,
		func(ctx context.Context) error { p.Kill(); return p.Resume(ctx) },
	} {
		grows(t, db)
		must(t, fault(within(t)))
	}
	grows(t, db)
	allThere(t, db, stop())
}

func TestPostgresStandbyAndFailover(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{Settings: []string{"synchronous_standby_names = ''"}})
	db, place := filledPostgres(t, p)
	standby := p.RunStandby(t)
	name := place[strings.LastIndex(place, "/")+1 : strings.Index(place, "?")]

	// The standby alone: what can be read is read, what cannot be written is "later".
	wait := within(t)
	for {
		if n, err := standby.SQL(wait, name, "SELECT count(*) FROM credential"); err == nil && n == "1" {
			break
		}
		if wait.Err() != nil {
			t.Fatal("the standby does not follow")
		}
	}
	reader := open(t, standby.URL("postgres", name), patient())
	for what, call := range calls(reader) {
		if what == "Count" || what == "RevokeCredential" {
			unavailable(t, what, call(t.Context()), database.ReadOnly)
		} else if err := call(t.Context()); err != nil {
			t.Errorf("%s from a standby: %v", what, err)
		}
	}

	// Both in one URL: the calls find whichever writes, without a restart of ours.
	both := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/%s?sslmode=disable&target_session_attrs=read-write", p.Port, standby.Port, name)
	cluster := open(t, both, patient())
	must(t, cluster.AddEvent(t.Context(), identity.Event{ID: "before", At: at(1), Kind: "load"}))
	stop := load(t, cluster)
	grows(t, cluster)
	// Everything reaches the standby before the primary dies: a planned failover, in which
	// nothing acknowledged may be lost.
	_, err := p.SQL(within(t), name, "ALTER SYSTEM SET default_transaction_read_only = on; ")
	must(t, err)
	_, err = p.SQL(within(t), name, "SELECT pg_reload_conf()")
	must(t, err)
	unavailableSoon(t, db)
	// A transaction from before would still write, and be acknowledged, after the place in
	// the log that is looked at next.
	_, err = p.SQL(within(t), name, "SET client_min_messages = error; SELECT pg_terminate_backend(pid, 60000) FROM "+othersHere)
	must(t, err)
	began, err := p.SQL(within(t), name, "SELECT clock_timestamp()")
	must(t, err)
	for ctx := within(t); ; {
		old, err := p.SQL(ctx, name, fmt.Sprintf("SELECT count(*) FROM %s AND backend_start < '%s'", othersHere, began))
		must(t, err)
		if old == "0" {
			break
		}
	}
	lsn, err := p.SQL(within(t), name, "SELECT pg_current_wal_flush_lsn()")
	must(t, err)
	for ctx := within(t); ; {
		caught, err := standby.SQL(ctx, name, fmt.Sprintf("SELECT pg_last_wal_replay_lsn() >= '%s'", lsn))
		must(t, err)
		if caught == "t" {
			break
		}
	}
	must(t, standby.Promote(within(t)))
	grows(t, cluster)
	p.Kill()
	grows(t, cluster)
	allThere(t, cluster, stop())
}

// othersHere are the connections of others to a database.
const othersHere = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

// unavailableSoon waits until the server that only reads now says so on all connections.
func unavailableSoon(t *testing.T, db *database.DB) {
	t.Helper()
	for ctx := within(t); ; {
		err := db.AddEvent(ctx, identity.Event{At: at(1), Kind: "probe"})
		if err != nil {
			unavailable(t, "a write to the old primary", err, database.ReadOnly)
			return
		}
	}
}

// A real file system without space: nothing acknowledged is lost, reading goes on, and so
// does writing once there is space again.
func TestSQLiteDiskFull(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"))
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	db := open(t, filepath.Join(dir, "letterlock.db"), patient())
	fill(t, db)
	var acknowledged []string
	var full error
	for n := 0; full == nil; n++ {
		id := fmt.Sprint(n)
		if full = db.AddEvent(t.Context(), identity.Event{ID: id, At: at(n), Kind: "load", Detail: strings.Repeat("x", 5000)}); full == nil {
			acknowledged = append(acknowledged, id)
		}
	}
	unavailable(t, "a write to a full disk", full, database.Full)
	if _, _, err := db.CredentialBySelector(t.Context(), "sel1"); err != nil {
		t.Errorf("reading with a full disk: %v", err)
	}
	must(t, os.Remove(ballast))
	must(t, db.RevokeCredential(t.Context(), "1", at(1), ""))
	allThere(t, db, acknowledged)
	must(t, db.Close())
	again := open(t, filepath.Join(dir, "letterlock.db"), patient())
	allThere(t, again, acknowledged)
}
