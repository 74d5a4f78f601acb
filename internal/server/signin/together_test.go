package signin

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// facts are what a sign-in may change for good; what is under way at a provider is none.
func (h *house) facts() string {
	invitations := 0
	for key := range h.store.once {
		if !strings.HasPrefix(key, flowKind) && h.now.Before(h.store.expires[key]) {
			invitations++
		}
	}
	return fmt.Sprint(h.store.people, h.store.addresses, h.store.bindings, h.store.sessions, h.store.events, invitations)
}

// TestChangeAndTrailAreOne: what a sign-in changes is not changed without its line of the audit
// trail, and once where the transaction is tried again.
func TestChangeAndTrailAreOne(t *testing.T) {
	type way struct {
		rules []rule
		setUp func(h *house, b *browser) (try func() seen)
		lines string
		made  string // people, bindings and sessions afterwards
	}
	signIn := func(h *house, b *browser) func() seen { return b.signIn }
	for name, c := range map[string]way{
		"a first sign-in makes a person": {[]rule{byAddress, provisioned}, signIn, "person.added signin.bound signin.ok", "1 1 1"},
		"a first sign-in finds a person": {[]rule{byAddress}, func(h *house, b *browser) func() seen {
			h.person("ann@example.org")
			return b.signIn
		}, "signin.bound signin.ok", "1 1 1"},
		"a sign-in": {nil, func(h *house, b *browser) func() seen {
			h.bind("583231", h.person("ann@example.org"))
			b.signIn() // what the provider confirms is no right
			h.store.sessions, h.store.events, b.jar = map[identity.SessionID]identity.Session{}, nil, map[string]string{}
			return b.signIn
		}, "signin.ok", "1 1 1"},
		"an invitation": {[]rule{members}, func(h *house, b *browser) func() seen {
			_, form := b.open(h.invite(h.person("ann@example.org")))
			return func() seen { return b.decide(form, "accept") }
		}, "signin.bound signin.ok", "1 1 1"},
		"a sign-out": {nil, func(h *house, b *browser) func() seen {
			h.bind("583231", h.person("ann@example.org"))
			b.signIn()
			h.store.events = nil
			jar := maps.Clone(b.jar)
			return func() seen {
				b.jar = maps.Clone(jar) // the browser forgets its session in any case
				return b.one(http.MethodPost, public+"/signout", url.Values{})
			}
		}, "signout", "1 1 0"},
		"the first administrator": {nil, func(h *house, b *browser) func() seen {
			link, err := FirstLink(h.t.Context(), h.store, rand.Reader, public, h.now.Add(time.Hour))
			if err != nil {
				h.t.Fatal(err)
			}
			b.walk(link.Reveal(), "")
			return func() seen {
				return b.one(http.MethodPost, public+"/signin/first", url.Values{"address": {"boss@example.org"}})
			}
		}, "person.added", "1 0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, c.rules...)
			h.github.Sit(ann())
			b := h.browser()
			try := c.setUp(h, b)
			before := h.facts()
			h.store.mute = true
			if s := try(); s.code != http.StatusServiceUnavailable {
				t.Errorf("without an audit trail: %d at %s: %s", s.code, s.at, s.body)
			}
			if after := h.facts(); after != before {
				t.Errorf("without an audit trail\n%s\nbecame\n%s", before, after)
			}
			h.store.mute, h.store.again = false, 2
			if s := try(); s.code != http.StatusOK && s.code != http.StatusSeeOther {
				t.Errorf("%d at %s: %s", s.code, s.at, s.body)
			}
			made := fmt.Sprint(len(h.store.people), len(h.store.bindings), len(h.store.sessions))
			if got := h.kinds(); got != c.lines || made != c.made {
				t.Errorf("made %s with the lines %s", made, got)
			}
		})
	}
}

// TestWithoutAPerson: what was done for a person that is not kept is not done either.
func TestWithoutAPerson(t *testing.T) {
	h := newHouse(t, byAddress, provisioned)
	h.github.Sit(ann())
	h.store.addresses["ann@example.org"] = identity.Address{Address: "ann@example.org", Targets: []string{"x@example.org"}}
	if s := h.browser().signIn(); s.code != http.StatusForbidden || len(h.store.people)+len(h.store.bindings)+len(h.store.sessions) != 0 || h.kinds() != "signin.refused" {
		t.Errorf("%d %s, %s", s.code, h.facts(), h.kinds())
	}
}
