package authserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// FuzzPresentedClient: no header and body together prove a client that neither proves, and
// what is taken is short plain text.
func FuzzPresentedClient(f *testing.F) {
	f.Add("Basic cnA6c2VjcmV0", "client_id=rp")
	f.Add("Basic cnA6", "client_id=rp&client_secret=secret")
	f.Add("Bearer x", "client_assertion=x")
	f.Add("Basic JTAwOiUwMA==", "")
	f.Add("", "client_assertion=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer")
	f.Fuzz(func(t *testing.T, header, body string) {
		in, twice, err := parseParams(body)
		if err != nil || len(twice) > 0 {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/token", nil)
		r.Header.Set("Authorization", header)
		said, ok := presentedClient(r, in)
		if !ok {
			return
		}
		id, secret := said.id, said.secret
		if !plainText(id, maxClientID) && header != "" || said.assertion != in["client_assertion"] || said.assertion != "" && (secret != "" || header != "") {
			t.Fatalf("%q and %q give the client %q", header, body, id)
		}
		if header != "" && (in["client_secret"] != "" || in["client_id"] != "" && in["client_id"] != id) {
			t.Fatalf("%q and %q are two clients", header, body)
		}
		if header == "" && secret != in["client_secret"] {
			t.Fatalf("a secret from nowhere in %q", body)
		}
	})
}

// FuzzFarewell: nobody is sent to a place that is not registered, and nobody's word but our
// own ID token proves who is to be signed out.
func FuzzFarewell(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{Options: Options{Issuer: "https://id.test", IDKey: key, Now: time.Now}, clients: map[identity.ClientID]identity.Client{
		"rp": {ID: "rp", Name: "RP", LogoutURIs: []string{"https://rp.test/bye"}},
	}}
	if s.ids, err = s.newKeyring(); err != nil {
		f.Fatal(err)
	}
	signer, err := s.ids.signer(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	hint, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: s.Issuer, Subject: "p1", Audience: jwt.Audience{"rp"}}).Serialize()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("post_logout_redirect_uri=https%3A%2F%2Frp.test%2Fbye&id_token_hint=" + hint)
	f.Add("client_id=rp&post_logout_redirect_uri=https%3A%2F%2Fevil.test&state=x")
	f.Add("id_token_hint=eyJhbGciOiJub25lIn0.e30.&client_id=rp")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/end_session", nil)
		bye, ok := s.readFarewell(r, query, Session{ID: "s", Person: "p1"})
		if !ok {
			return
		}
		if bye.target != "" && bye.target != "https://rp.test/bye" {
			t.Fatalf("%q leads to %q", query, bye.target)
		}
		values, err := url.ParseQuery(query)
		if bye.proven && (err != nil || !bytes.Equal([]byte(values.Get("id_token_hint")), []byte(hint))) {
			// Signatures of ECDSA can be written otherwise, and still be ours.
			if _, mine := s.ownIDToken(r, values.Get("id_token_hint")); !mine {
				t.Fatalf("%q proves it", query)
			}
		}
		if got := fmt.Sprint(bye.client); got != "" && got != "RP" {
			t.Fatalf("%q is %q", query, got)
		}
	})
}
