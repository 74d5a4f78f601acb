package database_test

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/database/storetest"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// patient waits as long as a busy machine may need.
func patient() database.Options {
	return database.Options{Now: storetest.Now, Timeout: time.Minute}
}

// openLite opens a database in a file of its own.
func openLite(t testing.TB) *database.DB {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "letterlock.db"), patient())
}

func open(t testing.TB, place string, o database.Options) *database.DB {
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

func at(seconds int) time.Time { return storetest.At(seconds) }

func network(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func person(name string) identity.Person {
	return identity.Person{ID: identity.PersonID(name), Address: name + "@example.org", Created: at(0)}
}

func credential(id, owner, name string) identity.Credential {
	return identity.Credential{ID: identity.CredentialID(id), Person: identity.PersonID(owner), Selector: "sel" + id,
		Hash: "$argon2id$" + id, Name: name, Created: at(0)}
}

func grant(id string) identity.Grant {
	return identity.Grant{ID: identity.GrantID(id), Person: "ann", Client: "c", Scopes: []string{"imap"}, Created: at(0)}
}

func generation(t testing.TB, db *database.DB) int64 {
	t.Helper()
	n, err := db.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
