package authserver_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// jwks is a JWK set; a key of kid "" has none.
func jwks(t *testing.T, keys ...jose.JSONWebKey) string {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// signs is a bench with machines that sign: "robot" by several keys, "second" by one.
type signs struct {
	*bench
	kept      *onces
	ec, other *ecdsa.PrivateKey
	rsa       *rsa.PrivateKey
	ed        ed25519.PrivateKey
	public    string // of robot
}

func newSigns(t *testing.T, more ...func(*authserver.Options)) *signs {
	t.Helper()
	s := &signs{kept: &onces{kept: map[identity.Digest][]byte{}, till: map[identity.Digest]time.Time{}}}
	s.bench = newBench(t, append(more, func(o *authserver.Options) {
		o.Once, o.ClientStore = s.kept, o.Tokens.(authserver.ClientStore)
	})...)
	s.ec, s.other = ecKey(t), ecKey(t)
	var err error
	if s.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if _, s.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	set, err := authserver.ClientKeys([]byte(jwks(t, jose.JSONWebKey{Key: s.ec.Public(), KeyID: "e"}, jose.JSONWebKey{Key: s.rsa.Public(), KeyID: "r"},
		jose.JSONWebKey{Key: s.ed.Public(), KeyID: "d"})))
	if err != nil {
		t.Fatal(err)
	}
	second, err := authserver.ClientKeys([]byte(jwks(t, jose.JSONWebKey{Key: s.other.Public(), KeyID: "e"})))
	if err != nil {
		t.Fatal(err)
	}
	s.public = set
	der, err := x509.MarshalPKIXPublicKey(s.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	unnamed, err := authserver.ClientKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	for id, keys := range map[string]string{"robot": set, "second": second, "pem": unnamed} {
		grant := identity.Grant{ID: identity.GrantID("g-" + id), Person: "p1", Client: identity.ClientID(id), Scopes: []string{"imap", "smtp"}, Created: s.clock.Now()}
		if err := s.store.AddClient(t.Context(), identity.Client{ID: identity.ClientID(id), Name: id, Keys: keys, Introspects: true,
			Grants: []identity.GrantType{identity.ClientCredentials}, Consent: grant.ID, Scopes: grant.Scopes}, &grant); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// claims are good ones of robot; changes come in pairs, nil removes.
func (s *signs) claims(changes ...any) map[string]any {
	s.t.Helper()
	now := s.clock.Now()
	all := map[string]any{"iss": "robot", "sub": "robot", "aud": s.url, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(all, changes[i].(string))
		} else {
			all[changes[i].(string)] = changes[i+1]
		}
	}
	return all
}

// sign makes an assertion; head holds further members of the header.
func (s *signs) sign(key crypto.Signer, algorithm jose.SignatureAlgorithm, head map[string]any, claims map[string]any) string {
	s.t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range head {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		s.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// raw makes one without a library that would refuse to; mac signs when it is there.
func raw(head string, claims map[string]any, mac []byte) string {
	payload, _ := json.Marshal(claims)
	text := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	if mac == nil {
		return text + "."
	}
	sum := hmac.New(sha256.New, mac)
	sum.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// machineForm asks for a token; changes come in pairs, "" removes.
func machineForm(assertion string, changes ...string) url.Values {
	return changed(url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {jwtBearer}, "client_assertion": {assertion}}, changes)
}

// TestAssertions: what proves a client, by each algorithm, audience and way of naming the key,
// at each endpoint.
func TestAssertions(t *testing.T) {
	s := newSigns(t)
	kid := func(id string) map[string]any { return map[string]any{"kid": id} }
	for what, text := range map[string]string{
		"ES256":                     s.sign(s.ec, jose.ES256, kid("e"), s.claims()),
		"RS256":                     s.sign(s.rsa, jose.RS256, kid("r"), s.claims()),
		"PS256":                     s.sign(s.rsa, jose.PS256, kid("r"), s.claims()),
		"EdDSA":                     s.sign(s.ed, jose.EdDSA, kid("d"), s.claims()),
		"a kid for a key of PEM":    s.sign(s.rsa, jose.RS256, kid("2026"), s.claims("iss", "pem", "sub", "pem")),
		"no kid":                    s.sign(s.rsa, jose.RS256, nil, s.claims()),
		"for the token endpoint":    s.sign(s.ec, jose.ES256, nil, s.claims("aud", s.url+"/token")),
		"a list of one audience":    s.sign(s.ec, jose.ES256, nil, s.claims("aud", []string{s.url})),
		"without iat, with nbf":     s.sign(s.ec, jose.ES256, nil, s.claims("iat", nil, "nbf", s.clock.Now().Unix())),
		"of type JWT":               s.sign(s.ec, jose.ES256, map[string]any{"typ": "JWT"}, s.claims()),
		"of its own type":           s.sign(s.ec, jose.ES256, map[string]any{"typ": "client-authentication+jwt"}, s.claims()),
		"a clock 20 s ahead":        s.sign(s.ec, jose.ES256, nil, s.claims("iat", s.clock.Now().Unix()+20, "nbf", s.clock.Now().Unix()+20)),
		"a fraction of a second":    s.sign(s.ec, jose.ES256, nil, s.claims("exp", float64(s.clock.Now().Unix())+60.5)),
		"ten minutes":               s.sign(s.ec, jose.ES256, nil, s.claims("exp", s.clock.Now().Unix()+600)),
		"members that mean nothing": s.sign(s.ec, jose.ES256, nil, s.claims("scope", "imap", "htu", 7)),
	} {
		got := s.post("/token", machineForm(text))
		if got.status != http.StatusOK || !s.active(got.text(t, "access_token")) {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	proof := func(changes ...any) string { return s.sign(s.ec, jose.ES256, kid("e"), s.claims(changes...)) }
	token := s.post("/token", machineForm(proof(), "client_id", "robot", "scope", "smtp")).text(t, "access_token")
	form := func(assertion string) url.Values { return machineForm(assertion, "grant_type", "", "token", token) }
	if got := s.post("/introspect", form(proof())); got.json(t)["active"] != true || got.text(t, "scope") != "smtp" {
		t.Errorf("introspection: %d %s", got.status, got.body)
	}
	if got := s.post("/introspect", form(proof("aud", s.url+"/introspect"))); got.status != http.StatusUnauthorized {
		t.Errorf("introspection with another endpoint's audience: %d %s", got.status, got.body)
	}
	if got := s.post("/revoke", form(proof())); got.status != http.StatusOK || s.active(token) {
		t.Errorf("revocation: %d %s", got.status, got.body)
	}
	// A pushed request may name its own endpoint; what proved the client is not kept.
	pushed := machineForm(proof("aud", s.url+"/par"), "grant_type", "", "response_type", "code")
	if got := s.post("/par", pushed); got.text(t, "error") == "invalid_client" || got.text(t, "error") == "" {
		t.Errorf("a pushed request of a machine: %d %s", got.status, got.body)
	}
}

// TestAssertionAttacks: each way to be the robot without its keys, or with what it once signed.
func TestAssertionAttacks(t *testing.T) {
	s := newSigns(t)
	now := s.clock.Now().Unix()
	by := func(changes ...any) string {
		return s.sign(s.ec, jose.ES256, map[string]any{"kid": "e"}, s.claims(changes...))
	}
	used := by()
	if got := s.post("/token", machineForm(used)); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	der, err := x509.MarshalPKIXPublicKey(s.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	cut := strings.Split(by(), ".")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("robot:x"))
	twice := s.claims("jti", "the same")
	if got := s.post("/token", machineForm(s.sign(s.ec, jose.ES256, nil, twice))); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	otherAlg := map[string]any{"kid": "e", "jwk": json.RawMessage(must(t, jose.JSONWebKey{Key: s.other.Public()}))}
	for what, one := range map[string]struct {
		form   url.Values
		header string
	}{
		"replayed":                           {form: machineForm(used)},
		"replayed, signed anew":              {form: machineForm(s.sign(s.ec, jose.ES256, nil, twice))},
		"replayed by another key":            {form: machineForm(s.sign(s.rsa, jose.PS256, nil, twice))},
		"another audience":                   {form: machineForm(by("aud", "https://evil.test"))},
		"another endpoint's audience":        {form: machineForm(by("aud", s.url+"/par"))},
		"two audiences":                      {form: machineForm(by("aud", []string{s.url, "https://evil.test"}))},
		"ours twice":                         {form: machineForm(by("aud", []string{s.url, s.url + "/token"}))},
		"no audience":                        {form: machineForm(by("aud", nil))},
		"an empty list":                      {form: machineForm(by("aud", []string{}))},
		"an audience that is a number":       {form: machineForm(by("aud", 7))},
		"the issuer with a slash":            {form: machineForm(by("aud", s.url+"/"))},
		"expired":                            {form: machineForm(by("exp", now-31))},
		"no exp":                             {form: machineForm(by("exp", nil))},
		"exp as text":                        {form: machineForm(by("exp", fmt.Sprint(now+60)))},
		"far future":                         {form: machineForm(by("exp", now+3600))},
		"for ever":                           {form: machineForm(by("exp", 1e300))},
		"not yet":                            {form: machineForm(by("nbf", now+60))},
		"made in the future":                 {form: machineForm(by("iat", now+60))},
		"no jti":                             {form: machineForm(by("jti", nil))},
		"a long jti":                         {form: machineForm(by("jti", strings.Repeat("j", 256)))},
		"another issuer":                     {form: machineForm(by("iss", "second"))},
		"no issuer":                          {form: machineForm(by("iss", nil))},
		"claims in another case":             {form: machineForm(by("sub", "second", "iss", "second", "SUB", "robot", "ISS", "robot"))},
		"another client's name":              {form: machineForm(by("iss", "second", "sub", "second"))},
		"another client in the form":         {form: machineForm(by(), "client_id", "second")},
		"other client's key":                 {form: machineForm(s.sign(s.other, jose.ES256, map[string]any{"kid": "e"}, s.claims()))},
		"a key that it brings along":         {form: machineForm(s.sign(s.other, jose.ES256, otherAlg, s.claims()))},
		"a key that is not there":            {form: machineForm(s.sign(s.ec, jose.ES256, map[string]any{"kid": "x"}, s.claims()))},
		"a kid for a key of PEM, by another": {form: machineForm(s.sign(s.ec, jose.ES256, map[string]any{"kid": "e"}, s.claims("iss", "pem", "sub", "pem")))},
		"the kid of another key":             {form: machineForm(s.sign(s.ec, jose.ES256, map[string]any{"kid": "r"}, s.claims()))},
		"RS384":                              {form: machineForm(s.sign(s.rsa, jose.RS384, nil, s.claims()))},
		"another type":                       {form: machineForm(s.sign(s.ec, jose.ES256, map[string]any{"typ": "at+jwt"}, s.claims()))},
		"alg none":                           {form: machineForm(raw(`{"alg":"none"}`, s.claims(), nil))},
		"alg None":                           {form: machineForm(raw(`{"alg":"None","kid":"e"}`, s.claims(), nil))},
		"HS256 with the public key, PEM":     {form: machineForm(raw(`{"alg":"HS256"}`, s.claims(), publicPEM))},
		"HS256 with the public key, DER":     {form: machineForm(raw(`{"alg":"HS256","kid":"r"}`, s.claims(), der))},
		"HS256 with the public set":          {form: machineForm(raw(`{"alg":"HS256"}`, s.claims(), []byte(s.public)))},
		"another payload":                    {form: machineForm(cut[0] + "." + strings.Split(by("exp", now+500), ".")[1] + "." + cut[2])},
		"no signature":                       {form: machineForm(cut[0] + "." + cut[1] + ".")},
		"not a token":                        {form: machineForm("x")},
		"too long":                           {form: machineForm(by("pad", strings.Repeat("x", 8<<10)))},
		"another type of assertion":          {form: machineForm(by(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")},
		"no type of assertion":               {form: machineForm(by(), "client_assertion_type", "")},
		"no assertion":                       {form: machineForm("", "client_id", "robot")},
		"neither":                            {form: machineForm("", "client_id", "robot", "client_assertion_type", "")},
		"a secret":                           {form: machineForm("", "client_id", "robot", "client_assertion_type", "", "client_secret", "x")},
		"a secret beside":                    {form: machineForm(by(), "client_secret", "x")},
		"a header beside":                    {form: machineForm(by()), header: basic},
		"a public client with an assertion":  {form: machineForm(by("iss", "mutt", "sub", "mutt"))},
		"nobody":                             {form: machineForm(by("iss", "nobody", "sub", "nobody"))},
		"a name with a line feed":            {form: machineForm(by("iss", "robot\n", "sub", "robot\n"))},
		"an assertion that is asked to grow": {form: machineForm(s.sign(s.ec, jose.ES256, map[string]any{"crit": []string{"x"}, "x": 1}, s.claims()))},
	} {
		headers := []string{}
		if one.header != "" {
			headers = []string{"Authorization", one.header}
		}
		got := s.postRaw(http.DefaultClient, "/token", one.form.Encode(), headers...)
		if code := got.text(t, "error"); code != "invalid_client" && !(what == "too long" && code == "invalid_request") {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if strings.Contains(s.log.String(), used) {
		t.Error("an assertion stands in the log")
	}
	// What others tried has used up nothing of the robot's, and its secrets are none at
	// introspection either.
	if got := s.post("/introspect", machineForm(s.sign(s.other, jose.ES256, nil, s.claims()), "grant_type", "", "token", "x")); got.status != http.StatusUnauthorized {
		t.Errorf("introspection by another key: %d", got.status)
	}
}

func must(t *testing.T, key jose.JSONWebKey) []byte {
	t.Helper()
	text, err := key.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAssertionOnce: of one assertion that comes many times at once, to two instances that
// share what they remember, one is taken; and it is remembered for longer than it is good.
func TestAssertionOnce(t *testing.T) {
	s := newSigns(t)
	other := newBench(t, func(o *authserver.Options) {
		o.Issuer, o.Once, o.ClientStore, o.Tokens, o.Grants, o.People = s.url, s.kept, s.store, s.store, s.store, s.store
	})
	claims := s.claims()
	text := s.sign(s.ec, jose.ES256, nil, claims)
	var wg sync.WaitGroup
	taken := make(chan string, 16)
	for i := range 16 {
		wg.Go(func() {
			at := []string{s.url, other.url}[i%2]
			res, err := http.PostForm(at+"/token", machineForm(text))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode == http.StatusOK {
				taken <- at
			}
		})
	}
	wg.Wait()
	if len(taken) != 1 {
		t.Errorf("taken %d times", len(taken))
	}
	till := slices.Collect(maps.Values(s.kept.till))
	if last := time.Unix(claims["exp"].(int64), 0).Add(30 * time.Second); len(till) != 1 || till[0].Before(last) {
		t.Errorf("remembered until %v, good until %v", till, last)
	}
	// While it cannot be remembered nobody is let in, and nobody is told no.
	s.kept.away = true
	s.wantError(s.post("/token", machineForm(s.sign(s.ec, jose.ES256, nil, s.claims()))), http.StatusServiceUnavailable, "temporarily_unavailable")
}

// TestAssertionsNowhere: without a memory there is no such way in, and none is told of.
func TestAssertionsNowhere(t *testing.T) {
	s := newSigns(t)
	off := newBench(t, func(o *authserver.Options) {
		o.Issuer, o.ClientStore, o.Tokens, o.Grants, o.People = s.url, s.store, s.store, s.store, s.store
	})
	off.wantError(off.post("/token", machineForm(s.sign(s.ec, jose.ES256, nil, s.claims()))), http.StatusBadRequest, "invalid_client")
	for b, want := range map[*bench]bool{s.bench: true, off: false} {
		told := b.get(http.DefaultClient, "/.well-known/oauth-authorization-server").json(t)
		for _, endpoint := range []string{"token", "revocation", "introspection"} {
			methods, _ := told[endpoint+"_endpoint_auth_methods_supported"].([]any)
			algorithms, _ := told[endpoint+"_endpoint_auth_signing_alg_values_supported"].([]any)
			if slices.Contains(methods, any("private_key_jwt")) != want || slices.Equal(algorithms, []any{"RS256", "PS256", "ES256", "EdDSA"}) != want {
				t.Errorf("%s, with a memory %v: %v %v", endpoint, want, methods, algorithms)
			}
		}
	}
	key := string(must(t, jose.JSONWebKey{Key: s.ec.Public()}))
	if got := off.registerClient(`{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[` + key + `]}}`); got.status != 400 {
		t.Errorf("registration: %d %s", got.status, got.body)
	}
}

// TestRegisteredKeys: a program that registers itself with a key of its own is believed by
// that alone, at each endpoint.
func TestRegisteredKeys(t *testing.T) {
	s := newSigns(t)
	wish := func(more string) string {
		return `{"client_name":"Signs","redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"private_key_jwt"` + more + `}`
	}
	set := jwks(t, jose.JSONWebKey{Key: s.rsa.Public(), KeyID: "k"})
	got := s.registerClient(wish(`,"token_endpoint_auth_signing_alg":"PS256","jwks":` + set))
	id := got.text(t, "client_id")
	if got.status != http.StatusCreated || got.text(t, "token_endpoint_auth_method") != "private_key_jwt" || !strings.Contains(got.body, `"kid":"k"`) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	shown := s.do(http.DefaultClient, request(t, got.text(t, "registration_client_uri"), got.text(t, "registration_access_token")))
	if shown.status != http.StatusOK || shown.text(t, "token_endpoint_auth_method") != "private_key_jwt" || !strings.Contains(shown.body, `"kid":"k"`) {
		t.Errorf("read again: %d %s", shown.status, shown.body)
	}
	sign := func(algorithm jose.SignatureAlgorithm) string {
		return s.sign(s.rsa, algorithm, nil, s.claims("iss", id, "sub", id))
	}
	code := s.allow(authQuery("client_id", id))
	with := func(form url.Values, assertion string) url.Values {
		form.Set("client_assertion_type", jwtBearer)
		form.Set("client_assertion", assertion)
		return form
	}
	s.wantError(s.post("/token", codeForm(code, "client_id", id)), 400, "invalid_client")
	s.wantError(s.post("/token", with(codeForm(code, "client_id", id), sign(jose.RS256))), 400, "invalid_client")
	tokens := s.post("/token", with(codeForm(code, "client_id", id), sign(jose.PS256)))
	if tokens.status != http.StatusOK {
		t.Fatalf("%d %s", tokens.status, tokens.body)
	}
	refresh := tokens.text(t, "refresh_token")
	s.wantError(s.post("/token", refreshForm(refresh, "client_id", id)), 400, "invalid_client")
	if got := s.post("/token", with(refreshForm(refresh, "client_id", ""), sign(jose.PS256))); got.status != http.StatusOK {
		t.Errorf("renewal: %d %s", got.status, got.body)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	s.refusedKeys(wish(`,"jwks":`+jwks(t, jose.JSONWebKey{Key: small.Public()})), "RSA key")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var many []jose.JSONWebKey
	for range 6 {
		many = append(many, jose.JSONWebKey{Key: s.ec.Public()})
	}
	for body, reason := range map[string]string{
		wish(""): "jwks", wish(`,"jwks":null`): "jwks", wish(`,"jwks":{"keys":[]}`): "no key", wish(`,"jwks":"x"`): "JWK set",
		wish(`,"jwks_uri":"http://169.254.169.254/keys"`):                                                                            "jwks_uri is not fetched",
		wish(`,"jwks_uri":"https://app.example/keys","jwks":` + set):                                                                 "jwks_uri is not fetched",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: s.rsa})):                                                                      "private key",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: []byte("a secret")})):                                                         "secret",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: p384.Public()})):                                                              "P-256",
		wish(`,"jwks":` + jwks(t, many...)):                                                                                          "more than 5",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: s.ec.Public(), Use: "enc"})):                                                  "no key",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: s.ec.Public(), Algorithm: "HS256"})):                                          "algorithm",
		wish(`,"token_endpoint_auth_signing_alg":"none","jwks":` + set):                                                              "signing_alg",
		wish(`,"token_endpoint_auth_signing_alg":"HS256","jwks":` + set):                                                             "signing_alg",
		wish(`,"jwks":` + jwks(t, many[0], jose.JSONWebKey{Key: s.ec.Public(), KeyID: "\u202e\n"})):                                  "kid",
		wish(`,"jwks":` + jwks(t, jose.JSONWebKey{Key: s.ec.Public(), KeyID: "k"}, jose.JSONWebKey{Key: s.ed.Public(), KeyID: "k"})): "same kid",
		strings.Replace(wish(`,"jwks":`+set), "private_key_jwt", "client_secret_jwt", 1):                                             "token_endpoint_auth_method",
	} {
		s.refusedKeys(body, reason)
	}
}

func request(t *testing.T, address, token string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func (s *signs) refusedKeys(body, reason string) {
	s.t.Helper()
	got := s.registerClient(body)
	if got.text(s.t, "error") != "invalid_client_metadata" || !strings.Contains(got.text(s.t, "error_description"), reason) {
		s.t.Errorf("%.200s: %d %s, want %q", body, got.status, got.body, reason)
	}
}

// TestClientKeys: the forms that an administrator has keys in.
func TestClientKeys(t *testing.T) {
	key := ecKey(t)
	one := string(must(t, jose.JSONWebKey{Key: key.Public()}))
	want := `{"keys":[` + one + `]}`
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for what, text := range map[string]string{"a set": want, "one key": " " + one + "\n", "PEM": string(public), "a set with more": `{"x":1,"keys":[` + one + `]}`} {
		if got, err := authserver.ClientKeys([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	for what, text := range map[string]string{
		"nothing": "", "no keys": `{}`, "a private key": string(must(t, jose.JSONWebKey{Key: key})),
		"a private key in PEM": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"both in PEM":          string(public) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"six in PEM":           strings.Repeat(string(public), 6), "damaged PEM": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[1:]})),
		"too long": want + strings.Repeat(" ", 32<<10),
	} {
		if got, err := authserver.ClientKeys([]byte(text)); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}
