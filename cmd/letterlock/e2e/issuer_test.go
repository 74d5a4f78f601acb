//go:build unix

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// An issuer is an authorization server of this test process, under TLS, whose every
// secret is a canary, and which repeats what it was sent when it refuses. It is for
// tests whose subject is what becomes of the secrets; the provider of newSite is one
// that others wrote.
type issuer struct {
	server *httptest.Server
	ca     *lab.CA
	key    *ecdsa.PrivateKey
	cage   *cage

	mu       sync.Mutex
	fault    func(w http.ResponseWriter, endpoint string, form url.Values) bool // true: it has answered
	register bool                                                               // offers dynamic registration
	lifetime int                                                                // of access tokens, in seconds; 0: not told, so that each is good once
	serial   int
	codes    map[string]url.Values // by code: the authorization request
	refresh  map[string]bool
	access   map[string]bool
	requests []string // "token refresh_token", "revoke" ...
}

const issuerClient = "e2e-client"

// newIssuer starts it. Its access tokens are good for an hour.
func newIssuer(t testing.TB, cage *cage) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{ca: lab.RunCA(t), key: key, cage: cage, codes: map[string]url.Values{}, refresh: map[string]bool{}, access: map[string]bool{}, lifetime: 3600}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.metadata)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.endpoint("token", i.token))
	mux.HandleFunc("POST /device", i.endpoint("device", i.device))
	mux.HandleFunc("POST /revoke", i.endpoint("revoke", i.revoke))
	mux.HandleFunc("POST /register", i.endpoint("register", i.registration))
	mux.HandleFunc("DELETE /client/1", i.endpoint("unregister", func(w http.ResponseWriter, _ url.Values) { w.WriteHeader(204) }))
	mux.HandleFunc("GET /jwks", i.jwks)
	i.server = httptest.NewUnstartedServer(mux)
	i.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if i.server.TLS, err = i.ca.Server(); err != nil {
		t.Fatal(err)
	}
	i.server.StartTLS()
	t.Cleanup(i.server.Close)
	return i
}

// set makes it go wrong; nil makes it well.
func (i *issuer) set(fault func(http.ResponseWriter, string, url.Values) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = fault
}

// configure changes its manners.
func (i *issuer) configure(change func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

// asked counts the requests of a kind.
func (i *issuer) asked(kind string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, r := range i.requests {
		if strings.HasPrefix(r, kind) {
			n++
		}
	}
	return n
}

// good reports whether a mail server should take a token.
func (i *issuer) good(token string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.access[token]
}

type object = map[string]any

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// endpoint notes the request, keeps what letterlock made secret itself, and goes wrong
// when it shall.
func (i *issuer) endpoint(name string, handle func(http.ResponseWriter, url.Values)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form := r.PostForm
		if id, secret, ok := r.BasicAuth(); ok {
			form.Set("client_id", id)
			form.Set("client_secret", secret)
		}
		form.Set("authorization", r.Header.Get("Authorization"))
		i.cage.add("PKCE verifier", form.Get("code_verifier"))
		i.mu.Lock()
		i.requests = append(i.requests, name+" "+form.Get("grant_type"))
		fault := i.fault
		i.mu.Unlock()
		if fault != nil && fault(w, name, form) {
			return
		}
		handle(w, form)
	}
}

func (i *issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := i.server.URL
	m := object{
		"issuer": u, "authorization_endpoint": u + "/authorize", "token_endpoint": u + "/token",
		"device_authorization_endpoint": u + "/device", "revocation_endpoint": u + "/revoke", "jwks_uri": u + "/jwks",
		"scopes_supported":                               []string{"openid", "email", "offline_access", "mail"},
		"response_types_supported":                       []string{"code"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_post", "none"},
		"authorization_response_iss_parameter_supported": true,
		"subject_types_supported":                        []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	}
	if i.register {
		m["registration_endpoint"] = u + "/register"
	}
	answer(w, 200, m)
}

func (i *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	back, err := i.approve(r.URL.String())
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// approve is the person's yes: it takes the authorization address and returns where
// the browser is sent.
func (i *issuer) approve(address string) (*url.URL, error) {
	at, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	q := at.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("client_id") == "" {
		return nil, fmt.Errorf("not an authorization request: %s", address)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serial++
	code := i.cage.mint("authorization code", i.serial)
	i.codes[code] = q
	back.RawQuery = url.Values{"state": {q.Get("state")}, "iss": {i.server.URL}, "code": {code}}.Encode()
	return back, nil
}

func (i *issuer) token(w http.ResponseWriter, form url.Values) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var request url.Values
	switch form.Get("grant_type") {
	case "authorization_code":
		request = i.codes[form.Get("code")]
		delete(i.codes, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if request == nil || base64.RawURLEncoding.EncodeToString(sum[:]) != request.Get("code_challenge") || form.Get("redirect_uri") != request.Get("redirect_uri") {
			answer(w, 400, object{"error": "invalid_grant"})
			return
		}
	case "refresh_token":
		if !i.refresh[form.Get("refresh_token")] {
			answer(w, 400, object{"error": "invalid_grant"})
			return
		}
		delete(i.refresh, form.Get("refresh_token"))
	case lab.GrantDevice:
		request = url.Values{"scope": {"openid email mail"}, "client_id": {form.Get("client_id")}}
	default:
		answer(w, 400, object{"error": "unsupported_grant_type"})
		return
	}
	answer(w, 200, i.issue(request))
}

// issue makes the tokens. request is nil at a refresh.
func (i *issuer) issue(request url.Values) object {
	i.serial++
	access, refresh := i.cage.mint("access token", i.serial), i.cage.mint("refresh token", i.serial)
	i.access[access], i.refresh[refresh] = true, true
	out := object{"access_token": access, "token_type": "Bearer", "refresh_token": refresh}
	if i.lifetime > 0 {
		out["expires_in"] = i.lifetime
	}
	if strings.Contains(request.Get("scope"), "openid") {
		out["id_token"] = i.idToken(request)
	}
	return out
}

func (i *issuer) idToken(request url.Values) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		panic(err)
	}
	claims, _ := json.Marshal(object{"iss": i.server.URL, "aud": request.Get("client_id"), "sub": "1", "email": "you@example.org", "email_verified": true,
		"nonce": request.Get("nonce"), "jti": i.cage.mint("ID token", i.serial), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	signed, err := signer.Sign(claims)
	if err != nil {
		panic(err)
	}
	compact, _ := signed.CompactSerialize()
	i.cage.add("ID token", compact)
	return compact
}

func (i *issuer) device(w http.ResponseWriter, _ url.Values) {
	answer(w, 200, object{"device_code": i.cage.mint("device code", 0), "user_code": "ABCD-EFGH", "verification_uri": i.server.URL + "/activate", "expires_in": 60, "interval": 1})
}

func (i *issuer) revoke(w http.ResponseWriter, form url.Values) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.refresh, form.Get("token"))
}

func (i *issuer) registration(w http.ResponseWriter, _ url.Values) {
	answer(w, 201, object{
		"client_id": "registered-1", "client_secret": i.cage.mint("registered secret", 0), "client_secret_expires_at": 0,
		"registration_access_token": i.cage.mint("registration token", 0), "registration_client_uri": i.server.URL + "/client/1",
		"token_endpoint_auth_method": "client_secret_post",
	})
}

func (i *issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
}
