package signin

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func httpClient() *http.Client { return oauth.NewHTTPClient(oauth.HTTPOptions{}) }
func hush() secret.String      { return secret.New("hush") }
func quiet() *slog.Logger      { return slog.New(slog.DiscardHandler) }

func (h *house) invite(p identity.Person) string {
	h.t.Helper()
	link, err := Invite(h.t.Context(), h.store, rand.Reader, public, p.ID, h.now.Add(24*time.Hour))
	if err != nil {
		h.t.Fatal(err)
	}
	return link.Reveal()
}

// open opens the link, signs in at GitHub, and returns the form that asks.
func (b *browser) open(link string) (seen, url.Values) {
	b.h.t.Helper()
	b.walk(link, "")
	s := b.walk("/signin/github", "")
	found := regexp.MustCompile(`name="pending" value="([^"]+)"`).FindStringSubmatch(s.body)
	if found == nil {
		return s, nil
	}
	return s, url.Values{"pending": {found[1]}}
}

func (b *browser) decide(form url.Values, decision string) seen {
	b.h.t.Helper()
	form.Set("decision", decision)
	s := b.one(http.MethodPost, public+"/signin/invitation", form)
	if to := s.header.Get("Location"); to != "" {
		return b.walk(to, "")
	}
	return s
}

func TestInvitation(t *testing.T) {
	h := newHouse(t, members)
	p := h.person("ann@example.org")
	link := h.invite(p)
	h.github.Sit(ann())
	b := h.browser()
	// What looks into mail opens links, and spends nothing by it.
	h.browser().walk(link, "")
	s := b.walk(link, "")
	if s.at != public+"/signin/invitation" || strings.Contains(s.body, "ann@example.org") {
		t.Errorf("the code stays in the address, or the page tells whose it is: %s", s.at)
	}
	s, form := b.open(link)
	if form == nil || !strings.Contains(s.body, "<strong>ann@example.org</strong>") || len(h.store.bindings) != 0 || b.signedIn() {
		t.Fatalf("%+v", s)
	}
	if s := b.decide(form, "accept"); !strings.HasPrefix(s.body, "home of ann@example.org") {
		t.Fatalf("%+v", s)
	}
	if got := h.kinds(); got != "signin.bound signin.ok" {
		t.Errorf("audit trail: %s", got)
	}
	if s := b.decide(form, "accept"); s.code != http.StatusForbidden {
		t.Errorf("accepted twice: %d", s.code)
	}
	// The link is spent.
	h.github.Sit(&fakegithub.Person{ID: 666, Login: "mallory", Orgs: ann().Orgs, Teams: ann().Teams})
	late := h.browser()
	if s, form := late.open(link); form != nil || s.code != http.StatusForbidden || late.signedIn() || !strings.Contains(s.body, "not valid") {
		t.Errorf("a spent link: %+v", s)
	}
}

func TestInvitationRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *house, p identity.Person)
		answer string // "": no question is asked
		code   int
		spent  bool
	}{
		"declined":              {func(*house, identity.Person) {}, "refuse", 403, false},
		"expired":               {func(h *house, _ identity.Person) { h.now = h.now.Add(24 * time.Hour) }, "", 403, true},
		"person gone":           {func(h *house, p identity.Person) { delete(h.store.people, p.ID) }, "", 403, true},
		"person disabled":       {func(h *house, p identity.Person) { p.Disabled = h.now; h.store.people[p.ID] = p }, "accept", 403, true},
		"not in the team":       {func(h *house, _ identity.Person) { h.github.Sit(&fakegithub.Person{ID: 5, Login: "x"}) }, "", 403, false},
		"account has a mailbox": {func(h *house, _ identity.Person) { h.bind("583231", h.person("kate@example.org")) }, "", 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, members)
			p := h.person("ann@example.org")
			link := h.invite(p)
			h.github.Sit(ann())
			c.change(h, p)
			b := h.browser()
			s, form := b.open(link)
			if (form != nil) != (c.answer != "") {
				t.Fatalf("asked %t: %+v", form != nil, s)
			}
			if form != nil {
				s = b.decide(form, c.answer)
			}
			if s.code != c.code || strings.Contains(s.body, "home of ann@") {
				t.Errorf("%+v", s)
			}
			for key, binding := range h.store.bindings {
				if binding.Person == p.ID {
					t.Errorf("%v became ann's", key)
				}
			}
			left := 0
			for key := range h.store.once {
				if strings.HasPrefix(key, invitationKind) && h.now.Before(h.store.expires[key]) {
					left++
				}
			}
			if (left == 0) != c.spent {
				t.Errorf("%d invitations are left", left)
			}
		})
	}
}

// The question belongs to the browser that was asked, and to our own page.
func TestInvitationOfAnotherBrowser(t *testing.T) {
	h := newHouse(t)
	link := h.invite(h.person("ann@example.org"))
	h.github.Sit(ann())
	b := h.browser()
	_, form := b.open(link)
	other := h.browser()
	other.walk("/signin", "/callback?")
	if s := other.decide(form, "accept"); s.code != http.StatusForbidden || other.signedIn() || len(h.store.bindings) != 0 {
		t.Errorf("another browser said yes: %+v", s)
	}
	h.now = h.now.Add(pendingLife)
	if s := b.decide(form, "accept"); s.code != http.StatusForbidden || b.signedIn() || len(h.store.bindings) != 0 {
		t.Errorf("an answer that comes too late: %+v", s)
	}
	for _, bad := range []string{"short", strings.Repeat("a", 44), "../../x"} {
		if s := h.browser().walk("/signin/invitation?code="+url.QueryEscape(bad), ""); s.code != http.StatusForbidden {
			t.Errorf("%q: %d", bad, s.code)
		}
	}
	if _, err := Invite(t.Context(), h.store, io.LimitReader(rand.Reader, 3), public, "p", h.now); err == nil {
		t.Error("an invitation without randomness")
	}
}
