package authserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// FuzzAssertion: what is believed says what the key's owner signed, whatever is done to its
// text, and what it says is short plain text.
func FuzzAssertion(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: "k"})
	if err != nil {
		f.Fatal(err)
	}
	keys, err := ClientKeys(public)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	const payload = `{"iss":"a","sub":"a","aud":["https://id.test"],"jti":"j","exp":1}`
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		f.Fatal(err)
	}
	good, err := signed.CompactSerialize()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := readAssertion(text)
		if err != nil {
			return
		}
		if len(text) > maxAssertion || !plainText(a.claims.Subject, maxClientID) {
			t.Fatalf("%q was taken", text)
		}
		if a.signedBy(keys) && string(a.signed.UnsafePayloadWithoutVerification()) != payload {
			t.Fatalf("%q was believed", text)
		}
	})
}

// FuzzClientKeys: what is kept of keys is public, of few kinds, short, and reads as itself.
func FuzzClientKeys(f *testing.F) {
	f.Add(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","alg":"EdDSA","x5u":"http://169.254.169.254/"}]}`)
	f.Add(`{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc"}`)
	f.Add(`{"kty":"oct","k":"AAAA"}`)
	f.Add("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		kept, err := ClientKeys([]byte(text))
		if err != nil {
			return
		}
		again, err := keySet([]byte(kept))
		if err != nil || again != kept || len(kept) > 2*maxKeyFile {
			t.Fatalf("%q became %q, then %q, %v", text, kept, again, err)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(kept), &set); err != nil || len(set.Keys) == 0 || len(set.Keys) > maxClientKeys {
			t.Fatalf("%q became %q", text, kept)
		}
		for _, key := range set.Keys {
			known := slices.ContainsFunc(fitting(key), func(one jose.SignatureAlgorithm) bool { return slices.Contains(assertionAlgorithms(), one) })
			if !key.IsPublic() || !known || key.CertificatesURL != nil || len(key.Certificates) > 0 || !plainText(key.KeyID, 100) {
				t.Fatalf("%q became %q", text, kept)
			}
		}
	})
}
