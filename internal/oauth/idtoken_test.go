package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signed makes an ID token; claims are merged over good ones.
func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": "https://idp.example", "sub": "4711", "aud": "client", "nonce": "n",
		"iat": noon().Unix(), "exp": noon().Add(time.Hour).Unix(),
		"email": "me@example.com", "email_verified": true, "preferred_username": "me",
	}
	maps.Copy(claims, changes)
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keys are of every kind, with what must not be used in front.
type keys struct {
	rsa   *rsa.PrivateKey
	ec    *ecdsa.PrivateKey
	ed    ed25519.PrivateKey
	other *ecdsa.PrivateKey // for encryption only
	set   string
}

func newKeys(t *testing.T) keys {
	t.Helper()
	var k keys
	var err1, err2, err3, err4 error
	k.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.other, err3 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, err4 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: k.other.Public(), KeyID: "e", Use: "enc"}, {Key: k.rsa.Public(), KeyID: "r", Use: "sig"},
		{Key: k.ec.Public(), KeyID: "c"}, {Key: k.ed.Public(), KeyID: "d"},
	}}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	// A key of a kind nobody knows, a shared secret, and rubbish do no harm.
	k.set = strings.Replace(string(text), `"keys":[`, `"keys":[{"kty":"ML-DSA","kid":"q"},{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},7,`, 1)
	return k
}

func TestVerifyID(t *testing.T) {
	k := newKeys(t)
	server := serve(t, reply(200, k.set))
	conn := connTo(server.URL)
	conn.Endpoints.Issuer = "https://idp.example"
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	es := func(changes map[string]any) string { return signed(t, jose.ES256, k.ec, changes) }
	set := func(name string, value any) map[string]any { return map[string]any{name: value} }
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	body := strings.Split(es(nil), ".")[1]
	public, err := json.Marshal(jose.JSONWebKey{Key: k.rsa.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, token, nonce, want string
	}{
		{"RS256", signed(t, jose.RS256, k.rsa, nil), "n", ""},
		{"PS384", signed(t, jose.PS384, k.rsa, nil), "n", ""},
		{"ES256", es(nil), "n", ""},
		{"EdDSA", signed(t, jose.EdDSA, k.ed, nil), "n", ""},
		{"no nonce sent", es(nil), "", ""},
		{"several audiences", es(map[string]any{"aud": []string{"x", "client"}, "azp": "client"}), "n", ""},
		{"clock a minute ahead", es(set("exp", noon().Add(-time.Minute).Unix())), "n", ""},
		{"wrong nonce", es(nil), "m", "nonce"},
		{"no nonce in it", es(set("nonce", nil)), "n", "nonce"},
		{"expired", es(set("exp", noon().Add(-3*time.Minute).Unix())), "n", "expired"},
		{"not yet", es(set("nbf", noon().Add(time.Hour).Unix())), "n", "before"},
		{"another issuer", es(set("iss", "https://evil.example")), "n", "different provider"},
		{"another audience", es(set("aud", "other")), "n", "audience"},
		{"issued to another", es(set("azp", "other")), "n", "another client"},
		{"no subject", es(set("sub", "")), "n", "subject"},
		{"stranger's key", signed(t, jose.ES256, stranger, nil), "n", "no public keys"},
		{"encryption key", signed(t, jose.ES256, k.other, nil), "n", "no public keys"},
		{"HS256 with the public key", signed(t, jose.HS256, public, nil), "n", "algorithm"},
		{"HS256 with the shared key", signed(t, jose.HS256, []byte("secretsecretsecretsecret12345678"), nil), "n", "algorithm"},
		{"none", none + "." + body + ".", "n", "algorithm"},
		{"changed", strings.Replace(es(nil), ".", ".e", 1), "n", ""},
		{"not a token", "canary", "n", "malformed"},
		{"empty", "", "n", "none"},
		{"large", strings.Repeat("a", maxIDToken+1), "n", "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := conn.VerifyID(t.Context(), hidden(test.token), test.nonce, false)
			if test.name == "changed" {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if test.want != "" {
				wantError(t, err, test.want)
				if test.token != "" && strings.Contains(err.Error(), test.token) {
					t.Errorf("the error repeats the token: %v", err)
				}
				return
			}
			want := IDClaims{Issuer: "https://idp.example", Subject: "4711", Email: "me@example.com", EmailVerified: true, PreferredUsername: "me", Nonce: "n"}
			if err != nil || got != want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestVerifyIDOfTemplatedIssuer(t *testing.T) {
	k := newKeys(t)
	conn := connTo(serve(t, reply(200, k.set)).URL)
	conn.Endpoints.Issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
	const tenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
	for _, test := range []struct {
		iss  string
		tid  any
		want string
	}{
		{"https://login.microsoftonline.com/" + tenant + "/v2.0", tenant, ""},
		{"https://login.microsoftonline.com/" + tenant + "/v2.0", "other", "not that of tenant"},
		{"https://login.microsoftonline.com/" + tenant + "/v2.0", nil, "not that of tenant"},
		{"https://login.microsoftonline.com//v2.0", "", "not that of tenant"},
		{"https://login.microsoftonline.com/{tenantid}/v2.0", "{tenantid}", "not that of tenant"},
		{"https://sts.evil.example/" + tenant + "/v2.0", tenant, "not that of tenant"},
		{"https://login.microsoftonline.com/" + tenant + "/v1.0", tenant, "not that of tenant"},
	} {
		token := signed(t, jose.RS256, k.rsa, map[string]any{"iss": test.iss, "tid": test.tid})
		got, err := conn.VerifyID(t.Context(), hidden(token), "n", true)
		if test.want != "" {
			wantError(t, err, test.want)
			continue
		}
		if err != nil || got.TenantID != tenant {
			t.Errorf("%s: %+v, %v", test.iss, got, err)
		}
	}
}

func TestVerifyIDWithoutKeys(t *testing.T) {
	for _, test := range []struct {
		status     int
		body, want string
	}{
		{500, "", "500"}, {404, "<html>", "404"}, {200, "<html>", "not JSON"}, {200, `{"keys":[]}`, "no usable key"}, {200, `{"keys":{}}`, "no key set"},
	} {
		conn := connTo(serve(t, reply(test.status, test.body)).URL)
		_, err := conn.VerifyID(t.Context(), hidden("a.b.c"), "", false)
		wantError(t, err, test.want)
		if f := fault(t, err); !f.Temporary() || f.Endpoint != "keys" {
			t.Errorf("%+v", f)
		}
	}
	conn := connTo("https://idp.example")
	conn.Endpoints.JWKS = ""
	if _, err := conn.VerifyID(t.Context(), hidden("a.b.c"), "", false); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no keys endpoint: %v", err)
	}
}
