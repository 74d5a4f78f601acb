package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// logoutToken signs a logout token; changes are merged over good claims, and what is absent
// is left out.
func logoutToken(t *testing.T, alg jose.SignatureAlgorithm, key any, changes map[string]any, absent ...string) string {
	t.Helper()
	claims := map[string]any{"iss": "https://idp.example", "sub": "4711", "sid": "s-1", "aud": "client", "jti": "j-1",
		"iat": noon().Unix(), "exp": noon().Add(2 * time.Minute).Unix(), "events": map[string]any{logoutEvent: map[string]any{}}}
	maps.Copy(claims, changes)
	for _, name := range absent {
		delete(claims, name)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("logout+jwt"))
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

// Each rule of OpenID Connect Back-Channel Logout 1.0 section 2.6 broken by itself.
func TestVerifyLogout(t *testing.T) {
	k := newKeys(t)
	conn := connTo("https://idp.example")
	conn.Endpoints.Issuer = "https://idp.example"
	public := []crypto.PublicKey{k.ec.Public(), k.rsa.Public()}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	es := func(changes map[string]any, absent ...string) string {
		return logoutToken(t, jose.ES256, k.ec, changes, absent...)
	}
	type m = map[string]any
	good := es(nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for _, c := range []struct {
		what, token string
		good        bool
	}{
		{"both", good, true},
		{"by RS256", logoutToken(t, jose.RS256, k.rsa, nil), true},
		{"a session only", es(nil, "sub"), true},
		{"a subject only", es(nil, "sid"), true},
		{"several audiences", es(m{"aud": []string{"other", "client"}}), true},
		{"no exp, as older issuers", es(nil, "exp"), true},
		{"a clock a minute ahead", es(m{"iat": noon().Add(time.Minute).Unix()}), true},
		{"another key", logoutToken(t, jose.ES256, stranger, nil), false},
		{"no signature", none, false},
		{"a shared secret", logoutToken(t, jose.HS256, []byte(strings.Repeat("k", 32)), nil), false},
		{"another issuer", es(m{"iss": "https://evil.example"}), false},
		{"no issuer", es(nil, "iss"), false},
		{"another audience", es(m{"aud": "other"}), false},
		{"no audience", es(nil, "aud"), false},
		{"no iat", es(nil, "iat"), false},
		{"an old one", es(m{"iat": noon().Add(-11 * time.Minute).Unix()}), false},
		{"from the future", es(m{"iat": noon().Add(time.Hour).Unix(), "exp": noon().Add(2 * time.Hour).Unix()}), false},
		{"iat out of this world", es(m{"iat": 1e300}), false},
		{"expired", es(m{"exp": noon().Add(-3 * time.Minute).Unix()}), false},
		{"exp that is none", es(m{"exp": "soon"}), false},
		{"no events", es(nil, "events"), false},
		{"another event", es(m{"events": m{"http://schemas.openid.net/event/other": m{}}}), false},
		{"an event that is no object", es(m{"events": m{logoutEvent: "yes"}}), false},
		{"an event that is null", es(m{"events": m{logoutEvent: nil}}), false},
		{"events in a list", es(m{"events": []string{logoutEvent}}), false},
		{"a nonce", es(m{"nonce": "n"}), false},
		{"a nonce that is null", es(m{"nonce": nil}), false},
		{"an ID token", signed(t, jose.ES256, k.ec, nil), false},
		{"no jti", es(nil, "jti"), false},
		{"neither subject nor session", es(nil, "sub", "sid"), false},
		{"nothing", "", false},
		{"words", "logout please", false},
		{"megabytes", es(m{"x": strings.Repeat("x", 70<<10)}), false},
	} {
		claims, err := conn.VerifyLogout(t.Context(), c.token, public)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil && len(c.token) > 20 && strings.Contains(err.Error(), c.token) {
			t.Errorf("%s: the token stands in the error", c.what)
		}
		if c.what == "both" && (claims.Issuer != "https://idp.example" || claims.Subject != "4711" || claims.SessionID != "s-1" || claims.ID != "j-1" || !claims.Expires.After(noon())) {
			t.Errorf("claims %+v", claims)
		}
	}
}

func FuzzLogoutToken(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"iss":"https://idp.example","aud":"client","jti":"1","sub":"2","iat":1,"events":{"` + logoutEvent + `":{}}}`))
	f.Add([]byte(`{"iss":"https://idp.example","aud":["client"],"iat":1e999,"exp":-1,"events":null}`))
	conn := &Conn{Now: time.Now, Endpoints: Endpoints{Issuer: "https://idp.example"}, Client: Client{ID: "client"}}
	f.Fuzz(func(t *testing.T, payload []byte) {
		jws, err := signer.Sign(payload)
		if err != nil {
			return
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			return
		}
		claims, err := conn.VerifyLogout(t.Context(), text, []crypto.PublicKey{key.Public()})
		if err == nil && (claims.ID == "" || claims.Subject == "" && claims.SessionID == "" || time.Until(claims.Expires) < 0) {
			t.Fatalf("%s: %+v", payload, claims)
		}
	})
}
