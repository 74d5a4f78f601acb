//go:build lab

package database_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// withLimits: a server may have limits of its own, set for the role or the database. What meets one while
// another instance is at work is tried again, as any other conflict is.
func withLimits(t *testing.T, p *lab.Postgres) {
	for _, limit := range []string{"lock_timeout", "statement_timeout"} {
		t.Run("a migration under way, "+limit, func(t *testing.T) { migratesBeside(t, newPlace(t, p), limit) })
	}
	t.Run("starts at once", func(t *testing.T) { starts(t, limited(newPlace(t, p), "lock_timeout=10ms")) })
	t.Run("a connection ended in the middle", func(t *testing.T) { endedInTheMiddle(t, newPlace(t, p)) })
}

// limited has a limit set for each connection.
func limited(place, limit string) string { return place + "&" + limit }

// beside is a connection of another process.
func beside(t *testing.T, place string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t), place)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// migratesBeside opens a database that another instance migrates, for longer than the limit
// allows to wait.
func migratesBeside(t *testing.T, place, limit string) {
	other, look := beside(t, place), beside(t, place)
	for _, text := range []string{`CREATE TABLE letterlock_schema_claim (version BIGINT PRIMARY KEY)`, `BEGIN`, `INSERT INTO letterlock_schema_claim VALUES (1)`} {
		_, err := other.Exec(within(t), text)
		must(t, err)
	}
	opened := make(chan error, 1)
	go func() {
		db, err := database.Open(context.Background(), limited(place, limit+"=200ms"), patient())
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	var first time.Time
	for ctx, over := within(t), false; !over; {
		var began time.Time
		err := look.QueryRow(ctx, `SELECT query_start, clock_timestamp() - query_start > interval '400 ms' FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO letterlock_schema_claim%' AND datname = current_database()`).Scan(&began, &over)
		switch {
		case err == pgx.ErrNoRows:
		case err != nil:
			t.Fatal(err)
		case first.IsZero():
			first = began
		default:
			over = over || !began.Equal(first) // it waits for the second time
		}
		select {
		case err := <-opened:
			t.Fatalf("opened while another instance migrates: %v", err)
		default:
		}
	}
	_, err := other.Exec(within(t), `ROLLBACK`)
	must(t, err)
	must(t, <-opened)
}

// endedInTheMiddle: a process that stands still in a transaction loses its connection, and
// does the whole of it once more.
func endedInTheMiddle(t *testing.T, place string) {
	must(t, open(t, place, patient()).AddPerson(t.Context(), person("ann")))
	db := open(t, limited(place, "idle_in_transaction_session_timeout=1s"), patient())
	look, tries := beside(t, place), 0
	err := db.Together(t.Context(), func(ctx context.Context) error {
		tries++
		if err := db.AddCredential(ctx, credential(fmt.Sprint(tries), "ann", fmt.Sprint("phone", tries))); err != nil {
			return err
		}
		for wait := within(t); tries == 1; {
			var held int
			must(t, look.QueryRow(wait, `SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()`).Scan(&held))
			if held == 0 {
				break
			}
		}
		return db.AddEvent(ctx, identity.Event{At: at(1), Kind: "together"})
	})
	if err != nil || tries < 2 {
		t.Errorf("%v after %d tries", err, tries)
	}
	kept, err := db.Credentials(t.Context(), "ann")
	if err != nil || len(kept) != 1 {
		t.Errorf("%+v, %v: want the last try's alone", kept, err)
	}
}

// clashes: between the look for a row and the insertion another instance commits it. That is
// no answer: looked at once more it is there.
func clashes(t *testing.T, place string) {
	here, there := open(t, place, patient()), open(t, place, patient())
	must(t, here.AddPerson(t.Context(), person("ann")))
	first := grant("outside")
	tries, found := 0, identity.Grant{}
	err := here.Together(t.Context(), func(ctx context.Context) (err error) {
		if tries++; tries == 1 {
			if _, err := here.Person(ctx, "ann"); err != nil { // the snapshot is from now on
				return err
			}
			if _, err := there.OutsideGrant(context.Background(), first); err != nil {
				return err
			}
		}
		found, err = here.OutsideGrant(ctx, first)
		return err
	})
	if err != nil || tries != 2 || found.ID != first.ID {
		t.Errorf("%+v, %v after %d tries", found, err, tries)
	}
	// What is there for good is told, by Together and without it.
	for what, err := range map[string]error{
		"alone":    here.AddPerson(t.Context(), person("ann")),
		"together": here.Together(t.Context(), func(ctx context.Context) error { return here.AddPerson(ctx, person("ann")) }),
	} {
		if !errors.Is(err, identity.ErrExists) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
