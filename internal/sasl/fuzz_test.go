package sasl

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Each parser: no panic, and what it takes, our client would have sent: building the
// message anew from what was read and reading that gives the same.
func fuzzParser(f *testing.F, mechanism string, seeds ...string) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	parse := parser(mechanism)
	f.Fuzz(func(t *testing.T, message []byte) {
		c, err := parse(message)
		if err != nil {
			if !c.Secret.IsZero() || c.User != "" {
				t.Fatal("an error and credentials")
			}
			return
		}
		if c.Secret.IsZero() {
			t.Fatal("accepted without a secret")
		}
		client, err := NewClient(c)
		if err != nil {
			t.Fatalf("accepted what no client may send: %v", err)
		}
		_, again, err := client.Start()
		if err != nil {
			t.Fatal(err)
		}
		d, err := parse(again)
		if err != nil {
			if len(again) > MaxMessage { // an escape grew
				return
			}
			t.Fatalf("%q: %v", again, err)
		}
		if d.User != c.User || d.Authzid != c.Authzid || d.Host != c.Host || d.Port != c.Port || !d.Secret.Equal(c.Secret) {
			t.Fatalf("%q became %q", message, again)
		}
	})
}

func FuzzParsePlain(f *testing.F) {
	fuzzParser(f, Plain, "\x00u\x00p", "a\x00u\x00p", "\x00\x00\x00", "u")
}

func FuzzParseXOAuth2(f *testing.F) {
	fuzzParser(f, XOAuth2, "user=u\x01auth=Bearer t\x01\x01", "user=u\x01auth=bearer  t \x01x=y\x01\x01", "\x01\x01", "user=\x01\x01")
}

func FuzzParseOAuthBearer(f *testing.F) {
	fuzzParser(f, OAuthBearer, "n,a=u=2C=3d,\x01host=h\x01port=1\x01auth=Bearer t\x01\x01", "y,,\x01auth=Bearer t\x01\x01", "\x01", "p=x,,\x01\x01")
}

func FuzzParseRefusal(f *testing.F) {
	f.Add([]byte(`{"status":"401","schemes":"bearer","scope":"mail","openid-configuration":"https://x"}`))
	f.Add([]byte(`{"status":401}`))
	f.Add([]byte(`{"status":null,"status":{}}`))
	f.Fuzz(func(t *testing.T, challenge []byte) {
		refusal, ok := ParseRefusal(challenge)
		if !ok {
			return
		}
		for _, mechanism := range []string{XOAuth2, OAuthBearer} {
			if again, ok := ParseRefusal(refusal.JSON(mechanism)); !ok && len(refusal.JSON(mechanism)) <= MaxMessage {
				t.Fatalf("%+v cannot be read again: %+v", refusal, again)
			}
		}
	})
}

// FuzzServer: any two messages to any mechanism end within bounds and never get a
// yes from a check that says no.
func FuzzServer(f *testing.F) {
	f.Add(byte(0), []byte("user=u\x01auth=Bearer t\x01\x01"), []byte(""))
	f.Add(byte(1), []byte("n,,\x01auth=Bearer t\x01\x01"), []byte("\x01"))
	f.Add(byte(2), []byte("\x00u\x00p"), []byte("x"))
	f.Add(byte(3), []byte("u"), []byte("p"))
	f.Fuzz(func(t *testing.T, which byte, first, second []byte) {
		mechanism := []string{XOAuth2, OAuthBearer, Plain, Login}[which%4]
		server, err := NewServer(mechanism, func(c Credentials) error {
			if c.Secret.Equal(secret.String{}) {
				t.Fatal("asked to check an empty secret")
			}
			return &Refusal{Status: "invalid_token"}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range [][]byte{first, second, {1}, {1}} {
			if _, done, err := server.Next(message); done {
				if err == nil {
					t.Fatal("signed in")
				}
				return
			}
		}
		t.Fatal("no end")
	})
}
