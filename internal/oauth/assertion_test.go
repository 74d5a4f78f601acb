package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// testKeys are made once: RSA takes its time.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{"rsa": r, "ec": e, "ed25519": d}
})

func pemOf(t testing.TB, kind string, der []byte) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, "PRIVATE KEY", der)
}

func certificateOf(t testing.TB, key crypto.Signer) (der []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func serviceAccount(t testing.TB, key crypto.Signer, change ...string) string {
	t.Helper()
	fields := map[string]string{"type": "service_account", "client_email": "robot@p.iam.gserviceaccount.com", "private_key_id": "k1", "private_key": pkcs8(t, key), "token_uri": "https://mallory.example/token"}
	for i := 0; i < len(change); i += 2 {
		fields[change[i]] = change[i+1]
	}
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// verified reads an assertion as its receiver does.
func verified(t *testing.T, text string, public crypto.PublicKey) (jose.Header, map[string]any) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(public)
	if err != nil {
		t.Fatalf("the signature does not verify: %v", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return signed.Signatures[0].Header, claims
}

// TestAssertions: what goes to the token endpoint, by each kind of key and grant.
func TestAssertions(t *testing.T) {
	var form url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		if r.Header.Get("Authorization") != "" {
			t.Error("a machine with a key sends no Basic authentication")
		}
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":60}`)
	}))
	t.Cleanup(server.Close)
	now := time.Now()
	keys := testKeys()
	der := certificateOf(t, keys["rsa"])
	sum := sha256.Sum256(der)
	for _, test := range []struct {
		name, file, algorithm, kid, x5t string
		public                          crypto.PublicKey
	}{
		{"RSA", pkcs8(t, keys["rsa"]), "RS256", "", "", keys["rsa"].Public()},
		{"RSA, PKCS 1", pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(keys["rsa"].(*rsa.PrivateKey))), "RS256", "", "", keys["rsa"].Public()},
		{"RSA with its certificate", pemOf(t, "CERTIFICATE", der) + pkcs8(t, keys["rsa"]), "PS256", "", base64.RawURLEncoding.EncodeToString(sum[:]), keys["rsa"].Public()},
		{"EC", pkcs8(t, keys["ec"]), "ES256", "", "", keys["ec"].Public()},
		{"Ed25519", pkcs8(t, keys["ed25519"]), "EdDSA", "", "", keys["ed25519"].Public()},
		{"a service account", serviceAccount(t, keys["rsa"]), "RS256", "k1", "", keys["rsa"].Public()},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := ParseKey([]byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			c := &Conn{HTTP: NewHTTPClient(HTTPOptions{}), Endpoints: Endpoints{Token: server.URL}, Client: Client{ID: "app", Auth: AuthKeyJWT}, Key: key, Now: func() time.Time { return now }}
			if _, err := c.ClientCredentials(t.Context(), []string{"https://mail/.default"}, nil); err != nil {
				t.Fatal(err)
			}
			if form.Get("grant_type") != "client_credentials" || form.Get("client_id") != "app" || form.Has("client_secret") || form.Get("scope") != "https://mail/.default" ||
				form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
				t.Errorf("form %v", form)
			}
			header, claims := verified(t, form.Get("client_assertion"), test.public)
			x5t, _ := header.ExtraHeaders["x5t#S256"].(string)
			if header.Algorithm != test.algorithm || header.KeyID != test.kid || x5t != test.x5t {
				t.Errorf("header %+v", header)
			}
			if claims["iss"] != "app" || claims["sub"] != "app" || claims["aud"] != server.URL || claims["exp"].(float64) != float64(now.Add(5*time.Minute).Unix()) || len(claims["jti"].(string)) < 20 {
				t.Errorf("claims %v", claims)
			}
			if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(text, "0x") || len(text) > 200 {
				t.Errorf("the key prints: %s", text)
			}
		})
	}
	key, err := ParseKey([]byte(serviceAccount(t, keys["rsa"])))
	if err != nil || key.ServiceAccount() != "robot@p.iam.gserviceaccount.com" {
		t.Fatal(err)
	}
	c := &Conn{HTTP: NewHTTPClient(HTTPOptions{}), Endpoints: Endpoints{Token: server.URL}, Client: Client{ID: key.ServiceAccount(), Auth: AuthOmitted}, Key: key}
	if _, err := c.AssertFor(t.Context(), "ann@example.org", []string{"mail", "send"}, nil); err != nil {
		t.Fatal(err)
	}
	_, claims := verified(t, form.Get("assertion"), keys["rsa"].Public())
	if claims["iss"] != "robot@p.iam.gserviceaccount.com" || claims["sub"] != "ann@example.org" || claims["scope"] != "mail send" || claims["aud"] != server.URL {
		t.Errorf("claims %v", claims)
	}
	if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || form.Has("client_id") || form.Has("scope") {
		t.Errorf("form %v", form)
	}
}

// TestKeyFiles: files that are refused, and never quoted.
func TestKeyFiles(t *testing.T) {
	keys := testKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for told, file := range map[string]string{
		"no private key":             "c4n4ry",
		"of fewer than 2048 bits":    pkcs8(t, small),
		"under a passphrase":         pemOf(t, "ENCRYPTED PRIVATE KEY", []byte("c4n4ry")),
		"cannot be read":             pemOf(t, "PRIVATE KEY", []byte("c4n4ry")),
		"more than one":              pkcs8(t, keys["rsa"]) + pkcs8(t, keys["ec"]),
		"certificate is of another":  pemOf(t, "CERTIFICATE", certificateOf(t, keys["ec"])) + pkcs8(t, keys["rsa"]),
		"certificate that cannot":    pemOf(t, "CERTIFICATE", []byte("c4n4ry")),
		"no proper JSON":             `{"type":"service_account","private_key":"c4n4ry"`,
		"not the key of a service":   serviceAccount(t, keys["rsa"], "type", "authorized_user"),
		"service account's private":  serviceAccount(t, keys["rsa"], "private_key", "c4n4ry"),
		"without a usable":           serviceAccount(t, keys["rsa"], "client_email", "a b"),
		"a key file of more than 65": strings.Repeat("c4n4ry", 20000),
	} {
		key, err := ParseKey([]byte(file))
		if err == nil || !strings.Contains(err.Error(), told) || strings.Contains(err.Error(), "c4n4ry") || key != nil {
			t.Errorf("%v, want %q", err, told)
		}
	}
	c := &Conn{Endpoints: Endpoints{Token: "https://login.example.org/token"}, Client: Client{ID: "app", Auth: AuthKeyJWT}}
	if _, err := c.ClientCredentials(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "needs a key") {
		t.Errorf("without a key: %v", err)
	}
	if _, err := c.AssertFor(t.Context(), "a@example.org", nil, nil); err == nil {
		t.Error("an assertion without a key")
	}
}

// FuzzKeyFile: whatever the file, a key that comes out can sign, and the error quotes
// nothing.
func FuzzKeyFile(f *testing.F) {
	keys := testKeys()
	f.Add([]byte(pkcs8(f, keys["ed25519"])))
	f.Add([]byte(pemOf(f, "CERTIFICATE", certificateOf(f, keys["ec"])) + pkcs8(f, keys["ec"])))
	f.Add([]byte(serviceAccount(f, keys["ec"])))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParseKey(data)
		if (err == nil) != (key != nil) {
			t.Fatalf("%v, %v", key, err)
		}
		if err != nil {
			return
		}
		if _, err := key.assertion("a", "b", "c", time.Now(), nil); err != nil && !strings.Contains(err.Error(), "curve") {
			t.Errorf("a key that cannot sign: %v", err)
		}
	})
}
