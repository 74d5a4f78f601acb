package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestAuthCodeURL(t *testing.T) {
	conn := &Conn{
		Endpoints: Endpoints{Authorization: "https://idp.example/authorize?tenant=a%20b"},
		Client:    Client{ID: "client", Secret: hidden("canary-secret"), Auth: AuthPost},
	}
	verifier, state := NewVerifier(), NewState()
	got, err := conn.AuthCodeURL(AuthRequest{
		RedirectURI: "http://127.0.0.1:4711/", State: state, Verifier: verifier, Nonce: "n",
		Scopes: []string{"openid", "https://mail.google.com/"}, LoginHint: "me+you@example.com",
		Extra: url.Values{"access_type": {"offline"}, "prompt": {"consent"}, "resource": {"https://a", "https://b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(verifier.Reveal()))
	want := url.Values{
		"tenant": {"a b"}, "response_type": {"code"}, "client_id": {"client"}, "redirect_uri": {"http://127.0.0.1:4711/"},
		"state": {state}, "nonce": {"n"}, "scope": {"openid https://mail.google.com/"}, "login_hint": {"me+you@example.com"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"access_type": {"offline"}, "prompt": {"consent"}, "resource": {"https://a", "https://b"},
	}
	if u.Query().Encode() != want.Encode() || u.Host != "idp.example" || u.Path != "/authorize" {
		t.Errorf("got  %s\nwant %s", got, want.Encode())
	}
	if strings.Contains(got, "canary") || strings.Contains(got, verifier.Reveal()) {
		t.Errorf("URL carries a secret: %s", got)
	}
}

func TestAuthCodeURLRefusals(t *testing.T) {
	good := AuthRequest{State: "s", Verifier: hidden("v")}
	with := func(name string) AuthRequest {
		req := good
		req.Extra = url.Values{name: {"evil"}}
		return req
	}
	for _, test := range []struct {
		name, place string
		req         AuthRequest
		want        string
	}{
		{"no state", "https://idp/a", AuthRequest{Verifier: hidden("v")}, "state"},
		{"no PKCE", "https://idp/a", AuthRequest{State: "s"}, "PKCE"},
		{"secret in extra", "https://idp/a", with("client_secret"), "client_secret"},
		{"token in extra", "https://idp/a", with("id_token_hint"), "id_token_hint"},
		{"verifier in extra", "https://idp/a", with("code_verifier"), "code_verifier"},
		{"state replaced", "https://idp/a", with("state"), "state"},
		{"challenge replaced", "https://idp/a", with("code_challenge_method"), "code_challenge_method"},
		{"redirect replaced", "https://idp/a", with("response_type"), "response_type"},
		{"endpoint sets client_id", "https://idp/a?client_id=evil", good, "client_id"},
		{"plain http", "http://idp/a", good, "loopback"},
		{"script", "javascript:alert(1)", good, "host"},
		{"user name", "https://me:pw@idp/a", good, "user name"},
		{"fragment", "https://idp/a#x", good, "fragment"},
		{"newline", "https://idp/a\n", good, "characters"},
	} {
		conn := &Conn{Endpoints: Endpoints{Authorization: test.place}, Client: Client{ID: "client"}}
		got, err := conn.AuthCodeURL(test.req)
		if got != "" || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	conn := &Conn{Client: Client{ID: "client"}}
	if _, err := conn.AuthCodeURL(good); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no endpoint: %v", err)
	}
}

func TestRandomness(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		for _, text := range []string{NewState(), NewVerifier().Reveal()} {
			raw, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(raw) != 32 || seen[text] {
				t.Fatalf("%q: %v, %d bytes, seen before: %v", text, err, len(raw), seen[text])
			}
			seen[text] = true
		}
	}
}

func TestParseCallback(t *testing.T) {
	for _, test := range []struct {
		query, code, state, iss, fault, want string
	}{
		{query: "code=c%2B1&state=s&iss=https%3A%2F%2Fidp", code: "c+1", state: "s", iss: "https://idp"},
		{query: "?code=c&state=s&session_state=x&authuser=0", code: "c", state: "s"},
		{query: "error=access_denied&error_description=no%0D%0Athanks&state=s", state: "s", fault: "authorization: access_denied: no thanks"},
		{query: "error=x%1b%5B31m&state=s", state: "s", fault: "authorization: x?[31m"},
		{query: "", want: "neither"},
		{query: "state=s", want: "neither"},
		{query: "code=&error=", want: "neither"},
		{query: "code=c&error=access_denied", want: "both"},
		{query: "code=a&code=b&state=s", want: "twice"},
		{query: "code=a&state=s&state=t", want: "twice"},
		{query: "code=a&iss=https://a&iss=https://b", want: "twice"},
		{query: "code=a&%73tate=s&state=t", want: "twice"},
		{query: "code=a;state=s", want: "malformed"},
		{query: "code=%zz", want: "malformed"},
		{query: "code=a%0Ab", want: "characters"},
		{query: "code=" + strings.Repeat("a", maxCallback), want: "more than"},
	} {
		cb, err := ParseCallback(test.query)
		if test.want != "" {
			wantError(t, err, test.want)
			continue
		}
		got := ""
		if cb.Err != nil {
			got = cb.Err.Error()
		}
		if err != nil || cb.Code.Reveal() != test.code || cb.State != test.state || cb.Iss != test.iss || got != test.fault {
			t.Errorf("%s: %+v %q %v", test.query, cb, got, err)
		}
	}
	if _, err := ParseCallback("favicon=1"); !errors.Is(err, ErrNoResponse) {
		t.Errorf("a stray request: %v", err)
	}
}

func TestCheckCallback(t *testing.T) {
	const template = "https://login.microsoftonline.com/{tenantid}/v2.0"
	for _, test := range []struct {
		name      string
		issuer    Issuer
		required  bool
		cb        Callback
		state     string
		wantError string
	}{
		{"good", "https://a", true, Callback{State: "s", Iss: "https://a"}, "s", ""},
		{"no iss, none promised", "https://a", false, Callback{State: "s"}, "s", ""},
		{"no iss, promised", "https://a", true, Callback{State: "s"}, "s", "without issuer"},
		{"wrong iss, promised", "https://a", true, Callback{State: "s", Iss: "https://b"}, "s", "another issuer"},
		{"wrong iss, none promised", "https://a", false, Callback{State: "s", Iss: "https://b"}, "s", "another issuer"},
		{"iss with a slash more", "https://a", true, Callback{State: "s", Iss: "https://a/"}, "s", "another issuer"},
		{"iss promised, issuer unknown", "", true, Callback{State: "s", Iss: "https://a"}, "s", "another issuer"},
		{"issuer unknown", "", false, Callback{State: "s", Iss: "https://a"}, "s", ""},
		{"wrong state", "https://a", true, Callback{State: "t", Iss: "https://a"}, "s", "wrong state"},
		{"no state", "https://a", true, Callback{Iss: "https://a"}, "s", "wrong state"},
		{"no state on either side", "https://a", true, Callback{Iss: "https://a"}, "", "wrong state"},
		{"any tenant", template, false, Callback{State: "s", Iss: "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"}, "s", ""},
		{"tenant with a path", template, false, Callback{State: "s", Iss: "https://login.microsoftonline.com/a/b/v2.0"}, "s", "another issuer"},
		{"no tenant", template, false, Callback{State: "s", Iss: "https://login.microsoftonline.com//v2.0"}, "s", "another issuer"},
		{"other host", template, false, Callback{State: "s", Iss: "https://login.evil.example/x/v2.0"}, "s", "another issuer"},
	} {
		conn := &Conn{Endpoints: Endpoints{Issuer: test.issuer, IssParameter: test.required}}
		err := conn.CheckCallback(test.cb, test.state)
		if test.wantError == "" && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.wantError != "" {
			wantError(t, err, test.wantError)
		}
	}
}
