//go:build unix

package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

const (
	googleID     = "1234-abc.apps.googleusercontent.com"
	googleSecret = "GOCSPX-c4n4ry"
)

// newGoogle is a world with Google in it: a desktop client of one's own, a consumer and
// a member of a Workspace.
func newGoogle(t *testing.T) (*world, *fakeidp.Google) {
	var g *fakeidp.Google
	w := newWorld(t, func(clock func() time.Time) []fakeidp.Provider {
		g = fakeidp.NewGoogle(clock)
		return []fakeidp.Provider{g}
	})
	w.resetGoogle(g)
	return w, g
}

func (w *world) resetGoogle(g *fakeidp.Google) {
	w.calm()
	g.With(func() {
		g.Lifetime, g.Forge, g.AtBrowser = 3599, nil, ""
		g.Clients = map[string]*fakeidp.GoogleClient{googleID: {Secret: googleSecret, Type: "desktop"}}
		g.People = map[string]*fakeidp.GooglePerson{
			"you@gmail.com": {}, "other@gmail.com": {}, "you@corp.example": {Workspace: "corp.example"},
		}
	})
}

// registerGoogle gives letterlock the client.
func registerGoogle(h *home) {
	h.t.Helper()
	h.must("", "letterlock", "register", "google", "--client-id", googleID, "--client-secret-file", h.write("secret", googleSecret+"\n"))
}

func TestGoogle(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	for _, c := range []struct {
		name, address string
		client        fakeidp.GoogleClient
		args          []string
	}{
		{"consumer", "you@gmail.com", fakeidp.GoogleClient{}, []string{"--flow", "browser"}},
		{"consumer, paste", "you@gmail.com", fakeidp.GoogleClient{}, []string{"--flow", "paste"}},
		{"consumer, app in Testing", "you@gmail.com", fakeidp.GoogleClient{Testing: true, TestUsers: []string{"you@gmail.com"}}, []string{"--flow", "browser"}},
		{"workspace", "you@corp.example", fakeidp.GoogleClient{}, []string{"--provider", "google", "--flow", "browser"}},
		{"workspace, internal app", "you@corp.example", fakeidp.GoogleClient{Internal: "corp.example"}, []string{"--provider", "google", "--flow", "paste"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.resetGoogle(g)
			c.client.Secret, c.client.Type = googleSecret, "desktop"
			g.With(func() { g.Clients[googleID] = &c.client })
			h := w.person(t)
			registerGoogle(h)
			a := w.login(h, nil, append([]string{c.address}, c.args...)...)
			if a.code != 0 || a.stdout != "" || !strings.Contains(a.stderr, "signed in "+c.address+", may read and send mail") {
				t.Fatalf("login: %v", a)
			}
			asked, _ := url.Parse(a.address)
			if q := asked.Query(); q.Get("code_challenge_method") != "S256" || q.Get("login_hint") != c.address || q.Get("client_secret") != "" || strings.Contains(a.address, googleSecret) {
				t.Errorf("the person was sent to %s", a.address)
			}
			googleLife(t, g, h, c.address)
		})
	}
}

// googleLife is what comes after the sign-in: a token for each purpose, a refresh when
// it has expired, and the end.
func googleLife(t *testing.T, g *fakeidp.Google, h *home, address string) {
	t.Helper()
	refresh := h.grant(address).Refresh
	first := h.token(address)
	for _, purpose := range []string{"imap", "pop3", "smtp", "send"} {
		if token := h.token(address, "--for", purpose); token != first {
			t.Errorf("there is one token for all purposes, but %s got another", purpose)
		}
	}
	h.expire(address)
	second := h.token(address)
	if who, err := g.Check(second, fakeidp.GoogleMail); second == first || who != address || err != nil {
		t.Errorf("the refreshed token is of %q: %v", who, err)
	}
	if got := h.grant(address).Refresh; !got.Equal(refresh) {
		t.Error("Google does not rotate, but the refresh token is another")
	}
	h.letterlock("token", address, "--for", "graph").says(t, 77, "does not cover")
	if r := h.must("", "letterlock", "accounts"); !strings.Contains(r.stdout, address) || !strings.Contains(r.stdout, "google") {
		t.Errorf("accounts: %v", r)
	}
	if r := h.must("", "letterlock", "logout", address); !strings.Contains(r.stderr, "revoked at the provider") {
		t.Errorf("logout: %v", r)
	}
	if _, live := g.Refreshes()[refresh.Reveal()]; live {
		t.Error("logout did not revoke the grant at Google")
	}
	if _, err := g.Check(second, fakeidp.GoogleMail); err == nil {
		t.Error("the access token outlived the logout")
	}
	if h.grantFile(address) != nil {
		t.Error("the grant is still on disk")
	}
	h.letterlock("token", address).says(t, 77, "is not signed in", "letterlock login "+address)
}

// A right that can only send is for the Gmail API; no mail server is shown its token.
func TestGoogleSendOnly(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	h := w.person(t)
	registerGoogle(h)
	a := w.login(h, nil, "you@gmail.com", "--account", "cron", "--send-only", "--flow", "browser")
	if a.code != 0 || !strings.Contains(a.stderr, "may send mail and cannot read it") {
		t.Fatalf("login: %v", a)
	}
	asked, _ := url.Parse(a.address)
	if scope := asked.Query().Get("scope"); strings.Contains(scope, "https://mail.google.com/") || !strings.Contains(scope, fakeidp.GmailSend) {
		t.Errorf("the consent is for %q", scope)
	}
	token := h.token("cron", "--for", "send")
	if who, err := g.Check(token, fakeidp.GmailSend); who != "you@gmail.com" || err != nil {
		t.Errorf("the token is of %q: %v", who, err)
	}
	if _, err := g.Check(token, fakeidp.GoogleMail); err == nil {
		t.Error("the token can read mail")
	}
	for _, purpose := range []string{"imap", "pop3", "smtp"} {
		h.letterlock("token", "cron", "--for", purpose).says(t, 77, "does not cover")
	}
}

// Google's device flow has no mail scopes: it is not offered, and asking for it is
// explained before anything is sent.
func TestGoogleDevice(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	h := w.person(t, "SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22")
	registerGoogle(h)
	a := w.login(h, nil, "you@gmail.com", "--flow", "device")
	a.says(t, 69, "no sign-in by device code for mail", "--flow paste")
	if got := w.net.Asked(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
	a = w.login(h, nil, "you@gmail.com")
	if !strings.Contains(a.stderr, "signing in by paste: this is an ssh session") {
		t.Errorf("over ssh: %v", a)
	}
	// What the refusal spares people: the endpoint says no, whoever asks.
	resp := post(t, w, "https://oauth2.googleapis.com/device/code", url.Values{"client_id": {googleID}, "scope": {fakeidp.GoogleMail}})
	if resp != http.StatusUnauthorized || g.Fired()["device-client-type"] != 1 {
		t.Errorf("Google answered %d: %v", resp, g.Fired())
	}
}

// post asks a provider directly.
func post(t *testing.T, w *world, address string, form url.Values) int {
	t.Helper()
	proxy, err := url.Parse(w.net.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: w.ca.Client(), DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
