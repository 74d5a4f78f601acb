//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

const day = 24 * time.Hour

// TestGoogleEndsGrants lists how Google ends or refuses a grant. Each time letterlock
// names cause and remedy, prints nothing that could pass for a token, and keeps the
// grant: Google may change its mind.
func TestGoogleEndsGrants(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	you := func() *fakeidp.GooglePerson { return g.People["you@gmail.com"] }
	client := func() *fakeidp.GoogleClient { return g.Clients[googleID] }
	for _, c := range []struct {
		refusal string
		testing bool          // the app is in Testing
		after   time.Duration // since sign-in and last use
		change  func()
		code    int
		texts   []string
	}{
		{"refresh-testing-7-days", true, 8 * day, nil, 77, []string{"invalid_grant", "Testing end 7 days after sign-in; the last sign-in was 8 days ago", "remedy: publish the app", "hint: letterlock login you@gmail.com"}},
		{"refresh-idle-6-months", false, 190 * day, nil, 77, []string{"end after 6 months without use; the last sign-in was 190 days ago", "hint: letterlock login you@gmail.com"}},
		{"refresh-revoked", false, 0, func() { g.Revoke("you@gmail.com") }, 77, []string{"Token has been expired or revoked", "rights taken back", "hint: letterlock login you@gmail.com"}},
		{"refresh-password", false, 0, func() { g.With(func() { you().PasswordChanged = time.Now().Add(time.Hour) }) }, 77, []string{"after a change of password", "hint: letterlock login you@gmail.com"}},
		{"refresh-rapt", false, 0, func() { g.With(func() { you().Reauth = true }) }, 77, []string{"invalid_rapt", "session control", "the administrator can exempt the client", "hint: letterlock login you@gmail.com"}},
		{"deleted-client", false, 0, func() { g.With(func() { client().Deleted = true }) }, 78, []string{"deleted_client", "clients unused for six months", "restore it within 30 days", "letterlock register google"}},
		{"unknown-client", false, 0, func() { g.With(func() { delete(g.Clients, googleID) }) }, 78, []string{"invalid_client", "letterlock register google"}},
		{"secret-wrong", false, 0, func() { g.With(func() { client().Secret = "another" }) }, 78, []string{"The provided client secret is invalid", "copy both again from the console", "letterlock register google"}},
	} {
		t.Run(c.refusal, func(t *testing.T) {
			w.resetGoogle(g)
			g.With(func() { client().Testing, client().TestUsers = c.testing, []string{"you@gmail.com"} })
			h := signedInAtGoogle(t, w)
			h.age("you@gmail.com", c.after)
			w.pass(c.after)
			if c.change != nil {
				c.change()
			}
			before, kept := g.Fired()[c.refusal], h.grantFile("you@gmail.com")
			r := h.letterlock("token", "you@gmail.com")
			r.says(t, c.code, c.texts...)
			if g.Fired()[c.refusal] != before+1 {
				t.Errorf("Google refused for another reason: %v", g.Fired())
			}
			if strings.Contains(r.stderr, googleSecret) {
				t.Errorf("the secret is shown: %v", r)
			}
			if !bytes.Equal(kept, h.grantFile("you@gmail.com")) {
				t.Error("the grant file was changed")
			}
			// What was refused is mended by what the hint says, or by nothing.
			if c.code == 77 {
				w.resetGoogle(g)
				if a := w.login(h, nil, "you@gmail.com", "--flow", "paste"); a.code != 0 {
					t.Errorf("the hint does not help: %v", a)
				}
				h.token("you@gmail.com")
			}
		})
	}
}

func signedInAtGoogle(t *testing.T, w *world) *home {
	t.Helper()
	h := w.person(t)
	registerGoogle(h)
	if a := w.login(h, nil, "you@gmail.com", "--flow", "browser"); a.code != 0 {
		t.Fatalf("login: %v", a)
	}
	return h
}

// TestGoogleRefusesSignIn lists how a sign-in ends without a grant. What Google shows
// as a page never comes back to letterlock: the person gives up, and the error book
// explains what the page says.
func TestGoogleRefusesSignIn(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	client := func() *fakeidp.GoogleClient { return g.Clients[googleID] }
	for _, c := range []struct {
		refusal string
		change  func()
		args    []string
		code    int
		texts   []string
		page    string // the code on Google's page
		remedy  string // what letterlock explain says of the page
	}{
		{"declined", func() { g.People["you@gmail.com"].Declines = true }, nil, 77, []string{"access_denied", "add the account under Audience, Test users, or publish the app"}, "", ""},
		{"not-test-user", func() { client().Testing = true }, nil, 75, nil, "access_denied", "Test users"},
		{"org-internal", func() { client().Internal = "corp.example" }, nil, 75, nil, "org_internal", "make the audience External"},
		{"admin-policy", func() { g.People["you@corp.example"].Blocked = true }, []string{"you@corp.example", "--provider", "google"}, 75, nil, "admin_policy_enforced", "send the text of letterlock register google to the administrator"},
		{"deleted-client", func() { client().Deleted = true }, nil, 75, nil, "deleted_client", "restore it within 30 days"},
		{"unknown-client", func() { delete(g.Clients, googleID) }, nil, 75, nil, "invalid_client", "letterlock register google"},
		{"redirect-mismatch", func() { client().Type = "tv" }, nil, 75, nil, "redirect_uri_mismatch", "make a client of type Desktop app"},
		{"secret-wrong", func() { client().Secret = "another" }, nil, 78, []string{"The provided client secret is invalid", "copy both again from the console"}, "", ""},
	} {
		t.Run(c.refusal, func(t *testing.T) {
			w.resetGoogle(g)
			g.With(c.change)
			h := w.person(t)
			registerGoogle(h)
			before := g.Fired()[c.refusal]
			args := c.args
			if args == nil {
				args = []string{"you@gmail.com"}
			}
			a := w.login(h, nil, append(args, "--flow", "browser")...)
			nothingKept(t, h, a, c.code, append(c.texts, pageTexts(c.page)...)...)
			if g.Fired()[c.refusal] != before+1 {
				t.Errorf("Google refused for another reason: %v", g.Fired())
			}
			explained(t, h, a.page, c.page, c.remedy)
		})
	}
}

// pageTexts are what letterlock says to a person who gave up at a page.
func pageTexts(page string) []string {
	if page == "" {
		return nil
	}
	return []string{"interrupted", "letterlock explain CODE"}
}

// nothingKept checks a sign-in that failed: the message, and that it left no grant and
// no account.
func nothingKept(t *testing.T, h *home, a *attempt, code int, texts ...string) {
	t.Helper()
	a.says(t, code, texts...)
	if names, err := h.store().List(); err != nil || len(names) != 0 {
		t.Errorf("there are grants: %v, %v", names, err)
	}
	config, err := os.ReadFile(h.path(".config/letterlock/config.toml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || bytes.Contains(config, []byte("[account")) {
		t.Errorf("there is an account: %s, %v", config, err)
	}
}

// explained checks that the page has the code, and that the error book, given what the
// page says, has the remedy.
func explained(t *testing.T, h *home, page, code, remedy string) {
	t.Helper()
	if code == "" {
		if page != "" {
			t.Errorf("the provider showed %s", page)
		}
		return
	}
	if !strings.Contains(page, code) {
		t.Fatalf("%s is not on the page %q", code, page)
	}
	if r := h.must("", "letterlock", "explain", page); !strings.Contains(r.stdout, remedy) {
		t.Errorf("%q is not among the advice on the page: %v", remedy, r)
	}
}

// A secret that is missing is said before anybody is sent to a browser.
func TestGoogleSecretMissing(t *testing.T) {
	t.Parallel()
	w, _ := newGoogle(t)
	h := w.person(t)
	h.letterlock("register", "google", "--client-id", googleID).says(t, 78, "wants to see it", "--client-secret-file")
	h.letterlock("register", "google", "--client-id", "you@gmail.com").says(t, 65, "no client id", ".apps.googleusercontent.com")
	a := w.login(h, nil, "you@gmail.com", "--client-id", googleID)
	nothingKept(t, h, a, 78, "wants to see it", "letterlock register google")
	if got := w.net.Asked(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
}

// Whoever signs in at the browser has to be whom the address names, and the answer has
// to be Google's to this very request.
func TestGoogleChecksWhoSignedIn(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	for _, c := range []struct {
		name  string
		set   func()
		args  []string
		code  int
		texts []string
	}{
		{"another person", func() { g.AtBrowser = "other@gmail.com" }, []string{"--no-login-hint"}, 77, []string{"other@gmail.com signed in, not you@gmail.com", "nothing was kept"}},
		{"a box unticked", func() { g.People["you@gmail.com"].Unticks = []string{fakeidp.GoogleMail} }, nil, 77, []string{"did not grant https://mail.google.com/", "leave every box"}},
		{"another issuer", func() { g.Forge = func(claims map[string]any) { claims["iss"] = "https://accounts.evil.example" } }, nil, 69, []string{"cannot be trusted; nothing was kept"}},
		{"another client", func() { g.Forge = func(claims map[string]any) { claims["aud"] = "999.apps.googleusercontent.com" } }, nil, 69, []string{"cannot be trusted; nothing was kept"}},
		{"another request", func() { g.Forge = func(claims map[string]any) { claims["nonce"] = "old" } }, nil, 69, []string{"wrong nonce", "cannot be trusted; nothing was kept"}},
		{"long ago", func() {
			g.Forge = func(claims map[string]any) { claims["exp"] = time.Now().Add(-time.Hour).Unix() }
		}, nil, 69, []string{"cannot be trusted; nothing was kept"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.resetGoogle(g)
			g.With(c.set)
			h := w.person(t)
			registerGoogle(h)
			a := w.login(h, nil, append([]string{"you@gmail.com", "--flow", "paste"}, c.args...)...)
			nothingKept(t, h, a, c.code, c.texts...)
		})
	}
}

// A change is what somebody in between does to a request.
type change struct {
	refusal string // the one that it must lead to
	where   string // end of the path
	edit    func(url.Values)
	page    bool // shown to the person, and not sent back
}

func drop(name string) func(url.Values) { return func(v url.Values) { v.Del(name) } }

func put(name, value string) func(url.Values) {
	return func(v url.Values) { v.Set(name, value) }
}

// TestGoogleRefusesChangedRequests takes from letterlock's own requests what Google
// insists on: the fake, which takes them whole, refuses each when it lacks something.
func TestGoogleRefusesChangedRequests(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	for _, c := range []change{
		{"scope-missing", "/auth", drop("scope"), true},
		{"scope-unknown", "/auth", put("scope", "mail"), true},
		{"response-type", "/auth", put("response_type", "token"), true},
		{"redirect-mismatch", "/auth", put("redirect_uri", "https://letterlock.example/done"), true},
		{"oob", "/auth", put("redirect_uri", "urn:ietf:wg:oauth:2.0:oob"), true},
		{"challenge-method", "/auth", put("code_challenge_method", "S512"), true},
		{"challenge-length", "/auth", put("code_challenge", "short"), true},
		{"repeated-parameter", "/auth", func(v url.Values) { v.Add("client_id", "another") }, true},
		{"client-missing", "/token", drop("client_id"), false},
		{"secret-missing", "/token", drop("client_secret"), false},
		{"grant-type", "/token", put("grant_type", "password"), false},
		{"code-unknown", "/token", put("code", "4/0Aanother"), false},
		{"code-redirect", "/token", put("redirect_uri", "http://127.0.0.1:1"), false},
		{"verifier-missing", "/token", drop("code_verifier"), false},
		{"verifier-wrong", "/token", put("code_verifier", strings.Repeat("x", 43)), false},
	} {
		t.Run(c.refusal, func(t *testing.T) {
			w.resetGoogle(g)
			w.changeOnTheWay(c)
			h := w.person(t)
			registerGoogle(h)
			before := g.Fired()[c.refusal]
			a := w.login(h, nil, "you@gmail.com", "--flow", "browser")
			if g.Fired()[c.refusal] != before+1 || a.code == 0 || (a.page != "") != c.page || h.grantFile("you@gmail.com") != nil {
				t.Errorf("%v\npage: %s\nfired: %v", a, a.page, g.Fired())
			}
		})
	}
}

func (w *world) changeOnTheWay(c change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.between = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, c.where) {
			rewrite(r, c.edit)
		}
	}
}
