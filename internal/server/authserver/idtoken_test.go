package authserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
)

// checkID checks an ID token with go-oidc, which gets the keys by discovery.
func (b *bench) checkID(client, raw string) (*oidc.IDToken, error) {
	b.t.Helper()
	provider, err := oidc.NewProvider(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	return provider.Verifier(&oidc.Config{ClientID: client, Now: b.clock.Now}).Verify(b.t.Context(), raw)
}

func TestIDToken(t *testing.T) {
	b := newBench(t)
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap openid email", "nonce", "n1"))))
	token, err := b.checkID("mutt", got.text(t, "id_token"))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
		AuthTime int64  `json:"auth_time"`
	}
	if err := token.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if token.Subject != "p1" || token.Nonce != "n1" || claims.Email != "you@try.test" || !claims.Verified || claims.AuthTime != signedInAt().Unix() {
		t.Errorf("got subject %q, nonce %q, %+v", token.Subject, token.Nonce, claims)
	}
	if _, err := b.checkID("other", got.text(t, "id_token")); err == nil {
		t.Error("the token is good for another client")
	}
	if b.active(got.text(t, "id_token")) {
		t.Error("an ID token opens the mailbox")
	}
	b.clock.forward(11 * time.Minute)
	if _, err := b.checkID("mutt", got.text(t, "id_token")); err == nil {
		t.Error("the token does not expire")
	}
}

func TestIDTokenOnlyWhenAskedFor(t *testing.T) {
	b := newBench(t)
	if got := b.post("/token", codeForm(b.allow(authQuery("nonce", "n")))); got.text(t, "id_token") != "" {
		t.Error("an ID token without openid")
	}
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap openid"))))
	token, err := b.checkID("mutt", got.text(t, "id_token"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil || claims["email"] != nil || claims["nonce"] != nil {
		t.Errorf("without the email scope and nonce: %v %v", claims, err)
	}
	if scope := b.introspect(got.text(t, "access_token")).text(t, "scope"); scope != "imap" {
		t.Errorf("a mail server sees %q", scope)
	}
	// Who asks only who the person is gets that, and a token that opens no mailbox.
	got = b.post("/token", codeForm(b.allow(authQuery("scope", "openid email"))))
	if got.text(t, "id_token") == "" || b.active(got.text(t, "access_token")) {
		t.Errorf("sign-in without mail: %s", got.body)
	}
	info := b.userinfo(got.text(t, "access_token"))
	if claims := info.json(t); info.status != http.StatusOK || claims["sub"] != "p1" || claims["email"] != "you@try.test" {
		t.Errorf("user info: %d %s", info.status, info.body)
	}
	if back := b.get(b.browser("p1"), "/authorize?"+authQuery("scope", "email calendar").Encode()).location(t); back.Get("error") != "invalid_scope" {
		t.Errorf("nothing of use: %v", back)
	}
}

func (b *bench) userinfo(token string) answer {
	b.t.Helper()
	return b.postRaw(http.DefaultClient, "/userinfo", "", "Authorization", "Bearer "+token)
}

func TestIDTokenForDevices(t *testing.T) {
	b := newBench(t)
	start := b.post("/device_authorization", url.Values{"client_id": {"mutt"}, "scope": {"smtp openid email"}})
	if a := b.decide("p1", "/device?user_code="+start.text(t, "user_code"), "allow"); a.status != http.StatusSeeOther {
		t.Fatalf("decision: %d", a.status)
	}
	token, err := b.checkID("mutt", b.poll(start.text(t, "device_code")).text(t, "id_token"))
	if err != nil || token.Subject != "p1" {
		t.Errorf("%v %v", token, err)
	}
}

// TestNoIDKey: what is not there is not advertised.
func TestNoIDKey(t *testing.T) {
	b := newBench(t, func(o *authserver.Options) { o.IDKey = nil })
	found := b.get(http.DefaultClient, "/.well-known/openid-configuration")
	if strings.Contains(found.body, "jwks") || strings.Contains(found.body, `"openid"`) || strings.Contains(found.body, "id_token") {
		t.Errorf("advertised: %s", found.body)
	}
	if got := b.get(http.DefaultClient, "/jwks"); got.status != http.StatusNotFound {
		t.Errorf("keys: %d", got.status)
	}
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap openid"))))
	if scopes := strings.Fields(got.text(t, "scope")); slices.Contains(scopes, "openid") || got.text(t, "id_token") != "" {
		t.Errorf("granted %v, ID token %q", scopes, got.text(t, "id_token"))
	}
	wrong, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	options := authserver.Options{
		Issuer: "https://x.test", Key: make([]byte, 32), Codes: b.store, Devices: b.store, Tokens: b.store, Grants: b.store, People: b.store,
		SignIn: cookieSignIn{}, Now: time.Now, Random: rand.Reader, Log: discard(), IDKey: wrong,
	}
	if _, err := authserver.New(options); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Errorf("a P-384 key: %v", err)
	}
}
