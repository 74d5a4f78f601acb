package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A seat is a browser that is signed in at a desk and follows no redirect.
type seat struct {
	t      *testing.T
	public string
	cookie string
}

// sit puts a session into the database as sign-in does.
func (d *desk) sit(address string) *seat {
	d.t.Helper()
	now := time.Now()
	value, err := web.NewSecret(rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	person, err := d.p.db.PersonByAddress(d.t.Context(), address)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.p.db.AddSession(d.t.Context(), identity.Session{ID: identity.DigestOf(value), Person: person.ID, Proved: now, How: "github",
		From: netip.MustParseAddr("127.0.0.1"), Created: now, Seen: now, Expires: now.Add(time.Hour)}); err != nil {
		d.t.Fatal(err)
	}
	return &seat{d.t, d.public, value}
}

// do asks and returns the answer with its body read.
func (b *seat) do(method, place string, form url.Values, headers ...string) (*http.Response, string) {
	b.t.Helper()
	if strings.HasPrefix(place, "/") {
		place = b.public + place
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, place, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if b.cookie != "" {
		name := "letterlock"
		if r.URL.Scheme == "https" {
			name = "__Host-letterlock"
		}
		r.AddCookie(&http.Cookie{Name: name, Value: b.cookie})
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, string(body)
}

// press sends the form of a page whose action ends like that.
func (b *seat) press(page, action string, set ...string) (*http.Response, string) {
	b.t.Helper()
	found := regexp.MustCompile(`(?s)<form method="post" action="([^"]*` + regexp.QuoteMeta(action) + `)">(.*?)</form>`).FindStringSubmatch(page)
	if found == nil {
		b.t.Fatalf("no form for %s in %s", action, page)
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(found[2], -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	form.Del("limit") // a box that nobody has ticked
	for i := 0; i+1 < len(set); i += 2 {
		form.Set(set[i], set[i+1])
	}
	return b.do(http.MethodPost, html.UnescapeString(found[1]), form, "Origin", b.public)
}

// allow goes through consent and returns what came back to the program.
func (b *seat) allow(place string, set ...string) url.Values {
	b.t.Helper()
	res, page := b.do(http.MethodGet, place, nil)
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("consent: %s %s %s", res.Status, res.Header.Get("Location"), page)
	}
	res, page = b.press(page, "/consent", append([]string{"decision", "allow"}, set...)...)
	back, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("after consent: %s %s", res.Status, page)
	}
	return back.Query()
}

// peer is x/oauth2 with go-oidc's discovery: neither is ours.
func (d *desk) peer(id, secret string, scopes ...string) (*oidc.Provider, *oauth2.Config) {
	d.t.Helper()
	provider, err := oidc.NewProvider(d.t.Context(), d.public)
	if err != nil {
		d.t.Fatal(err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	if secret != "" {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return provider, &oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: endpoint, RedirectURL: "http://127.0.0.1:4711/cb", Scopes: scopes}
}

func (d *desk) register(name string) (id, token, uri string) {
	d.t.Helper()
	res, err := http.Post(d.public+"/register", "application/json", strings.NewReader(fmt.Sprintf(
		`{"client_name":%q,"redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`, name)))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var made struct {
		ID    string `json:"client_id"`
		Token string `json:"registration_access_token"`
		URI   string `json:"registration_client_uri"`
	}
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || res.StatusCode != http.StatusCreated {
		d.t.Fatalf("register: %s, %v", res.Status, err)
	}
	return made.ID, made.Token, made.URI
}

// TestMailProgram is a mail program's way through the daemon's own pages and database, by
// x/oauth2 and go-oidc: it registers, is allowed, renews, stands on the person's page by
// its name, and is revoked there.
func TestMailProgram(t *testing.T) {
	d := newDesk(t, "http")
	d.configure("example.org", "[oauth]\nregistration = true\n")
	d.must("person", "add", "ann@example.org")
	d.serve()
	ann := d.sit("ann@example.org")
	id, token, uri := d.register("Mutt <1>")
	provider, conf := d.peer(id, "", "openid", "email", "imap", "smtp", "offline_access")
	ctx, secret := t.Context(), oauth2.GenerateVerifier()
	back := ann.allow(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(secret), oidc.Nonce("n1")))
	if back.Get("iss") != d.public || back.Get("state") != "st" {
		t.Errorf("the answer is %v", back)
	}
	got, err := conf.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(secret))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := got.Extra("id_token").(string)
	checked, err := provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw)
	if err != nil || checked.Nonce != "n1" {
		t.Fatalf("ID token: %+v, %v", checked, err)
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(got))
	if err != nil || info.Subject != checked.Subject || info.Email != "ann@example.org" || !info.EmailVerified {
		t.Errorf("user info: %+v, %v", info, err)
	}
	next, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: got.RefreshToken}).Token()
	if err != nil || next.RefreshToken == got.RefreshToken {
		t.Fatalf("renewal: %v", err)
	}
	_, page := ann.do(http.MethodGet, "/", nil)
	if !strings.Contains(page, "Mutt &lt;1&gt;") || !strings.Contains(page, "chose its name itself") {
		t.Errorf("the person's page does not name the program: %s", page)
	}
	if res, page := ann.press(page, "/grants/revoke"); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("revocation: %s %s", res.Status, page)
	}
	if _, err = conf.TokenSource(ctx, &oauth2.Token{RefreshToken: next.RefreshToken}).Token(); !refused(err, "invalid_grant") {
		t.Errorf("renewal after the revocation: %v", err)
	}
	if trail := d.must("audit", "list", "--json"); !strings.Contains(trail, "grant.given") || !strings.Contains(trail, "grant.revoked") || strings.Contains(trail, "llrt_") {
		t.Errorf("audit trail: %s", trail)
	}
	// The registration ends, with what was allowed, and is not known any more.
	back = ann.allow(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(secret)))
	if got, err = conf.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(secret)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		method, token string
		want          int
	}{{"DELETE", "llrg_wrong", 401}, {"GET", token, 200}, {"DELETE", token, 204}, {"GET", token, 401}, {"DELETE", token, 401}} {
		if res, body := ann.do(step.method, uri, nil, "Authorization", "Bearer "+step.token); res.StatusCode != step.want || step.want == 200 && !strings.Contains(body, id) {
			t.Errorf("%s: %s %s, want %d", step.method, res.Status, body, step.want)
		}
	}
	if _, err = conf.TokenSource(ctx, &oauth2.Token{RefreshToken: got.RefreshToken}).Token(); !refused(err, "invalid_client") {
		t.Errorf("renewal after the deletion: %v", err)
	}
}

func refused(err error, code string) bool {
	retrieve, ok := err.(*oauth2.RetrieveError)
	if !ok {
		var wrapped interface{ Unwrap() error }
		if wrapped, ok = err.(interface{ Unwrap() error }); ok {
			return refused(wrapped.Unwrap(), code)
		}
		return false
	}
	return retrieve.ErrorCode == code
}

// Entered programs: the secret is shown once and holds, redirects are exact, PKCE is needed
// unless that was said, machines act as one mailbox, and who is disabled is out at once.
func TestEnteredPrograms(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	secret := d.must("client", "add", "webmail", "--name", "Web mail", "--redirect", "http://127.0.0.1:4711/cb", "--without-pkce", "--scope", "imap,smtp,openid")
	machine := d.must("client", "add", "board", "--name", "Board", "--person", "ann@example.org", "--scope", "imap,smtp", "--introspect")
	if !strings.HasPrefix(secret, "llcs_") || len(secret) != 48 || secret == machine {
		t.Fatalf("secrets %q, %q", secret, machine)
	}
	if list := d.must("client", "list", "--json"); strings.Contains(list, "llcs_") || !strings.Contains(list, `"webmail"`) || !strings.Contains(list, "acts as one mailbox") {
		t.Errorf("list: %s", list)
	}
	for _, args := range [][]string{
		{"webmail", "--name", "Again", "--redirect", "https://x.test/"},
		{"Up", "--name", "x", "--redirect", "https://x.test/"}, {"open", "--name", "x", "--redirect", "https://x.test/"}, {"x", "--redirect", "https://x.test/"},
		{"x", "--name", "x"}, {"x", "--name", "x", "--redirect", "http://evil.test/"}, {"x", "--name", "x", "--redirect", "https://x.test/#f"},
		{"x", "--name", "x", "--redirect", "https://x.test/", "--scope", "all"}, {"x", "--name", "x", "--public", "--without-pkce", "--redirect", "https://x.test/"},
		{"x", "--name", "x", "--person", "ann@example.org"}, {"x", "--name", "x", "--person", "nobody@example.org", "--scope", "imap"},
	} {
		if out, err := d.run(append([]string{"client", "add"}, args...)...); err == nil || out != "" {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	d.serve()
	ann, ctx := d.sit("ann@example.org"), t.Context()
	_, conf := d.peer("webmail", secret, "openid", "urn:ietf:params:oauth:scope:mail")
	back := ann.allow(conf.AuthCodeURL("st"))
	got, err := conf.Exchange(ctx, back.Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	if scope, _ := got.Extra("scope").(string); strings.Contains(scope, "scope:mail") || !strings.Contains(scope, "smtp") || strings.Contains(scope, "pop3") {
		t.Errorf("scope %q is more than the program may have, or less", scope)
	}
	ticket := func(form url.Values, id, secret string) (int, map[string]any) {
		t.Helper()
		res, body := (&seat{t: t, public: d.public}).do(http.MethodPost, "/token", form, "Authorization", basic(id, secret))
		var value map[string]any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatalf("%s %s", res.Status, body)
		}
		return res.StatusCode, value
	}
	renew := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}}
	for what, pair := range map[string][2]string{"a wrong secret": {"webmail", "llcs_x"}, "another's secret": {"webmail", machine}, "no secret": {"webmail", ""}} {
		if status, value := ticket(renew, pair[0], pair[1]); status != http.StatusUnauthorized || value["error"] != "invalid_client" {
			t.Errorf("%s: %d %v", what, status, value)
		}
	}
	// The machine: its own token, no refresh token, no more than was entered.
	status, value := ticket(url.Values{"grant_type": {"client_credentials"}, "scope": {"smtp"}}, "board", machine)
	if status != http.StatusOK || value["scope"] != "smtp" || value["refresh_token"] != nil {
		t.Fatalf("the machine: %d %v", status, value)
	}
	ask := func(token any) map[string]any {
		t.Helper()
		_, body := (&seat{t: t, public: d.public}).do(http.MethodPost, "/introspect", url.Values{"token": {fmt.Sprint(token)}}, "Authorization", basic("board", machine))
		var value map[string]any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatal(body)
		}
		return value
	}
	if told := ask(value["access_token"]); told["active"] != true || told["username"] != "ann@example.org" || told["client_id"] != "board" || told["exp"] == nil || told["iat"] == nil {
		t.Errorf("introspection: %v", told)
	}
	if status, bad := ticket(url.Values{"grant_type": {"client_credentials"}, "scope": {"pop3"}}, "board", machine); status != http.StatusBadRequest || bad["error"] != "invalid_scope" {
		t.Errorf("more than was entered: %d %v", status, bad)
	}
	if status, bad := ticket(url.Values{"grant_type": {"client_credentials"}}, "webmail", secret); status != http.StatusBadRequest || bad["error"] != "unauthorized_client" {
		t.Errorf("a program that is no machine: %d %v", status, bad)
	}
	// The person ends the machine's right on their own page.
	_, page := ann.do(http.MethodGet, "/", nil)
	card := regexp.MustCompile(`(?s)<h3>Board.*?</form>`).FindString(page)
	if res, _ := ann.press(card, "/grants/revoke"); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("revocation: %s", res.Status)
	}
	if status, bad := ticket(url.Values{"grant_type": {"client_credentials"}}, "board", machine); status != http.StatusBadRequest || bad["error"] != "invalid_grant" {
		t.Errorf("the machine after that: %d %v", status, bad)
	}
	if told := ask(value["access_token"]); told["active"] != false || len(told) != 1 {
		t.Errorf("its token: %v", told)
	}
	d.must("client", "disable", "webmail", "--reason", "lost")
	if status, bad := ticket(renew, "webmail", secret); status != http.StatusUnauthorized || bad["error"] != "invalid_client" {
		t.Errorf("the disabled program: %d %v", status, bad)
	}
	if trail := d.must("audit", "list", "--json"); !strings.Contains(trail, "client.added") || !strings.Contains(trail, "client.disabled") || strings.Contains(trail, "llcs_") {
		t.Errorf("audit trail: %s", trail)
	}
	d.must("client", "remove", "webmail")
	if _, err := d.run("client", "remove", "webmail"); err == nil {
		t.Error("a program that is not there was removed")
	}
}

func basic(id, secret string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, secret)
	return r.Header.Get("Authorization")
}

// The key of ID tokens is made by the first start, sealed, and is changed while the daemon
// runs; what the old one signed is good until it has expired.
func TestKeyRotation(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	d.must("client", "add", "mutt", "--name", "Mutt", "--public", "--redirect", "http://127.0.0.1:4711/cb")
	now := time.Now()
	d.serve()
	ann := d.sit("ann@example.org")
	provider, conf := d.peer("mutt", "", "openid", "imap")
	sign := func() string {
		t.Helper()
		secret := oauth2.GenerateVerifier()
		got, err := conf.Exchange(t.Context(), ann.allow(conf.AuthCodeURL("s", oauth2.S256ChallengeOption(secret))).Get("code"), oauth2.VerifierOption(secret))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := got.Extra("id_token").(string)
		if _, err := provider.Verifier(&oidc.Config{ClientID: "mutt"}).Verify(context.Background(), raw); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	sign()
	d.must("key", "rotate")
	var keys []keyView
	if err := json.Unmarshal([]byte(d.must("key", "list", "--json")), &keys); err != nil {
		t.Fatal(err)
	}
	states := []string{}
	for _, key := range keys {
		states = append(states, key.State)
	}
	if !slices.Equal(states, []string{"signs", "next"}) || keys[1].Active.Sub(now) < authserver.KeyLead-time.Second {
		t.Fatalf("after a rotation: %+v", keys)
	}
	if _, err := d.run("key", "rotate"); err == nil {
		t.Error("rotated twice at once")
	}
	stored, err := d.p.db.SigningKeys(t.Context())
	if err != nil || strings.Contains(string(stored[0].Sealed), "PRIVATE") || len(stored[0].Sealed) < 100 {
		t.Errorf("stored %v, %v", stored, err)
	}
	d.must("key", "rotate", "--now")
	if stored, err = d.p.db.SigningKeys(t.Context()); err != nil || len(stored) != 1 {
		t.Errorf("after --now: %v, %v", stored, err)
	}
}

// A flood of registrations from one network is refused; others, and this network's tokens,
// are not.
func TestProgramScale(t *testing.T) {
	begun := time.Now() // in one moment: what was counted fades from the end of ten minutes on
	l := &plan{conf: &config.Daemon{}, log: slog.New(slog.DiscardHandler), now: func() time.Time { return begun }}
	scale, err := l.programScale(nil)
	if err != nil {
		t.Fatal(err)
	}
	flood, other := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("198.51.100.5")
	let := 0
	for range 300 {
		if !scale.Refuse(t.Context(), authserver.ThrottleRegister, flood) {
			let++
			scale.Count(t.Context(), authserver.ThrottleRegister, flood)
		}
	}
	if let < 50 || let > 70 {
		t.Errorf("%d of 300 registrations in one moment", let)
	}
	if scale.Refuse(t.Context(), authserver.ThrottleToken, flood) || scale.Refuse(t.Context(), authserver.ThrottleRegister, other) {
		t.Error("tokens, or another network, are refused")
	}
	// Looking alone counts nothing.
	for range 1000 {
		if scale.Refuse(t.Context(), authserver.ThrottleToken, other) {
			t.Fatal("refused without a fault")
		}
	}
}
