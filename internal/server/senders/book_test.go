package senders

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

var errAway = errors.New("store away")

// A town is a fake store.
type town struct {
	mu          sync.Mutex
	away        bool
	people      map[identity.PersonID]identity.Person
	addresses   map[string]identity.Address
	credentials map[identity.PersonID][]identity.Credential
	grants      map[identity.PersonID][]identity.Grant
	counts      map[string]int
	asked       int
}

func (s *town) enter() (func(), error) {
	s.mu.Lock()
	s.asked++
	if s.away {
		s.mu.Unlock()
		return nil, errAway
	}
	return s.mu.Unlock, nil
}

func (s *town) Address(_ context.Context, address string) (identity.Address, error) {
	leave, err := s.enter()
	if err != nil {
		return identity.Address{}, err
	}
	defer leave()
	a, ok := s.addresses[address]
	if !ok {
		return a, fmt.Errorf("address: %w", identity.ErrNotFound)
	}
	return a, nil
}

func (s *town) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	leave, err := s.enter()
	if err != nil {
		return identity.Person{}, err
	}
	defer leave()
	p, ok := s.people[id]
	if !ok {
		return p, fmt.Errorf("person: %w", identity.ErrNotFound)
	}
	return p, nil
}

func (s *town) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	leave, err := s.enter()
	if err != nil {
		return identity.Person{}, err
	}
	defer leave()
	for _, p := range s.people {
		if p.Address == address {
			return p, nil
		}
	}
	return identity.Person{}, fmt.Errorf("person: %w", identity.ErrNotFound)
}

func (s *town) Credentials(_ context.Context, id identity.PersonID) ([]identity.Credential, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.credentials[id], nil
}

func (s *town) GrantsOf(_ context.Context, id identity.PersonID) ([]identity.Grant, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.grants[id], nil
}

func (s *town) Count(_ context.Context, key string, window time.Time, add int) (int, error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	key += window.String()
	s.counts[key] += add
	return s.counts[key], nil
}

func clock() time.Time { return time.Date(2026, 11, 22, 3, 30, 0, 0, time.UTC) }

func settle() *town {
	send := []identity.Role{identity.RoleSend}
	both := []identity.Role{identity.RoleLogin, identity.RoleSend}
	long := clock().Add(-time.Hour)
	s := &town{
		people: map[identity.PersonID]identity.Person{
			"ann":  {ID: "ann", Address: "ann@example.org"},
			"bob":  {ID: "bob", Address: "bob@example.org"},
			"gone": {ID: "gone", Address: "gone@example.org", Disabled: long},
			"plus": {ID: "plus", Address: "ann+trap@example.org"},
			"ümit": {ID: "ümit", Address: "ümit@xn--bcher-kva.example"},
		},
		addresses:   map[string]identity.Address{},
		credentials: map[identity.PersonID][]identity.Credential{},
		counts:      map[string]int{},
	}
	for _, a := range []identity.Address{
		{Address: "sales@example.org", Targets: []string{"ann@example.org", "gone@example.org", "friend@elsewhere.example"},
			Owners: []identity.Owner{{Person: "ann", Roles: send}, {Person: "bob", Roles: send}, {Person: "gone", Roles: send}, {Person: "lost", Roles: send}}},
		{Address: "all@example.org", Targets: []string{"gone@example.org"}},
		{Address: "info@example.org", Owners: []identity.Owner{{Person: "bob", Roles: both}}},
		{Address: "read@example.org", Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleLogin}}}},
		{Address: "old@example.org", Owners: []identity.Owner{{Person: "gone", Roles: both}}},
		{Address: "drop@example.org"},
		{Address: "ann+bob@example.org", Owners: []identity.Owner{{Person: "bob", Roles: send}}},
		{Address: "@ann.example", Targets: []string{"ann@example.org"}, Owners: []identity.Owner{{Person: "ann", Roles: send}}},
		{Address: "special@ann.example", Owners: []identity.Owner{{Person: "bob", Roles: both}}},
		{Address: "locked@ann.example", Owners: []identity.Owner{{Person: "bob", Roles: []identity.Role{identity.RoleLogin}}}},
		{Address: "@send.example", Owners: []identity.Owner{{Person: "ann", Roles: send}}},
		{Address: "odd@example.org", Targets: []string{"ann@example.org, bob@example.org", "bob@example.org"}},
	} {
		s.addresses[a.Address] = a
	}
	s.credentials["ann"] = []identity.Credential{
		{ID: "c-all", Name: "laptop"},
		{ID: "c-scan", Name: "scanner", Senders: []string{"ann@example.org"}, Recipients: []string{"Ann@example.org", "@bücher.example"}, PerHour: 2},
		{ID: "c-cron", Name: "cron", PerHour: 1},
		{ID: "c-old", Name: "old", PerHour: 9, Expires: long},
		{ID: "c-rev", Name: "rev", PerHour: 9, Revoked: long},
		{ID: "c-trap", Name: "trap", PerHour: 9},
	}
	s.credentials["gone"] = []identity.Credential{{ID: "c-gone", Name: "x", PerHour: 1}}
	return s
}

func TestLogins(t *testing.T) {
	const anns = "ann@example.org ann+scanner@example.org ann+cron@example.org ann+trap@example.org"
	const others = "ann@example.org ann+cron@example.org ann+trap@example.org" // what the scanner may not
	s := settle()
	b := NewBook(s, "+", clock)
	for sender, want := range map[string]string{
		"ann@example.org":                 anns,
		"ANN@Example.ORG":                 anns,
		`"ann"@example.org`:               anns,
		"ann+shop@example.org":            others,
		"ann+bob@example.org":             "bob@example.org",
		"bob@example.org":                 "bob@example.org",
		"sales@example.org":               others + " bob@example.org",
		"sales+x@example.org":             others + " bob@example.org",
		"info@example.org":                "bob@example.org",
		"read@example.org":                "",
		"anything@ann.example":            others,
		"special@ann.example":             "bob@example.org",
		"special+x@ann.example":           "bob@example.org",
		"locked@ann.example":              "",
		"gone@example.org":                "",
		"old@example.org":                 "",
		"nobody@example.org":              "",
		"someone@elsewhere.example":       "",
		"ümit@bücher.example":             "ümit@xn--bcher-kva.example",
		"ÜMIT@xn--bcher-kva.example":      "ümit@xn--bcher-kva.example",
		"u\u0308mit@b\u00fccher.example":  "ümit@xn--bcher-kva.example",
		"":                                "",
		"ann":                             "",
		"@example.org":                    "",
		"ann@":                            "",
		"ann@example.org,bob@example.org": "",
		"ann@example.org@example.org":     "",
		"=?utf-8?q?ann?=@ann.example":     "",
		"+x@example.org":                  "",
		"ann@[192.0.2.1]":                 "",
		strings.Repeat("a", 600) + "@a.b": "",
		"ann\x00@example.org":             "",
		"ann@example.org\n":               "",
		"\xff@example.org":                "",
		"ann\u2028@ann.example":           "",
		"a b@ann.example":                 "",
		"\u200bann@ann.example":           "",
		"ann..x@ann.example":              "",
		"ann@-bad.ann.example":            "",
		"ann@ann.example.":                "",
	} {
		got, err := b.Logins(t.Context(), sender)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q (%v), want %q", sender, got, err, want)
		}
	}
	s.away = true
	for _, sender := range []string{"ann@example.org", "nobody@elsewhere.example"} {
		if got, err := b.Logins(t.Context(), sender); err == nil || got != nil {
			t.Errorf("away: %q %v", got, err)
		}
	}
}

func TestTooManyLogins(t *testing.T) {
	s := settle()
	for i := range 5000 {
		s.credentials["bob"] = append(s.credentials["bob"], identity.Credential{Name: fmt.Sprintf("device-%d", i), PerHour: 1})
	}
	if got, err := NewBook(s, "+", clock).Logins(t.Context(), "bob@example.org"); err == nil {
		t.Errorf("%d names: cut, some devices would be refused for good", len(got))
	}
}

func TestLogin(t *testing.T) {
	s := settle()
	b := NewBook(s, "+", clock)
	for name, want := range map[string]string{
		"ann@example.org": "ann", "Ann@Example.org": "ann", "ann+scanner@example.org": "ann c-scan", "ann+cron@example.org": "ann c-cron",
		"ann+laptop@example.org": "unknown", // no limits: goes by the person's name
		"ann+old@example.org":    "unknown", "ann+rev@example.org": "unknown", "ann+nope@example.org": "unknown",
		"gone@example.org": "unknown", "gone+x@example.org": "unknown", "sales@example.org": "unknown", "": "unknown", "ann": "unknown",
		"+scanner@example.org": "unknown", "ann+trap@example.org": "ambiguous",
	} {
		who, err := b.Login(t.Context(), name)
		got := string(who.Person.ID)
		if who.Credential != nil {
			got += " " + string(who.Credential.ID)
		}
		switch {
		case errors.Is(err, errUnknown):
			got = "unknown"
		case errors.Is(err, errAmbiguous):
			got = "ambiguous"
		case err != nil:
			t.Errorf("%q: %v", name, err)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	s.away = true
	if _, err := b.Login(t.Context(), "ann@example.org"); !errors.Is(err, errAway) {
		t.Errorf("away: %v", err)
	}
}

func TestMailboxesAndAliases(t *testing.T) {
	s := settle()
	b := NewBook(s, "+", clock)
	for address, want := range map[string]string{
		"ann@example.org": "ann@example.org", "Ann+x@example.org": "ann@example.org", "gone@example.org": "", "gone+x@example.org": "",
		"sales@example.org": "-> ann@example.org friend@elsewhere.example", "all@example.org": "", "info@example.org": "info@example.org",
		"read@example.org": "read@example.org", "old@example.org": "", "drop@example.org": "drop@example.org",
		"x@ann.example": "-> ann@example.org", "special@ann.example": "special@ann.example", "x@send.example": "",
		"nobody@example.org": "", "odd@example.org": "-> bob@example.org", "ümit@bücher.example": "ümit@xn--bcher-kva.example",
	} {
		mailbox, err := b.Mailbox(t.Context(), address)
		targets, err2 := b.Alias(t.Context(), address)
		got := mailbox
		if len(targets) > 0 {
			got += "-> " + strings.Join(targets, " ")
		}
		if err != nil || err2 != nil || got != want {
			t.Errorf("%q: %q (%v, %v), want %q", address, got, err, err2, want)
		}
	}
	s.away = true
	if _, err := b.Mailbox(t.Context(), "nobody@elsewhere.example"); err == nil {
		t.Error("away: no mailbox for sure")
	}
	if _, err := b.Alias(t.Context(), "nobody@elsewhere.example"); err == nil {
		t.Error("away: no alias for sure")
	}
}

func TestNoDelimiter(t *testing.T) {
	b := NewBook(settle(), "", clock)
	if got, _ := b.Logins(t.Context(), "ann+shop@example.org"); len(got) != 0 {
		t.Errorf("without a delimiter ann+shop is ann's: %q", got)
	}
	if got := NewBook(settle(), "+-", clock).keys("ann-shop+x@example.org"); !slices.Equal(got, []string{"ann-shop+x@example.org", "ann@example.org", "@example.org"}) {
		t.Errorf("two delimiters: %q", got)
	}
}

// A revoked app password has left its name to others.
func TestNameTakenAgain(t *testing.T) {
	s := settle()
	b := NewBook(s, "+", clock)
	s.credentials["ann"] = append(s.credentials["ann"], identity.Credential{ID: "c-new", Name: "rev", PerHour: 5})
	if who, err := b.Login(t.Context(), "ann+rev@example.org"); err != nil || who.Credential == nil || who.Credential.ID != "c-new" {
		t.Errorf("the new app password of an old name: %+v, %v", who, err)
	}
	s.people["old"] = identity.Person{ID: "old", Address: "ann+old@example.org"}
	if who, err := b.Login(t.Context(), "ann+old@example.org"); err != nil || who.Person.ID != "old" || who.Credential != nil {
		t.Errorf("a person with the login name of an expired app password: %+v, %v", who, err)
	}
}
