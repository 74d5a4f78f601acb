package senders

import (
	"errors"
	"strings"
	"testing"
)

// People of elsewhere own the address that they sign in by, and nothing that anybody here
// has or had.
func TestGuests(t *testing.T) {
	s := settle()
	b := NewBook(s, "+", clock)
	if logins, err := b.Logins(t.Context(), "carol@example.org"); err != nil || len(logins) > 0 {
		t.Errorf("without guests: %q, %v", logins, err)
	}
	if _, err := b.Login(t.Context(), "carol@example.org"); !errors.Is(err, errUnknown) {
		t.Errorf("without guests: %v", err)
	}
	b.Guests()
	for sender, want := range map[string]string{
		"carol@example.org":     "carol@example.org",
		"Carol+x@Example.org":   "carol@example.org",
		"carol@elsewhere.test":  "carol@elsewhere.test",
		"gone@example.org":      "", // who left leaves no room
		"gone+x@example.org":    "",
		"old@example.org":       "",
		"drop@example.org":      "",
		"read@example.org":      "",
		"locked@ann.example":    "",
		"any@send.example":      "ann@example.org ann+cron@example.org ann+trap@example.org any@send.example",
		"carol @example.org":    "",
		"carol,bob@example.org": "",
	} {
		logins, err := b.Logins(t.Context(), sender)
		if got := strings.Join(logins, " "); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sender, got, err, want)
		}
	}
	for _, known := range []string{"ann@example.org", "sales@example.org", "ann+x@example.org", "ann+bob@example.org"} {
		logins, err := b.Logins(t.Context(), known)
		if err != nil || strings.Contains(strings.Join(logins, " "), known) && known != "ann@example.org" {
			t.Errorf("%s: %q, %v", known, logins, err)
		}
	}
	for _, name := range []string{"gone@example.org", "sales@example.org", "carol+scanner@example.org", "carol"} {
		if who, err := b.Login(t.Context(), name); !errors.Is(err, errUnknown) {
			t.Errorf("%s signs in as %+v, %v", name, who, err)
		}
	}
	who, err := b.Login(t.Context(), "Carol@example.org")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"carol@example.org": true, "CAROL+x@example.org": true, "ann@example.org": false, "dora@example.org": false, "gone@example.org": false,
		"any@send.example": false, "sales@example.org": false,
	} {
		if may, err := b.MaySend(t.Context(), who, address); err != nil || may != want {
			t.Errorf("carol as %s: %v, %v", address, may, err)
		}
	}
	ann, err := b.Login(t.Context(), "ann@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if may, err := b.MaySend(t.Context(), ann, "carol@example.org"); err != nil || may {
		t.Errorf("ann as a guest: %v, %v", may, err)
	}
	// A mailbox is none of it.
	if box, err := b.Mailbox(t.Context(), "carol@example.org"); err != nil || box != "" {
		t.Errorf("mailbox %q, %v", box, err)
	}
	s.away = true
	if _, err := b.Login(t.Context(), "carol@example.org"); !errors.Is(err, errAway) {
		t.Errorf("while the store is away: %v", err)
	}
}
