package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// removed has a directory make and remove people whom an administrator disables in between.
func removed(t *testing.T, db *database.DB, reason string, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		p := identity.Person{ID: identity.PersonID("id of " + address), Address: address, Created: at}
		err := db.AddUser(t.Context(), identity.User{Person: p, External: "ext " + address, Changed: at, Wish: identity.WishActive}, "scim")
		if err == nil {
			err = db.DisablePerson(t.Context(), p.ID, at, reason)
		}
		if err == nil {
			err = db.RemoveUser(t.Context(), p.ID, at, "scim")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// From the word that an administrator gives to its end by release.
func TestPersonHeld(t *testing.T) {
	d := bareDesk(t, "http")
	t.Cleanup(func() { _ = d.listener.Close() })
	d.configure("example.org", "")
	if out := d.must("person", "held", "--json"); out != "[]" {
		t.Errorf("of nobody: %s", out)
	}
	removed(t, d.p.db, "stole\x1b[2J paper", "ann@example.org", "bob@example.org", "gone@elsewhere.test")
	table := d.must("person", "held")
	if lines := strings.Split(table, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "ADDRESS") || !strings.HasPrefix(lines[1], "ann@example.org") ||
		!strings.Contains(lines[1], "ext ann@example.org") || !strings.Contains(lines[1], "2026-03-0") || !strings.Contains(lines[1], "stole") || strings.Contains(table, "\x1b") {
		t.Errorf("the table is\n%s", table)
	}
	var views []map[string]string
	if err := json.Unmarshal([]byte(d.must("person", "held", "--json")), &views); err != nil || len(views) != 3 || views[1]["address"] != "bob@example.org" ||
		views[1]["external"] != "ext bob@example.org" || views[1]["since"] != "2026-03-04T05:06:07Z" || views[1]["reason"] != "stole\x1b[2J paper" {
		t.Errorf("%v, %v", views, err)
	}

	d.must("person", "release", "Bob@Example.org")
	d.must("person", "release", "gone@elsewhere.test")
	for _, c := range []struct{ address, hint string }{
		{"bob@example.org", "letterlockd person held shows who"},
		{"ann", "write it as"},
	} {
		_, err := d.run("person", "release", c.address)
		var f *cli.Fault
		if !errors.As(err, &f) || f.Code != cli.NoUser || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("release %s: %+v", c.address, err)
		}
	}
	if out := d.must("audit", "list", "--kind", "hold."); strings.Count(out, "hold.released") != 2 || !strings.Contains(out, "bob@example.org") || !strings.Contains(out, "shell:") {
		t.Errorf("the trail says\n%s", out)
	}
	for address, out := range map[string]bool{"bob@example.org": false, "ann@example.org": true} {
		d.must("person", "add", address)
		if p, _, _ := d.person(address); p.Disabled.IsZero() == out {
			t.Errorf("%s is kept out: %v", address, !out)
		}
	}
	if out := d.must("person", "held"); strings.Contains(out, "@") {
		t.Errorf("still held:\n%s", out)
	}
}
