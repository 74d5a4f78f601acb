package database_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// benchmarks are what a mail login asks, in a database of 2,000 people.
func benchmarks(b *testing.B, db *database.DB) {
	ctx := context.Background()
	const people = 2000
	for n := range people {
		name := fmt.Sprint("p", n)
		if _, err := db.Person(ctx, identity.PersonID(name)); err == nil {
			continue
		}
		must(b, db.AddPerson(ctx, person(name)))
		must(b, db.AddCredential(ctx, credential(fmt.Sprint(n), name, "phone")))
		must(b, db.AddCode(ctx, grant(name), identity.Code{Digest: identity.DigestOf(name), Grant: identity.GrantID(name), Expires: at(9)}))
		must(b, db.Issue(ctx, identity.AccessToken{Digest: identity.DigestOf("a" + name), Grant: identity.GrantID(name)}, identity.RefreshToken{}))
	}
	for _, c := range []struct {
		name string
		call func(n int) error
	}{
		{"CredentialBySelector", func(n int) error { _, _, err := db.CredentialBySelector(ctx, fmt.Sprint("sel", n%people)); return err }},
		{"AccessToken", func(n int) error {
			_, _, err := db.AccessToken(ctx, identity.DigestOf(fmt.Sprint("ap", n%people)))
			return err
		}},
		{"Address", func(n int) error { _, err := db.Address(ctx, fmt.Sprintf("p%d@example.org", n%people)); return err }},
		{"Generation", func(int) error { _, err := db.Generation(ctx); return err }},
		{"Count", func(n int) error { _, err := db.Count(ctx, fmt.Sprint("k", n%100), at(0), 1); return err }},
		{"AddEvent", func(n int) error { return db.AddEvent(ctx, identity.Event{At: at(n), Kind: "signin.ok"}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				must(b, c.call(n))
			}
		})
	}
}

func BenchmarkSQLite(b *testing.B) { benchmarks(b, openLite(b)) }
