package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func signingKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func inPEM(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// proves signs as a client for an audience.
func proves(t *testing.T, key *ecdsa.PrivateKey, id, audience string) url.Values {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: id, Subject: id, Audience: jwt.Audience{audience}, ID: rand.Text(),
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute))}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {text}}
}

// TestProgramsThatSign: entered with public keys a program gets no secret, proves itself by
// its signature, and what it signed once is worth nothing after; and the ways to enter one
// wrongly.
func TestProgramsThatSign(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	key, other := signingKey(t), signingKey(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	public := d.write("board.pem", inPEM(t, "PUBLIC KEY", der, err))
	der, err = x509.MarshalPKCS8PrivateKey(key)
	private := d.write("board.key", inPEM(t, "PRIVATE KEY", der, err))
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: other.Public(), KeyID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys := d.write("other.json", string(set))
	machine := func(id string, more ...string) []string {
		return append([]string{"client", "add", id, "--name", "Board", "--person", "ann@example.org", "--scope", "imap,smtp", "--introspect"}, more...)
	}
	for _, one := range []struct {
		path string
		id   string
	}{{public, "board"}, {keys, "other"}} {
		if out := d.must(machine(one.id, "--auth", "private_key_jwt", "--jwks", one.path)...); out != "" {
			t.Errorf("%s: a secret was made: %q", one.id, out)
		}
	}
	for what, one := range map[string]struct {
		args []string
		code cli.Code
	}{
		"no keys":               {machine("x", "--auth", "private_key_jwt"), cli.Usage},
		"keys for nothing":      {machine("x", "--jwks", public), cli.Usage},
		"keys and a secret":     {machine("x", "--auth", "client_secret", "--jwks", public), cli.Usage},
		"another way":           {machine("x", "--auth", "client_secret_jwt", "--jwks", public), cli.Usage},
		"public":                {[]string{"client", "add", "x", "--name", "X", "--device", "--public", "--auth", "private_key_jwt", "--jwks", public}, cli.Usage},
		"a private key":         {machine("x", "--auth", "private_key_jwt", "--jwks", private), cli.DataError},
		"a file that is not":    {machine("x", "--auth", "private_key_jwt", "--jwks", public+"x"), cli.DataError},
		"a file that is no key": {machine("x", "--auth", "private_key_jwt", "--jwks", d.conf), cli.DataError},
	} {
		var fault *cli.Fault
		if out, err := d.run(one.args...); !errors.As(err, &fault) || fault.Code != one.code || out != "" {
			t.Errorf("%s: %q, %v", what, out, err)
		}
	}
	if list := d.must("client", "list", "--json"); strings.Count(list, "proves itself by a signature") != 2 || strings.Contains(list, "without a secret") {
		t.Errorf("list: %s", list)
	}
	d.serve()
	ask := func(path string, form url.Values, more ...string) (int, map[string]any) {
		t.Helper()
		for i := 0; i+1 < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		res, body := (&seat{t: t, public: d.public}).do(http.MethodPost, path, form)
		var value map[string]any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatalf("%s %s", res.Status, body)
		}
		return res.StatusCode, value
	}
	form := proves(t, key, "board", d.public)
	status, got := ask("/token", form, "grant_type", "client_credentials", "scope", "smtp")
	token, _ := got["access_token"].(string)
	if status != http.StatusOK || token == "" {
		t.Fatalf("%d %v", status, got)
	}
	if status, told := ask("/introspect", proves(t, other, "other", d.public+"/token"), "token", token); status != http.StatusOK || told["active"] != true || told["client_id"] != "board" {
		t.Errorf("introspection by the other: %d %v", status, told)
	}
	for what, form := range map[string]url.Values{"once more": form, "by another's key": proves(t, other, "board", d.public), "for another": proves(t, key, "board", "https://other.test")} {
		if status, got := ask("/token", form, "grant_type", "client_credentials"); status != http.StatusBadRequest || got["error"] != "invalid_client" {
			t.Errorf("%s: %d %v", what, status, got)
		}
	}
	d.must("client", "disable", "board", "--reason", "key lost")
	if status, got := ask("/token", proves(t, key, "board", d.public), "grant_type", "client_credentials"); status != http.StatusBadRequest || got["error"] != "invalid_client" {
		t.Errorf("the disabled program: %d %v", status, got)
	}
}
