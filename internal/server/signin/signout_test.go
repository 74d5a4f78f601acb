package signin

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestEndedHalves: a half sign-in ends with the session at the provider that it stands on, or
// with all of its account there; later ones, and those of others, go on.
func TestEndedHalves(t *testing.T) {
	const issuer, other = "https://op.test", "https://other.test"
	h := newHouse(t)
	desk := &Desk{Options{Store: h.store, Now: func() time.Time { return h.now }}}
	at := func(issuer, session, subject string, minute int) half {
		a := Account{Issuer: issuer, Subject: subject}
		if session != "" {
			a.Upstream = issuer + " " + session
		}
		return half{Account: a, At: time.Unix(1_800_000_000, 0).Add(time.Duration(minute) * time.Minute)}
	}
	h.now = h.now.Add(2 * time.Minute)
	for _, end := range [][2]string{{"s1", "ann"}, {"s2", ""}, {"", "bob"}} {
		if err := EndHalves(t.Context(), h.store, issuer, end[0], end[1], h.now); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		half  half
		ended bool
	}{
		"the session":                      {at(issuer, "s1", "ann", 1), true},
		"another session of hers":          {at(issuer, "s9", "ann", 1), false},
		"one of hers without a session":    {at(issuer, "", "ann", 1), false},
		"a session that came with no name": {at(issuer, "s2", "eve", 1), true},
		"all of bob's":                     {at(issuer, "s3", "bob", 1), true},
		"bob's without a session":          {at(issuer, "", "bob", 1), true},
		"bob's, begun since":               {at(issuer, "s4", "bob", 3), false},
		"the session, at that moment":      {at(issuer, "s1", "ann", 2), true},
		"the same names elsewhere":         {at(other, "s1", "bob", 1), false},
	} {
		if ended, err := desk.ended(t.Context(), c.half); err != nil || ended != c.ended {
			t.Errorf("%s: ended %v, %v", what, ended, err)
		}
	}
	h.store.down = true
	if _, err := desk.ended(t.Context(), at(issuer, "s1", "ann", 1)); err == nil {
		t.Error("a store that is away lets it go on")
	}
	if EndHalves(t.Context(), h.store, issuer, "s1", "", h.now) == nil {
		t.Error("a store that is away ends them")
	}
	for issuer, want := range map[string]string{"https://op.test": "login", "https://accounts.google.com": "select_account"} {
		if got := afreshPrompt(issuer); got != want {
			t.Errorf("%s is asked with %s", issuer, got)
		}
	}
}

// TestLogoutWhileCompleting: the provider's log-out comes after the half sign-in was found and
// before it is a session, and finds neither to end.
func TestLogoutWhileCompleting(t *testing.T) {
	const issuer = "https://op.test"
	for what, c := range map[string]struct {
		session, subject string // of the log-out
		left             int
	}{"of the session": {"s1", "", 0}, "of the account": {"", "ann", 0}, "of another session": {"s2", "ann", 1}} {
		h := newHouse(t)
		desk := &Desk{Options{Store: h.store, Sessions: h.sessions, Now: func() time.Time { return h.now }, Log: slog.New(slog.DiscardHandler)}}
		person := identity.Person{ID: "p-ann", Address: "ann@example.org"}
		found := waiting{key: journeyKey("half", "browser", "name"), browser: "browser", person: person,
			half: half{person.ID, Account{Issuer: issuer, Subject: "ann", Upstream: issuer + " s1"}, "/", h.now}}
		if err := h.store.PutOnce(t.Context(), found.key, halfKind, nil, h.now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		h.store.starting = func() {
			if err := EndHalves(t.Context(), h.store, issuer, c.session, c.subject, h.now); err != nil {
				t.Error(err)
			}
		}
		w := httptest.NewRecorder()
		err := desk.complete(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, public+"/signin/factor", nil), found, "totp")
		if (err == nil) != (c.left == 1) || len(h.store.sessions) != c.left {
			t.Errorf("a log-out %s: %d sessions, %v", what, len(h.store.sessions), err)
		}
	}
}

// TestGitHubAfterLogout: after a log-out GitHub shows whom it would let in, and never else.
func TestGitHubAfterLogout(t *testing.T) {
	g := NewGitHub(GitHubOptions{ClientID: "us"})
	for afresh, want := range map[bool]string{true: "select_account", false: ""} {
		at, err := g.Begin(t.Context(), Flow{RedirectURI: public + "/signin/github/callback", State: "s", Verifier: strings.Repeat("v", 43), Afresh: afresh})
		if err != nil || value(at, "prompt") != want || value(at, "allow_signup") != "false" {
			t.Errorf("afresh %v: %s, %v", afresh, at, err)
		}
	}
}
