package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An op is a small OpenID provider whose words can be bent; that a real one is understood
// shows the lab test.
type op struct {
	t        *testing.T
	url      string
	key, alt *ecdsa.PrivateKey
	now      func() time.Time
	claims   map[string]any
	bend     func(claims map[string]any) // before signing
	sign     *ecdsa.PrivateKey           // nil: the right one
	iss      *string                     // in the answer; nil: the right one
	issuer   string                      // in the metadata; "": the right one
	down     bool
	token    func(w http.ResponseWriter) bool // answers instead
	info     map[string]any                   // of userinfo; nil: none is there
	infoCode int                              // 0: 200
	asked    int                              // how often for userinfo

	query url.Values // of the last authorization request
	auth  string     // how the client proved itself
}

func newOP(t *testing.T, now func() time.Time) *op {
	t.Helper()
	p := &op{t: t, now: now, claims: map[string]any{"sub": "1001", "preferred_username": "ann", "email": "ann@example.org", "email_verified": true, "groups": []string{"mail", "staff"}, "sid": "s-1"}}
	for _, key := range []**ecdsa.PrivateKey{&p.key, &p.alt} {
		var err error
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *op) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		issuer := p.url
		if p.issuer != "" {
			issuer = p.issuer
		}
		more := ""
		if p.info != nil {
			more = p.url + "/userinfo"
		}
		p.json(w, map[string]any{"issuer": issuer, "userinfo_endpoint": more, "authorization_endpoint": p.url + "/auth", "token_endpoint": p.url + "/token", "jwks_uri": p.url + "/jwks",
			"device_authorization_endpoint": p.url + "/d", "revocation_endpoint": p.url + "/r", "registration_endpoint": p.url + "/g",
			"authorization_response_iss_parameter_supported": true})
	case "/userinfo":
		p.asked++
		if r.Header.Get("Authorization") != "Bearer a" || p.infoCode != 0 {
			w.WriteHeader(max(p.infoCode, http.StatusUnauthorized))
		}
		p.json(w, p.info)
	case "/jwks":
		p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	case "/auth":
		p.query = r.URL.Query()
		back := url.Values{"code": {"c"}, "state": {p.query.Get("state")}, "iss": {p.url}}
		if p.iss != nil {
			if back.Set("iss", *p.iss); *p.iss == "" {
				back.Del("iss")
			}
		}
		http.Redirect(w, r, p.query.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/token":
		p.exchange(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *op) json(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func (p *op) exchange(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.auth = "none"
	if r.PostForm.Get("client_secret") != "" {
		p.auth = "post"
	}
	if _, _, ok := r.BasicAuth(); ok {
		p.auth = "basic"
	}
	if oauth2.S256ChallengeFromVerifier(r.PostForm.Get("code_verifier")) != p.query.Get("code_challenge") || p.query.Get("code_challenge_method") != "S256" {
		w.WriteHeader(http.StatusBadRequest)
		p.json(w, map[string]string{"error": "invalid_grant", "error_description": "PKCE"})
		return
	}
	if p.token != nil && p.token(w) {
		return
	}
	claims := map[string]any{"iss": p.url, "aud": "client", "exp": p.now().Add(time.Hour).Unix(), "iat": p.now().Unix(), "nonce": p.query.Get("nonce")}
	for name, value := range p.claims {
		claims[name] = value
	}
	if p.bend != nil {
		p.bend(claims)
	}
	key := p.key
	if p.sign != nil {
		key = p.sign
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	text, _ := json.Marshal(claims)
	signed, err := signer.Sign(text)
	if err != nil {
		p.t.Error(err)
		return
	}
	compact, _ := signed.CompactSerialize()
	p.json(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": compact})
}

// atOP makes a house whose only provider is an op.
func atOP(t *testing.T, change func(*OIDCOptions, *Entrance)) (*house, *op) {
	t.Helper()
	h := newHouse(t)
	p := newOP(t, func() time.Time { return h.now })
	o := OIDCOptions{Label: "Campus", Issuer: p.url, ClientID: "client", Secret: secret.New("hush"), HTTP: httpClient(), Now: func() time.Time { return h.now }}
	e := Entrance{Name: "campus", Label: "Campus", BindVerified: true}
	if change != nil {
		change(&o, &e)
	}
	e.Provider = NewOIDC(o)
	h.serve(e)
	h.person("ann@example.org")
	return h, p
}

func text(s string) *string { return &s }

func TestOIDC(t *testing.T) {
	h, p := atOP(t, func(o *OIDCOptions, _ *Entrance) {
		o.Claim, o.Values, o.Scopes = "groups", []string{"mail"}, []string{"groups", "openid"}
	})
	b := h.browser()
	if s := b.signIn(); !strings.HasPrefix(s.body, "home of ann@example.org") {
		t.Fatalf("%+v", s)
	}
	if p.query.Get("scope") != "openid profile email groups" || p.query.Get("nonce") == "" || p.auth != "basic" ||
		p.query.Get("redirect_uri") != public+"/signin/campus/callback" {
		t.Errorf("asked with %v, proved by %s", p.query, p.auth)
	}
	for _, s := range h.store.sessions {
		if s.Upstream != p.url+" s-1" || s.How != "oidc:"+p.url {
			t.Errorf("%+v", s)
		}
	}
	binding := h.store.bindings[[2]string{p.url, "1001"}]
	if binding.Person != "id-ann@example.org" || binding.Shown != "ann" {
		t.Errorf("%+v", h.store.bindings)
	}
	// From now on the subject decides, and no address.
	h.person("kate@example.org")
	p.claims["email"] = "kate@example.org"
	if s := h.browser().signIn(); !strings.HasPrefix(s.body, "home of ann@example.org") {
		t.Errorf("an address moved an account: %+v", s)
	}
	p.claims["sub"] = "2002"
	if s := h.browser().signIn(); !strings.HasPrefix(s.body, "home of kate@example.org") {
		t.Errorf("%+v", s)
	}
}

// TestSignedOutAsksAfresh: after a log-out the provider is asked for a new proof, once, and
// nothing that was under way or half done in the browser is left.
func TestSignedOutAsksAfresh(t *testing.T) {
	h, p := atOP(t, func(o *OIDCOptions, _ *Entrance) { o.Again = true })
	b := h.browser()
	asked := func(want string) {
		t.Helper()
		if s := b.signIn(); !strings.HasPrefix(s.body, "home of ann@example.org") || p.query.Get("prompt") != want {
			t.Errorf("asked with prompt %q, want %q: %d %s", p.query.Get("prompt"), want, s.code, s.body)
		}
	}
	asked("consent")
	b.walk("/signin/campus", p.url) // a second sign-in is under way
	if s := b.one("POST", public+"/signout", url.Values{}); s.code != 200 || b.signedIn() || len(b.jar) != 1 {
		t.Errorf("signed out: %d, cookies left %v", s.code, b.jar)
	}
	asked("login consent")
	b.one("POST", public+"/signout?choose=1", url.Values{})
	asked("login consent")
	delete(b.jar, "__Host-letterlock") // the session alone ended
	asked("consent")
}

// What a wrong, bent or hostile provider says; nobody comes in by it.
func TestOIDCRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *house, p *op)
		code   int
	}{
		"another issuer in the answer (mix-up)": {func(_ *house, p *op) { p.iss = text("https://evil.test") }, 403},
		"no issuer in the answer":               {func(_ *house, p *op) { p.iss = text("") }, 403},
		"another issuer in the token":           {func(_ *house, p *op) { p.bend = func(c map[string]any) { c["iss"] = "https://evil.test" } }, 403},
		"another audience":                      {func(_ *house, p *op) { p.bend = func(c map[string]any) { c["aud"] = "other" } }, 403},
		"issued to another client":              {func(_ *house, p *op) { p.bend = func(c map[string]any) { c["azp"] = "other" } }, 403},
		"another nonce":                         {func(_ *house, p *op) { p.bend = func(c map[string]any) { c["nonce"] = "replayed" } }, 403},
		"no nonce":                              {func(_ *house, p *op) { p.bend = func(c map[string]any) { delete(c, "nonce") } }, 403},
		"expired":                               {func(h *house, p *op) { p.bend = func(c map[string]any) { c["exp"] = h.now.Add(-time.Hour).Unix() } }, 403},
		"no subject":                            {func(_ *house, p *op) { p.bend = func(c map[string]any) { delete(c, "sub") } }, 403},
		"another key":                           {func(_ *house, p *op) { p.sign = p.alt }, 403},
		"not in the group":                      {func(_ *house, p *op) { p.claims["groups"] = []string{"mail-admins", "x mail"} }, 403},
		"group in one text":                     {func(_ *house, p *op) { p.claims["groups"] = "mail staff" }, 403},
		"no groups":                             {func(_ *house, p *op) { delete(p.claims, "groups") }, 403},
		"groups are null":                       {func(_ *house, p *op) { p.claims["groups"] = nil }, 403},
		"email not verified (nOAuth)":           {func(_ *house, p *op) { p.claims["email_verified"] = false }, 403},
		"nothing said about it (nOAuth, Entra)": {func(_ *house, p *op) { delete(p.claims, "email_verified") }, 403},
		"verified is a text":                    {func(_ *house, p *op) { p.claims["email_verified"] = "true" }, 403},
		"verified is a number":                  {func(_ *house, p *op) { p.claims["email_verified"] = 1 }, 403},
		"address in a name only":                {func(_ *house, p *op) { p.claims["preferred_username"] = "ann@example.org"; delete(p.claims, "email") }, 403},
		"two at signs":                          {func(_ *house, p *op) { p.claims["email"] = "ann@evil.test@example.org" }, 403},
		"another domain":                        {func(_ *house, p *op) { p.claims["email"] = "ann@evil.test" }, 403},
		"metadata of another issuer":            {func(_ *house, p *op) { p.issuer = "https://evil.test" }, 502},
		"away":                                  {func(_ *house, p *op) { p.down = true }, 502},
		"no ID token": {func(_ *house, p *op) {
			p.token = func(w http.ResponseWriter) bool {
				p.json(w, map[string]string{"access_token": "a", "token_type": "Bearer"})
				return true
			}
		}, 403},
		"an answer without end": {func(_ *house, p *op) {
			p.token = func(w http.ResponseWriter) bool {
				fmt.Fprintf(w, `{"access_token":"%s"}`, strings.Repeat("a", 2<<20))
				return true
			}
		}, 502},
		"an answer that is a page": {func(_ *house, p *op) {
			p.token = func(w http.ResponseWriter) bool { fmt.Fprint(w, "<html>hello"); return true }
		}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := atOP(t, func(o *OIDCOptions, _ *Entrance) { o.Claim, o.Values = "groups", []string{"mail"} })
			c.change(h, p)
			b := h.browser()
			s := b.signIn()
			if s.code != c.code || b.signedIn() || len(h.store.bindings) != 0 {
				t.Errorf("%d, signed in %t, bound %v: %s", s.code, b.signedIn(), h.store.bindings, s.body)
			}
		})
	}
}

// TestOIDCUserInfo: what the ID token leaves out is asked for, of the same subject, and the
// word that an address is verified is never taken to another address.
func TestOIDCUserInfo(t *testing.T) {
	all := map[string]any{"sub": "1001", "email": "ann@example.org", "email_verified": true, "groups": []string{"mail"}, "name": "Ann"}
	with := func(name string, value any) map[string]any {
		m := maps.Clone(all)
		m[name] = value
		return m
	}
	for name, c := range map[string]struct {
		leave    []string // out of the ID token
		claims   map[string]any
		info     map[string]any
		infoCode int
		code     int // 200: ann is in
		asked    int
	}{
		"nothing is left out":                    {info: all, code: 200},
		"all is left out":                        {leave: []string{"email", "email_verified", "groups"}, info: all, code: 200, asked: 1},
		"the groups are":                         {leave: []string{"groups"}, info: all, code: 200, asked: 1},
		"only whether it is verified":            {leave: []string{"email_verified"}, info: all, code: 200, asked: 1},
		"verified is another address":            {leave: []string{"email_verified"}, claims: map[string]any{"email": "kate@example.org"}, info: all, code: 403, asked: 1},
		"verified in the token, address not":     {leave: []string{"email"}, info: with("email_verified", false), code: 403, asked: 1},
		"not verified there":                     {leave: []string{"email", "email_verified"}, info: with("email_verified", "true"), code: 403, asked: 1},
		"of another subject":                     {leave: []string{"email"}, info: with("sub", "1002"), code: 403, asked: 1},
		"of no subject":                          {leave: []string{"email"}, info: with("sub", nil), code: 403, asked: 1},
		"groups of another subject":              {leave: []string{"groups"}, info: with("sub", "1002"), code: 502, asked: 1},
		"no such group":                          {leave: []string{"groups"}, info: with("groups", []string{"staff"}), code: 403, asked: 1},
		"what the token says of groups prevails": {claims: map[string]any{"groups": []string{"staff"}}, leave: []string{"email"}, info: all, code: 403, asked: 1},
		"it is broken, and the groups are there": {leave: []string{"groups"}, info: all, infoCode: 500, code: 502, asked: 1},
		"it is broken, and the address is there": {leave: []string{"email"}, info: all, infoCode: 500, code: 403, asked: 1},
		"there is none":                          {leave: []string{"email"}, code: 403},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := atOP(t, func(o *OIDCOptions, _ *Entrance) { o.Claim, o.Values, o.Emails = "groups", []string{"mail"}, true })
			h.person("kate@example.org")
			for name, value := range c.claims {
				p.claims[name] = value
			}
			for _, name := range c.leave {
				delete(p.claims, name)
			}
			p.info, p.infoCode = c.info, c.infoCode
			b := h.browser()
			s := b.signIn()
			if s.code != c.code || p.asked != c.asked || b.signedIn() != (c.code == 200) || c.code == 200 && !strings.HasPrefix(s.body, "home of ann@") {
				t.Errorf("%d, asked %d times: %s", s.code, p.asked, s.body)
			}
		})
	}
}

// TestOIDCWithoutAddress: an administrator reads why nobody was bound, and what to do; who
// is bound already comes in.
func TestOIDCWithoutAddress(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *op)
		want   string
	}{
		"none":         {func(p *op) { delete(p.claims, "email") }, "the provider tells no address, for which the scope email must be allowed"},
		"not verified": {func(p *op) { delete(p.claims, "email_verified") }, "the provider does not say email_verified of ann@example.org; or use letterlockd person invite"},
		"userinfo fails": {func(p *op) {
			delete(p.claims, "email")
			p.info, p.infoCode = map[string]any{"error": "server_error"}, 500
		},
			"the address could not be asked for: userinfo"},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := atOP(t, func(o *OIDCOptions, _ *Entrance) { o.Emails = true })
			c.change(p)
			s := h.browser().signIn()
			if s.code != http.StatusForbidden || !strings.Contains(s.body, "allowed to know your mail address") {
				t.Errorf("%+v", s)
			}
			if said := h.store.events[len(h.store.events)-1].Detail; !strings.Contains(said, c.want) || strings.Contains(said, "\n") {
				t.Errorf("the audit trail says %q, want %q", said, c.want)
			}
			h.store.bindings[[2]string{p.url, "1001"}] = identity.Binding{Issuer: p.url, Subject: "1001", Person: "id-ann@example.org"}
			if s := h.browser().signIn(); s.code != http.StatusOK {
				t.Errorf("who is bound: %+v", s)
			}
		})
	}
}

// An issuer that goes away between leaving and coming back is asked again later; one that
// was read stays known for an hour.
func TestOIDCAway(t *testing.T) {
	h, p := atOP(t, nil)
	b := h.browser()
	answer := b.answer("/signin/campus")
	p.down = true
	if s := b.walk(answer, ""); s.code != http.StatusBadGateway || !strings.Contains(s.body, "Campus could not tell") {
		t.Errorf("%+v", s)
	}
	p.down = false
	if s := b.signIn(); !strings.HasPrefix(s.body, "home of") {
		t.Errorf("%+v", s)
	}
}

// Two people of two issuers with one subject are two people.
func TestSubjectsOfTwoIssuers(t *testing.T) {
	h, p := atOP(t, nil)
	h.store.bindings[[2]string{"https://other.test", "1001"}] = identity.Binding{Issuer: "https://other.test", Subject: "1001", Person: h.person("kate@example.org").ID}
	p.claims["email_verified"] = false
	b := h.browser()
	if s := b.signIn(); s.code != http.StatusForbidden || b.signedIn() {
		t.Errorf("%+v", s)
	}
}

func TestHasOne(t *testing.T) {
	for raw, want := range map[string]bool{
		`"mail"`: true, `["x","mail"]`: true, `true`: true, `"true"`: true, `"mail2"`: false, `["mail2"]`: false, `[]`: false, `null`: false,
		`""`: false, `{}`: false, `["mail",1]`: false, `[["mail"]]`: false, `false`: false, `"mail "`: false, ``: false, `1`: false,
	} {
		if got := hasOne(json.RawMessage(raw), []string{"mail", "true"}); got != want {
			t.Errorf("%s: %t", raw, got)
		}
	}
}
