package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A world is an issuer with a key set and an introspection endpoint.
type world struct {
	t      *testing.T
	url    string
	server *httptest.Server
	key    *ecdsa.PrivateKey

	mu     sync.Mutex
	keys   []jose.JSONWebKey
	asked  int
	down   bool
	hold   func() // called before the keys are sent
	answer string // of introspection
	status int
	caller string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, key: newKey(t), status: http.StatusOK}
	w.keys = []jose.JSONWebKey{{Key: w.key.Public(), KeyID: "k1", Use: "sig", Algorithm: "ES256"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(rw http.ResponseWriter, _ *http.Request) {
		writeJSON(rw, http.StatusOK, map[string]string{"issuer": w.url, "authorization_endpoint": w.url + "/a", "token_endpoint": w.url + "/t", "jwks_uri": w.url + "/jwks",
			"device_authorization_endpoint": w.url + "/d", "revocation_endpoint": w.url + "/r", "registration_endpoint": w.url + "/c"})
	})
	mux.HandleFunc("GET /jwks", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		w.asked++
		hold := w.hold
		w.mu.Unlock()
		if hold != nil {
			hold()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.down {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		writeJSON(rw, http.StatusOK, jose.JSONWebKeySet{Keys: w.keys})
	})
	mux.HandleFunc("POST /introspect", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		id, password, _ := r.BasicAuth()
		w.caller = id + ":" + password
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(w.status)
		_, _ = rw.Write([]byte(w.answer))
	})
	w.server = httptest.NewServer(mux)
	w.url = w.server.URL
	t.Cleanup(w.server.Close)
	return w
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func (w *world) issuer(change ...func(*Options)) *Issuer {
	w.t.Helper()
	o := Options{URL: w.url, Audiences: []string{"mail", "https://mail.test"}, Clients: []string{"webmail"}, Scopes: []string{"imap"},
		HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: now}
	for _, f := range change {
		f(&o)
	}
	one, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return one
}

// claims are those of a good token; changes come in pairs, nil removes.
func (w *world) claims(changes ...any) map[string]any {
	claims := map[string]any{"iss": w.url, "sub": "u1", "aud": "mail", "client_id": "webmail", "scope": "openid mail",
		"exp": now().Add(time.Hour).Unix(), "iat": now().Unix()}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(claims, changes[i].(string))
		} else {
			claims[changes[i].(string)] = changes[i+1]
		}
	}
	return claims
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kind, id string, claims map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType(jose.ContentType(kind))
	if id != "" {
		o = o.WithHeader("kid", id)
	}
	if kind == "" {
		o = &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": id}}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAudienceConfusion is the attack table: tokens of the right issuer, rightly signed,
// that were made for somebody else, and tokens that are not its at all.
func TestAudienceConfusion(t *testing.T) {
	w := newWorld(t)
	list := List{w.issuer(func(o *Options) { o.Need = "mail" })}
	good := func(changes ...any) string { return sign(t, jose.ES256, w.key, "at+jwt", "k1", w.claims(changes...)) }
	public, err := x509.MarshalPKIXPublicKey(w.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good(), ".")
	for what, c := range map[string]struct {
		token string
		in    bool
	}{
		"a good one":                  {good(), true},
		"type JWT":                    {sign(t, jose.ES256, w.key, "JWT", "k1", w.claims()), true},
		"without a type":              {sign(t, jose.ES256, w.key, "", "k1", w.claims()), true},
		"several audiences":           {good("aud", []string{"x", "https://mail.test"}), true},
		"azp for client_id":           {good("client_id", nil, "azp", "webmail"), true},
		"scopes as a list":            {good("scope", nil, "scp", []string{"mail"}), true},
		"another audience":            {good("aud", "wiki"), false},
		"no audience":                 {good("aud", nil), false},
		"an audience that begins so":  {good("aud", "mail.evil.test"), false},
		"another client":              {good("client_id", "wiki"), false},
		"no client":                   {good("client_id", nil), false},
		"two clients":                 {good("azp", "wiki"), false},
		"the client as audience only": {good("client_id", nil, "aud", []string{"mail", "webmail"}), false},
		"without the scope":           {good("scope", "openid mailing"), false},
		"an ID token by nonce":        {good("nonce", "n"), false},
		"an ID token by at_hash":      {good("at_hash", "h"), false},
		"an ID token by its name":     {good("typ", "ID"), false},
		"a refresh token by its name": {good("typ", "Refresh"), false},
		"a bearer token by its name":  {good("typ", "Bearer"), true},
		"a name that says nothing":    {good("typ", 1), true},
		"a logout token":              {good("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), false},
		"no subject":                  {good("sub", nil), false},
		"expired":                     {good("exp", now().Unix()), false},
		"never expires":               {good("exp", nil), false},
		"expires in a million years":  {good("exp", 1e15), false},
		"not yet":                     {good("nbf", now().Add(time.Hour).Unix()), false},
		"another issuer":              {good("iss", "https://evil.test"), false},
		"the issuer with a slash":     {good("iss", w.url+"/"), false},
		"another type":                {sign(t, jose.ES256, w.key, "logout+jwt", "k1", w.claims()), false},
		"another key":                 {sign(t, jose.ES256, newKey(t), "at+jwt", "k1", w.claims()), false},
		"a key that is not known":     {sign(t, jose.ES256, w.key, "at+jwt", "k9", w.claims()), false},
		"HS256 with the public key":   {sign(t, jose.HS256, public, "at+jwt", "k1", w.claims()), false},
		"alg none":                    {"eyJhbGciOiJub25lIn0." + parts[1] + ".", false},
		"no signature":                {parts[0] + "." + parts[1] + ".", false},
		"another payload":             {parts[0] + "." + strings.Split(good("sub", "u2"), ".")[1] + "." + parts[2], false},
		"opaque":                      {"0123456789abcdef", false},
		"too long":                    {strings.Repeat("a", maxToken+1), false},
		"empty":                       {"", false},
	} {
		found, err := list.Verify(t.Context(), secret.New(c.token))
		switch {
		case c.in && (err != nil || found.Subject != "u1" || found.Issuer != w.url || found.Client != "webmail" || len(found.Scopes) != 1 || found.Scopes[0] != "imap"):
			t.Errorf("%s: %+v, %v", what, found, err)
		case !c.in && !errors.Is(err, identity.ErrNotFound):
			t.Errorf("%s: %+v, %v, want a definite no", what, found, err)
		}
	}
}

// Keys are asked for once, again when a token names a new one, and not for each nonsense.
// An issuer that is away is no "no", and its known keys go on.
func TestKeysOfTheIssuer(t *testing.T) {
	w := newWorld(t)
	clock := now()
	one := w.issuer(func(o *Options) { o.Now = func() time.Time { return clock } })
	list := List{one}
	check := func(token string) error {
		t.Helper()
		_, err := list.Verify(t.Context(), secret.New(token))
		return err
	}
	old := sign(t, jose.ES256, w.key, "JWT", "k1", w.claims("exp", now().Add(24*time.Hour).Unix()))
	for range 3 {
		if err := check(old); err != nil {
			t.Fatal(err)
		}
	}
	key := newKey(t)
	fresh := sign(t, jose.ES256, key, "JWT", "k2", w.claims("exp", now().Add(24*time.Hour).Unix()))
	for range 3 {
		if err := check(fresh); !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("an unknown key: %v", err)
		}
	}
	if w.asked != 1 {
		t.Errorf("asked %d times for keys", w.asked)
	}
	w.mu.Lock()
	w.keys = append(w.keys, jose.JSONWebKey{Key: key.Public(), KeyID: "k2"})
	w.mu.Unlock()
	clock = clock.Add(keysPause + time.Second)
	if err := check(fresh); err != nil {
		t.Errorf("the new key: %v", err)
	}
	w.server.Close()
	clock = clock.Add(2 * keysLife)
	if err := check(old); err != nil {
		t.Errorf("a known key while the issuer is away: %v", err)
	}
	if err := check(sign(t, jose.ES256, key, "JWT", "k3", w.claims("exp", now().Add(24*time.Hour).Unix()))); err == nil || errors.Is(err, identity.ErrNotFound) {
		t.Errorf("a key that nobody can ask for: %v", err)
	}
	if err := (func() error { _, err := (List{w.issuer()}).Verify(t.Context(), secret.New(old)); return err })(); err == nil || errors.Is(err, identity.ErrNotFound) {
		t.Errorf("an issuer that was never there: %v", err)
	}
}

// Tokens that name a key which nobody knows cost an issuer that is in trouble one question,
// not one each; and they hold nobody up who has a good one.
func TestNonsenseKeys(t *testing.T) {
	w := newWorld(t)
	clock := now()
	list := List{w.issuer(func(o *Options) { o.Now = func() time.Time { return clock } })}
	check := func(ctx context.Context, token string) error {
		_, err := list.Verify(ctx, secret.New(token))
		return err
	}
	signed := func(key *ecdsa.PrivateKey, id string) string {
		return sign(t, jose.ES256, key, "JWT", id, w.claims("exp", now().Add(24*time.Hour).Unix()))
	}
	good, nonsense := signed(w.key, "k1"), signed(w.key, "k9")
	set := func(change func()) { w.mu.Lock(); change(); w.mu.Unlock() }
	if err := check(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(keysPause + time.Second)
	set(func() { w.down, w.asked = true, 0 })
	for range 20 {
		if err := check(t.Context(), nonsense); err == nil || errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("while the issuer is in trouble: %v", err)
		}
	}
	if w.asked != 1 {
		t.Errorf("twenty tokens asked an issuer in trouble %d times", w.asked)
	}
	clock = clock.Add(2 * keysLife)
	set(func() { w.asked = 0 })
	for range 5 {
		if err := check(t.Context(), good); err != nil {
			t.Errorf("a known key: %v", err)
		}
	}
	if w.asked != 1 {
		t.Errorf("five good tokens asked it %d times", w.asked)
	}
	// It answers again, but slowly, and somebody who has gone asked.
	clock = clock.Add(troublePause + time.Second)
	fresh := newKey(t)
	asked, answer := make(chan bool), make(chan bool)
	set(func() {
		w.down, w.hold = false, func() { asked <- true; <-answer }
		w.keys = append(w.keys, jose.JSONWebKey{Key: fresh.Public(), KeyID: "k2"})
	})
	gone, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- check(gone, signed(fresh, "k2")) }()
	<-asked
	leave()
	go func() { second <- check(t.Context(), good) }()
	select {
	case err := <-second:
		if err != nil {
			t.Errorf("a known key while another is asked for: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a known key waits for the question about another")
	}
	set(func() { w.hold = nil })
	close(answer)
	<-first
	if err := check(t.Context(), signed(fresh, "k2")); err != nil {
		t.Errorf("the new key, after whoever asked for it had gone: %v", err)
	}
}

// Introspection: only "active" and the list let in; whatever is no answer is no "no".
func TestIntrospectedTokens(t *testing.T) {
	w := newWorld(t)
	list := List{w.issuer(func(o *Options) {
		o.Introspection, o.ClientID, o.Secret = w.url+"/introspect", "letter lock", secret.New("p:w%")
	})}
	good := func(changes ...any) string {
		claims := w.claims(append([]any{"active", true}, changes...)...)
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const yes, no, later = "yes", "no", "later"
	for what, c := range map[string]struct {
		status int
		answer string
		want   string
	}{
		"active":                {200, good(), yes},
		"without iss":           {200, good("iss", nil), yes},
		"inactive":              {200, `{"active":false}`, no},
		"inactive with a user":  {200, `{"active":false,"sub":"u1","aud":"mail","client_id":"webmail"}`, no},
		"another audience":      {200, good("aud", "wiki"), no},
		"another client":        {200, good("client_id", "wiki"), no},
		"another issuer":        {200, good("iss", "https://evil.test"), no},
		"expired":               {200, good("exp", now().Unix()), no},
		"without active":        {200, good("active", nil), later},
		"active as text":        {200, good("active", "true"), later},
		"401 with a user":       {401, good(), later},
		"500":                   {500, good(), later},
		"not JSON":              {200, "<html>", later},
		"an answer of megabyte": {200, `{"active":false,"x":"` + strings.Repeat("x", 1<<20) + `"}`, later},
	} {
		w.mu.Lock()
		w.status, w.answer = c.status, c.answer
		w.mu.Unlock()
		_, err := list.Verify(t.Context(), secret.New("opaque-token, "+what))
		got := later
		if err == nil {
			got = yes
		} else if errors.Is(err, identity.ErrNotFound) {
			got = no
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), want %s", what, got, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "opaque-token") || strings.Contains(err.Error(), "p:w")) {
			t.Errorf("a secret in %v", err)
		}
	}
	if w.caller != "letter+lock:p%3Aw%25" {
		t.Errorf("asked as %s", w.caller)
	}
	// A token that says it is somebody else's is not shown to this issuer.
	w.caller = ""
	if _, err := list.Verify(t.Context(), secret.New(sign(t, jose.ES256, w.key, "JWT", "k1", w.claims("iss", "https://other.test")))); !errors.Is(err, identity.ErrNotFound) || w.caller != "" {
		t.Errorf("another issuer's token was shown: %v", err)
	}
}

func TestOptions(t *testing.T) {
	hc := oauth.NewHTTPClient(oauth.HTTPOptions{})
	full := Options{URL: "https://x.test", Audiences: []string{"mail"}, Clients: []string{"webmail"}, Scopes: []string{"imap"}, HTTP: hc, Now: now}
	for what, change := range map[string]func(*Options){
		"no audiences": func(o *Options) { o.Audiences = nil }, "no clients": func(o *Options) { o.Clients = nil },
		"no scopes": func(o *Options) { o.Scopes = nil }, "no secret": func(o *Options) { o.Introspection, o.ClientID = "https://x.test/i", "id" },
	} {
		o := full
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// FuzzToken: whatever comes as a token or an answer is refused or judged, never more.
func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.AA", `{"active":true,"aud":["mail"],"client_id":"webmail","sub":"u","exp":1e10}`)
	f.Add("a.b.c", `{"active":true,"aud":{"mail":1}}`)
	f.Add("", `{"active":true,"exp":-1e400}`)
	one, err := New(Options{URL: "https://x.test", Audiences: []string{"mail"}, Clients: []string{"webmail"}, Scopes: []string{"imap"},
		HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token, answer string) {
		if name := issuerOf(token); name == one.o.URL {
			return // would ask the network
		}
		if _, err := (List{one}).Verify(context.Background(), secret.New(token)); !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("%q: %v", token, err)
		}
		var said told
		if json.Unmarshal([]byte(answer), &said) != nil {
			return
		}
		if found, err := one.accept(said); err == nil && (found.Subject == "" || !now().Before(found.Expires) || found.Client != "webmail") {
			t.Fatalf("%s gave %+v", answer, found)
		}
	})
}
