package database_test

import (
	"context"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestGenerationOfRevocations: whatever takes a right away from somebody changes the
// generation, by which the caches of all instances go.
func TestGenerationOfRevocations(t *testing.T) {
	db := openLite(t)
	ctx := context.Background()
	for _, name := range []string{"ann", "bob"} {
		must(t, db.AddPerson(ctx, person(name)))
	}
	must(t, db.AddCredential(ctx, credential("1", "ann", "phone")))
	for _, name := range []string{"entered", "removed"} {
		must(t, db.AddClient(ctx, identity.Client{ID: identity.ClientID(name), Name: name, Created: at(0)}, nil))
	}
	g := grant("g")
	must(t, db.AddCode(ctx, g, identity.Code{Digest: identity.DigestOf("code"), Grant: "g", Expires: at(9)}))
	must(t, db.Issue(ctx, identity.AccessToken{Digest: identity.DigestOf("access"), Grant: "g", Expires: at(9)}, identity.RefreshToken{}))
	for _, c := range []struct {
		name string
		do   func(*database.DB) error
	}{
		{"RevokeAccess", func(db *database.DB) error { return db.RevokeAccess(ctx, identity.DigestOf("access"), at(1)) }},
		{"RevokeGrant", func(db *database.DB) error { return db.RevokeGrant(ctx, "g", at(1), "test") }},
		{"RevokeCredential", func(db *database.DB) error { return db.RevokeCredential(ctx, "1", at(1), "test") }},
		{"DisableClient", func(db *database.DB) error { return db.DisableClient(ctx, "entered", at(1), "test") }},
		{"DeleteClient", func(db *database.DB) error { return db.DeleteClient(ctx, "removed", at(1)) }},
		{"EndRegistration", func(db *database.DB) error { return db.EndRegistration(ctx, "lld_x", at(1)) }},
		{"DisablePerson", func(db *database.DB) error { return db.DisablePerson(ctx, "ann", at(1), "test") }},
		{"Suspend", func(db *database.DB) error {
			_, err := db.Suspend(ctx, identity.Hold{Person: "bob", Source: "scim", Since: at(1)}, "test")
			return err
		}},
		{"DeletePerson", func(db *database.DB) error { return db.DeletePerson(ctx, "bob") }},
	} {
		before := generation(t, db)
		must(t, c.do(db))
		if after := generation(t, db); after <= before {
			t.Errorf("%s: generation %d, before %d", c.name, after, before)
		}
	}
}
