package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
)

// A member who leaves the organisation at GitHub is suspended by the next look, without
// anybody coming back; who is a member again comes in by the next look, or at once by
// signing in. The directory is answered below public_url.
func TestMemberLeavesAndReturns(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d := bareDesk(t, "http")
	d.github = fakegithub.New(time.Now, "app", "hush", d.public+"/signin/github/callback")
	members := []fakegithub.Membership{{ID: 9919, State: "active"}}
	ann := &fakegithub.Person{ID: 7, Login: "octo-ann", Orgs: members}
	d.github.App = &fakegithub.App{ID: "4711", Key: &key.PublicKey, Installations: []*fakegithub.Installation{{ID: 3, Org: 9919, Members: "read"}}}
	d.github.Organizations = []*fakegithub.Org{{ID: 9919, Login: "acme"}}
	d.github.Accounts = []*fakegithub.Person{ann, {ID: 8, Login: "bob", Orgs: members}}
	at := httptest.NewServer(d.github)
	t.Cleanup(at.Close)
	d.configure("example.org", fmt.Sprintf(`[signin.github]
type = "github"
url = %[1]q
client_id = "app"
client_secret_file = %[2]q
organization = 9919
[membership.github]
app_id = "4711"
app_key_file = %[3]q
[scim]
token_file = %[4]q
`, at.URL, d.write("secret", "hush\n"), d.write("app.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))),
		d.write("scim.token", strings.Repeat("t", 40)+"\n")))
	for name, id := range map[string]string{"ann": "7", "bob": "8"} {
		d.must("person", "add", name+"@example.org")
		d.must("person", "bind", name+"@example.org", "--issuer", at.URL, "--subject", id)
	}
	d.must("person", "add", "local@example.org")
	d.serve()

	now := time.Now()
	l := &plan{conf: d.p.conf, db: d.p.db, log: slog.New(slog.DiscardHandler), now: time.Now}
	asker, err := l.asker(d.p, "github")
	if err != nil {
		t.Fatal(err)
	}
	checker, err := membership.New(membership.Options{Store: d.p.db, Holder: "test", Now: func() time.Time { return now }, Log: l.log,
		Providers: []membership.Provider{{Name: "github", Issuer: at.URL, Asker: asker, Every: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, out bool) {
		t.Helper()
		now = now.Add(2 * time.Hour)
		if err := checker.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"ann": out, "bob": false, "local": false} {
			if p, _, _ := d.person(name + "@example.org"); p.Disabled.IsZero() == want {
				t.Errorf("%s: %s is disabled %v (%s)", what, name, !want, p.Reason)
			}
		}
	}
	signIn := func() *http.Response {
		t.Helper()
		d.github.Sit(ann)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Jar: jar, Timeout: time.Minute}).Get(d.public + "/signin/github")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res
	}
	signIn()
	look("a member", false)
	if _, sessions, _ := d.person("ann@example.org"); len(sessions) != 1 {
		t.Fatalf("%d sessions", len(sessions))
	}
	d.github.With(func() { ann.Orgs = nil })
	look("left", true)
	if _, sessions, _ := d.person("ann@example.org"); len(sessions) != 0 {
		t.Errorf("%d sessions are left", len(sessions))
	}
	if shown := d.must("membership", "show"); !strings.Contains(shown, "ann@example.org") || !strings.Contains(shown, "out") || !strings.Contains(shown, "not in the organisation") {
		t.Errorf("membership show: %s", shown)
	}
	if res := signIn(); res.StatusCode != http.StatusForbidden {
		t.Errorf("signing in without being a member: %s", res.Status)
	}
	d.github.With(func() { ann.Orgs = members })
	signIn()
	if p, sessions, _ := d.person("ann@example.org"); !p.Disabled.IsZero() || len(sessions) != 1 {
		t.Errorf("who proved to belong again: disabled %v, %d sessions", p.Disabled, len(sessions))
	}
	d.github.With(func() { ann.Orgs = nil })
	look("left again", true)
	d.github.With(func() { ann.Orgs = members })
	look("a member by the next look", false)
	// What an administrator said is not undone by a sign-in.
	d.must("person", "disable", "ann@example.org")
	if res := signIn(); res.StatusCode != http.StatusForbidden {
		t.Errorf("disabled by hand: %s", res.Status)
	}

	for token, want := range map[string]int{strings.Repeat("t", 40): http.StatusOK, "wrong": http.StatusUnauthorized} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.public+"/scim/v2/Users?filter=userName+eq+%22bob%40example.org%22", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want || want == http.StatusOK && !strings.Contains(string(text), d.public+"/scim/v2/Users/") {
			t.Errorf("directory with %s: %s %s", token, res.Status, text)
		}
	}
}
