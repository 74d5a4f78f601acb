package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An issuer is a small authorization server that says yes to everybody: it checks
// PKCE, rotates refresh tokens, and goes wrong in ways that a script chooses.
type issuer struct {
	server *httptest.Server
	key    *ecdsa.PrivateKey

	mu       sync.Mutex
	fault    string // "down", "invalid_grant", "invalid_client", "garbage", "noscope", "norefresh", "stranger", "deny"
	register bool   // offers dynamic registration
	lifetime int    // of access tokens, in seconds; 0: not told, so each is good once
	serial   int
	codes    map[string]url.Values // by code: the authorization request
	refresh  string                // the one refresh token that is good
	access   map[string]bool       // access tokens that the mail server takes
	polls    int
	requests []string // "token refresh_token", "revoke", ... in order
}

func newIssuer() *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	i := &issuer{key: key, codes: map[string]url.Values{}, access: map[string]bool{}, lifetime: 3600}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.metadata)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /device", i.device)
	mux.HandleFunc("POST /revoke", i.revoke)
	mux.HandleFunc("POST /register", i.registration)
	mux.HandleFunc("DELETE /register/{id}", i.removal)
	mux.HandleFunc("GET /jwks", i.jwks)
	i.server = httptest.NewUnstartedServer(mux) // the handlers read i.server
	i.server.Start()
	return i
}

func (i *issuer) set(fault string) { i.mu.Lock(); i.fault = fault; i.polls = 0; i.mu.Unlock() }

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

type object = map[string]any

func (i *issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, "metadata")
	u := i.server.URL
	m := object{
		"issuer": u, "authorization_endpoint": u + "/authorize", "token_endpoint": u + "/token",
		"device_authorization_endpoint": u + "/device", "revocation_endpoint": u + "/revoke", "jwks_uri": u + "/jwks",
		"scopes_supported":                               []string{"openid", "email", "offline_access", "mail", "smtp"},
		"response_types_supported":                       []string{"code"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
		"subject_types_supported":                        []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	}
	if i.register {
		m["registration_endpoint"] = u + "/register"
	}
	answer(w, 200, m)
}

func (i *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" {
		http.Error(w, "bad request", 400)
		return
	}
	out := url.Values{"state": {q.Get("state")}, "iss": {i.server.URL}}
	if i.fault == "deny" {
		out.Set("error", "access_denied")
	} else {
		i.serial++
		code := fmt.Sprintf("code-%d", i.serial)
		i.codes[code] = q
		out.Set("code", code)
	}
	back.RawQuery = out.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = r.ParseForm()
	grant := r.PostForm.Get("grant_type")
	i.requests = append(i.requests, "token "+grant)
	refuse := func(code string) { answer(w, 400, object{"error": code, "error_description": "as the script wants"}) }
	switch {
	case i.fault == "down":
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	case i.fault == "garbage":
		fmt.Fprint(w, "<html>no JSON here")
		return
	case i.fault == "invalid_client":
		answer(w, 401, object{"error": "invalid_client"})
		return
	}
	var request url.Values
	switch grant {
	case "authorization_code":
		request = i.codes[r.PostForm.Get("code")]
		delete(i.codes, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if request == nil || base64.RawURLEncoding.EncodeToString(sum[:]) != request.Get("code_challenge") || r.PostForm.Get("redirect_uri") != request.Get("redirect_uri") {
			refuse("invalid_grant")
			return
		}
	case "refresh_token":
		if i.fault == "invalid_grant" || r.PostForm.Get("refresh_token") != i.refresh {
			refuse("invalid_grant")
			return
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		if i.polls++; i.polls < 2 {
			refuse("authorization_pending")
			return
		}
		request = url.Values{"scope": {"openid email mail"}, "client_id": {r.PostForm.Get("client_id")}}
	case "client_credentials":
		// A machine that may send and nothing else; there is nobody to be known.
		if scope := r.PostForm.Get("scope"); scope != "" && scope != "smtp" {
			refuse("invalid_scope")
			return
		}
	default:
		refuse("unsupported_grant_type")
		return
	}
	answer(w, 200, i.issue(request))
}

// issue makes the tokens. request is nil at a refresh.
func (i *issuer) issue(request url.Values) object {
	i.serial++
	access := fmt.Sprintf("llat-c4n4ry-%d", i.serial)
	i.access[access] = true
	out := object{"access_token": access, "token_type": "Bearer"}
	if i.lifetime > 0 {
		out["expires_in"] = i.lifetime
	}
	if i.fault != "norefresh" {
		i.refresh = fmt.Sprintf("llrt-c4n4ry-%d", i.serial)
		out["refresh_token"] = i.refresh
	}
	if i.fault == "noscope" {
		out["scope"] = "openid email"
	}
	if request != nil && strings.Contains(request.Get("scope"), "openid") {
		out["id_token"] = i.idToken(request)
	}
	return out
}

func (i *issuer) idToken(request url.Values) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		panic(err)
	}
	email := "you@example.org"
	if i.fault == "stranger" {
		email = "mallory@example.org"
	}
	claims, _ := json.Marshal(object{"iss": i.server.URL, "aud": request.Get("client_id"), "sub": "1", "email": email, "email_verified": true,
		"nonce": request.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	signed, err := signer.Sign(claims)
	if err != nil {
		panic(err)
	}
	compact, _ := signed.CompactSerialize()
	return compact
}

func (i *issuer) device(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, object{"device_code": "dev-c4n4ry", "user_code": "ABCD-EFGH", "verification_uri": i.server.URL + "/activate", "expires_in": 60, "interval": 1})
}

func (i *issuer) revoke(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = r.ParseForm()
	i.requests = append(i.requests, "revoke "+r.PostForm.Get("token_type_hint"))
	if i.fault == "down" {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	}
	i.refresh, i.access = "", map[string]bool{}
}

func (i *issuer) registration(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var in object
	_ = json.NewDecoder(r.Body).Decode(&in)
	i.requests = append(i.requests, "register")
	i.serial++
	in["client_id"] = fmt.Sprintf("registered-%d", i.serial)
	in["registration_client_uri"] = fmt.Sprintf("%s/register/registered-%d", i.server.URL, i.serial)
	in["registration_access_token"] = "reg-c4n4ry"
	if i.fault == "noregister" {
		answer(w, 403, object{"error": "access_denied"})
		return
	}
	answer(w, 201, in)
}

func (i *issuer) removal(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, "unregister")
	switch {
	case i.fault == "sticky":
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	case r.Header.Get("Authorization") != "Bearer reg-c4n4ry":
		answer(w, 401, object{"error": "invalid_token"})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (i *issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
}

// good reports whether the mail server should take a token.
func (i *issuer) good(token string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.access[token]
}
