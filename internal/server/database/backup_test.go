package database_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// fill puts something into every table that a backup holds.
func fill(t *testing.T, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(db.AddPerson(ctx, person("ann")))
	must(db.AddPerson(ctx, person("bob")))
	must(db.Bind(ctx, identity.Binding{Issuer: "https://op.test", Subject: "1", Person: "ann", Bound: at(1), Checked: at(2)}))
	must(db.PutAddress(ctx, identity.Address{Address: "sales@example.org", Targets: []string{"ann@example.org"},
		Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleSend}}}}))
	limited := credential("1", "ann", "scanner")
	limited.Senders = []string{"ann@example.org"}
	must(db.AddCredential(ctx, limited))
	must(db.AddEvent(ctx, identity.Event{At: at(3), Kind: "x", Detail: "<&> \"quoted\" \\ ü\u2028"}))
	must(db.AddPasskey(ctx, identity.Passkey{ID: []byte{1, 255}, Person: "ann", Name: "key", PublicKey: []byte{0, 1}, Count: 7, Transports: []string{"usb"}, Created: at(1)}))
	must(db.PutTOTP(ctx, identity.TOTP{Person: "ann", Sealed: []byte{9, 0}, Step: 58, Created: at(1)}))
	must(db.PutRecovery(ctx, "ann", []identity.Digest{identity.DigestOf("r1"), identity.DigestOf("r2")}, at(1)))
	must(db.UseRecovery(ctx, "ann", identity.DigestOf("r1"), at(2)))
	must(db.PutBan(ctx, identity.Ban{Network: network("192.0.2.0/24"), Made: at(1)}))
	must(db.PutOnce(ctx, identity.DigestOf("o"), "invitation", []byte{0, 255}, at(9000)))
	must(db.PutOnce(ctx, identity.DigestOf("o"), "totp", nil, at(9000)))
	must(db.AddCode(ctx, grant("g"), identity.Code{Digest: identity.DigestOf("code"), Grant: "g", Expires: at(9)}))
	must(db.Issue(ctx, identity.AccessToken{Digest: identity.DigestOf("a"), Grant: "g", Expires: at(9)},
		identity.RefreshToken{Digest: identity.DigestOf("r"), Grant: "g", Expires: at(9)}))
	must(db.RevokeGrant(ctx, "g", at(4), "test"))
	must(db.AddClient(ctx, identity.Client{ID: "webmail", Name: "Web mail", Secret: identity.DigestOf("s"), Created: at(1)}, nil))
	must(db.AddClient(ctx, identity.Client{ID: "mutt", Name: "Mutt", Created: at(1)}, nil))
	must(db.EndRegistration(ctx, "llc_x.y", at(5)))
}

func backup(t *testing.T, db *database.DB) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := db.Backup(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// body is a backup without the lines that name its time and engine.
func body(t *testing.T, backup []byte) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(backup)), "\n")
	return strings.Join(lines[1:len(lines)-1], "\n")
}

func restored(t *testing.T, from, to *database.DB) {
	t.Helper()
	fill(t, from)
	saved := backup(t, from)
	before := generation(t, from)
	if err := to.Restore(t.Context(), bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(body(t, saved), body(t, backup(t, to))); diff != "" {
		t.Errorf("the restored database differs (-saved +restored):\n%s", diff)
	}
	if after := generation(t, to); after <= before {
		t.Errorf("generation %d after the restore, %d before: caches would not notice", after, before)
	}
	if _, _, err := to.CredentialBySelector(t.Context(), "sel1"); err != nil {
		t.Error(err)
	}
	if found, err := to.Grant(t.Context(), "g"); err != nil || found.Reason != "test" {
		t.Errorf("grant %+v, %v: want it revoked", found, err)
	}
	if f, err := to.Factors(t.Context(), "ann"); err != nil || len(f.Passkeys) != 1 || f.Passkeys[0].Count != 7 || f.TOTP == nil || f.TOTP.Step != 58 || f.Recovery != 1 {
		t.Errorf("factors %+v, %v", f, err)
	}
	if err := to.UseRecovery(t.Context(), "ann", identity.DigestOf("r1"), at(3)); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("a spent recovery code after the restore: %v", err)
	}
	if err := to.Restore(t.Context(), bytes.NewReader(saved)); !errors.Is(err, database.ErrNotEmpty) {
		t.Errorf("a second restore: %v, want ErrNotEmpty", err)
	}
}

func TestBackup(t *testing.T) { restored(t, openLite(t), openLite(t)) }

// A backup is taken to be read by others than its owner: the note must be true.
func TestBackupHoldsVerifiersOnly(t *testing.T) {
	db := openLite(t)
	fill(t, db)
	saved := string(backup(t, db))
	if !strings.Contains(saved, "verifiers only") || !strings.Contains(saved, "master key is not in it") {
		t.Error("the backup does not say what it holds")
	}
	for _, table := range []string{"session", "code", "access_token"} {
		if strings.Contains(saved, `"table":"`+table+`"`) {
			t.Errorf("table %s is in the backup", table)
		}
	}
}

func TestDamagedBackupIsRefused(t *testing.T) {
	full := openLite(t)
	fill(t, full)
	good := backup(t, full)
	lines := strings.SplitAfter(string(good), "\n")
	for name, bad := range map[string]string{
		"empty":           "",
		"another file":    "-- PostgreSQL database dump\n",
		"cut":             string(good[:len(good)/2]),
		"without its end": strings.Join(lines[:len(lines)-2], ""),
		"a row less":      strings.Replace(string(good), lines[2], "", 1),
		"a row twice":     strings.Replace(string(good), lines[2], lines[2]+lines[2], 1),
		"a letter":        strings.Replace(string(good), "bob@example.org", "bib@example.org", 1),
		"an admin":        strings.Replace(string(good), "false", "true", 1),
		"another format":  strings.Replace(string(good), `"format":1`, `"format":2`, 1),
		"a table more":    strings.Replace(string(good), `"table":"ban"`, `"table":"generation"`, 1),
		"a null":          strings.Replace(string(good), "false", "null", 1),
		"more behind":     string(good) + "[]\n",
	} {
		db := openLite(t)
		if err := db.Restore(t.Context(), strings.NewReader(bad)); err == nil || errors.Is(err, database.ErrUnavailable) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
		if people, err := db.People(t.Context(), "", 9); err != nil || len(people) != 0 {
			t.Errorf("%s left %d people, %v", name, len(people), err)
		}
		if err := db.Restore(t.Context(), bytes.NewReader(good)); err != nil {
			t.Errorf("a good backup after %s: %v", name, err)
		}
	}
}

func TestBackupWhileInUse(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), patient())
	fill(t, db)
	ofBob := grant("of bob")
	ofBob.Person = "bob"
	must(t, db.AddCode(t.Context(), ofBob, identity.Code{Digest: identity.DigestOf("bob's"), Grant: ofBob.ID, Expires: at(9)}))
	for n := range 30 { // more than is held back until the end
		must(t, db.AddEvent(t.Context(), identity.Event{At: at(n), Kind: "long", Detail: strings.Repeat("x", 5000)}))
	}
	var out bytes.Buffer
	writes := 0
	// Each write of the backup is a moment in its middle: people come and go meanwhile.
	err := db.Backup(t.Context(), writerFunc(func(p []byte) (int, error) {
		writes++
		if err := db.DeletePerson(t.Context(), "bob"); err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Error(err)
		}
		if err := db.RevokeGrant(t.Context(), ofBob.ID, at(9), "left"); err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Error(err)
		}
		return out.Write(p)
	}))
	// The first comes after the table of people and before that of grants.
	inForce := fmt.Sprintf(`["of bob","bob","c","imap",%d,0,""]`, at(0).UnixMicro())
	if err != nil || writes < 2 || !strings.Contains(out.String(), "bob@example.org") || !strings.Contains(out.String(), inForce) {
		t.Errorf("backup: %v after %d writes", err, writes)
	}
	if err := openLite(t).Restore(t.Context(), &out); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
