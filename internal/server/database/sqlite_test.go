package database_test

import (
	"path/filepath"
	"testing"

	authtest "github.com/letterlock-mail/letterlock/internal/server/authserver/storetest"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/database/storetest"
)

// openLite opens a database in a file of its own.
func openLite(t *testing.T) *database.DB {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "letterlock.db"), database.Options{})
}

func open(t *testing.T, place string, o database.Options) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), place, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLiteAuthserver(t *testing.T) {
	authtest.Run(t, func(t *testing.T) authtest.Store { return openLite(t) })
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return open(t, filepath.Join(t.TempDir(), "letterlock.db"), database.Options{Now: storetest.Now})
	})
}
