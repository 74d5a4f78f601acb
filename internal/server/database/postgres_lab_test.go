//go:build lab

package database_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/lab"
	authtest "github.com/letterlock-mail/letterlock/internal/server/authserver/storetest"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/database/storetest"
)

// within ends a test's waiting; the machine may be busy.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newPlace makes an empty database on a server and returns its URL.
func newPlace(t *testing.T, p *lab.Postgres) string {
	t.Helper()
	name := fmt.Sprintf("d%d", place.Add(1))
	if err := p.NewDatabase(within(t), name); err != nil {
		t.Fatal(err)
	}
	return p.URL("postgres", name)
}

var place atomic.Int64

func TestPostgres(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	t.Run("nouns", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, newPlace(t, p), patient()) })
	})
	t.Run("authserver", func(t *testing.T) {
		authtest.Run(t, func(t *testing.T) authtest.Store { return open(t, newPlace(t, p), patient()) })
	})
	t.Run("races", func(t *testing.T) {
		place := newPlace(t, p)
		races(t, [2]*database.DB{open(t, place, patient()), open(t, place, patient())})
	})
	t.Run("given up before a commit", func(t *testing.T) { database.GivenUpBefore(t, open(t, newPlace(t, p), patient())) })
	t.Run("given up during a commit", func(t *testing.T) { givenUpDuring(t, p) })
	t.Run("is the model", func(t *testing.T) {
		db := open(t, newPlace(t, p), patient())
		properties(t, func(rt *rapid.T) *database.DB { empty(rt, db); return db })
	})
	t.Run("starts at once", func(t *testing.T) { starts(t, newPlace(t, p)) })
	t.Run("a key clashes", func(t *testing.T) { clashes(t, newPlace(t, p)) })
	t.Run("limits of the server", func(t *testing.T) { withLimits(t, p) })
	t.Run("a killed process", func(t *testing.T) {
		place := newPlace(t, p)
		must(t, open(t, place, patient()).AddPerson(t.Context(), person("ann")))
		acknowledged := killInMidLoad(t, place)
		checkAcknowledged(t, open(t, place, patient()), acknowledged)
	})
	t.Run("backup to SQLite", func(t *testing.T) { restored(t, open(t, newPlace(t, p), patient()), openLite(t)) })
	t.Run("backup from SQLite", func(t *testing.T) { restored(t, openLite(t), open(t, newPlace(t, p), patient())) })
}
