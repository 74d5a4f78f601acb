package database_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A backup keeps who holds whom, and what directories said; other people's tokens are in
// none, sealed or not.
func TestBackupOfProvisioning(t *testing.T) {
	ctx, db := t.Context(), openLite(t)
	must(t, db.AddUser(ctx, identity.User{Person: person("ann"), External: "e-1", Attributes: `{"displayName":"A"}`, Changed: at(1), Wish: identity.WishInactive}, "scim"))
	must(t, db.Bind(ctx, identity.Binding{Issuer: "i", Subject: "1", Person: "ann", Bound: at(1)}))
	must(t, db.PutLeaver(ctx, identity.Leaver{Issuer: "i", Subject: "1", Person: "ann", State: identity.LeaverWaiting, Since: at(2), Why: "left"}))
	must(t, db.PutSealed(ctx, identity.SealedGrant{Issuer: "i", Subject: "1", Sealed: []byte("sealed-bytes"), Kept: at(2)}))
	var backup bytes.Buffer
	must(t, db.Backup(ctx, &backup))
	if strings.Contains(backup.String(), "upstream_grant") || strings.Contains(backup.String(), "c2VhbGVkLWJ5dGVz") {
		t.Error("the backup holds a refresh token")
	}
	again := openLite(t)
	must(t, again.Restore(ctx, &backup))
	u, err := again.UserByExternal(ctx, "e-1")
	if err != nil || u.Person.Disabled.IsZero() || u.Attributes != `{"displayName":"A"}` {
		t.Errorf("%+v %v", u, err)
	}
	leavers, err := again.Leavers(ctx, "i")
	if err != nil || len(leavers) != 1 || leavers[0].State != identity.LeaverWaiting {
		t.Errorf("%+v %v", leavers, err)
	}
	if _, err := again.Sealed(ctx, "i", "1"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("sealed: %v", err)
	}
	if in, err := again.Release(ctx, "ann", identity.HoldSCIM, at(3), "scim", "again"); err != nil || !in {
		t.Errorf("release: %v %v", in, err)
	}
}
