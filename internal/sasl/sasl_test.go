package sasl

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	gosasl "github.com/emersion/go-sasl"
	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

func TestClientMessages(t *testing.T) {
	tests := []struct {
		name string
		c    Credentials
		want string
	}{
		{"xoauth2", Credentials{Mechanism: XOAuth2, User: "someuser@example.com", Secret: secret.New("ya29.vF9dft4")},
			"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4\x01\x01"},
		// The example of RFC 7628 section 4.1.
		{"oauthbearer", Credentials{Mechanism: OAuthBearer, User: "user@example.com", Host: "server.example.com", Port: 143,
			Secret: secret.New("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")},
			"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"},
		{"oauthbearer escaped", Credentials{Mechanism: OAuthBearer, User: "a=b,c=2C", Secret: secret.New("t")},
			"n,a=a=3Db=2Cc=3D2C,\x01auth=Bearer t\x01\x01"},
		{"oauthbearer no user", Credentials{Mechanism: OAuthBearer, Secret: secret.New("t")}, "n,,\x01auth=Bearer t\x01\x01"},
		{"plain", Credentials{Mechanism: Plain, User: "u", Secret: secret.New("p w")}, "\x00u\x00p w"},
		{"login", Credentials{Mechanism: Login, User: "u", Secret: secret.New("p")}, "u"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := NewClient(tt.c)
			if err != nil {
				t.Fatal(err)
			}
			mechanism, first, err := client.Start()
			if err != nil || mechanism != tt.c.Mechanism || string(first) != tt.want {
				t.Errorf("Start() = %q, %q, %v; want %q", mechanism, first, err, tt.want)
			}
		})
	}
}

// Whatever would end a field and begin another is refused before it is written.
func TestClientRefusesInjection(t *testing.T) {
	good := Credentials{User: "u@example.test", Secret: secret.New("token")}
	type change func(*Credentials)
	user := func(s string) change { return func(c *Credentials) { c.User = s } }
	token := func(s string) change { return func(c *Credentials) { c.Secret = secret.New(s) } }
	host := func(s string) change { return func(c *Credentials) { c.Host = s } }
	both := []string{XOAuth2, OAuthBearer}
	all := []string{XOAuth2, OAuthBearer, Plain, Login}
	tests := []struct {
		name       string
		mechanisms []string
		change     change
	}{
		{"ctrl-a in user", all, user("u\x01auth=Bearer x")},
		{"nul in user", all, user("u\x00v")},
		{"newline in user", all, user("u\r\nA3 LOGOUT")},
		{"delete in user", all, user("u\x7f")},
		{"not utf-8", all, user("u\xff")},
		{"long user", all, user(strings.Repeat("u", maxUser+1))},
		{"no user", []string{XOAuth2, Plain, Login}, user("")},
		{"ctrl-a in token", both, token("t\x01user=root")},
		{"space in token", both, token("t t")},
		{"newline in token", both, token("t\n")},
		{"nul in token", both, token("t\x00")},
		{"beyond ascii", both, token("t\u00e9")},
		{"long token", both, token(strings.Repeat("t", MaxMessage+1))},
		{"no secret", all, token("")},
		{"nul in password", []string{Plain, Login}, token("p\x00q")},
		{"long password", []string{Plain, Login}, token(strings.Repeat("p", maxPassword+1))},
		{"ctrl-a in host", []string{OAuthBearer}, host("h\x01auth=Bearer x")},
		{"space in host", []string{OAuthBearer}, host("h h")},
		{"port", []string{OAuthBearer}, func(c *Credentials) { c.Port = 65536 }},
		{"ctrl-a in authzid", []string{Plain}, func(c *Credentials) { c.Authzid = "a\x00b" }},
	}
	for _, tt := range tests {
		for _, mechanism := range tt.mechanisms {
			c := good
			c.Mechanism = mechanism
			tt.change(&c)
			_, err := NewClient(c)
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: got %v", tt.name, mechanism, err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x01\x00\r\n") {
				t.Errorf("%s, %s: the error repeats the input: %q", tt.name, mechanism, err)
			}
		}
	}
	if _, err := NewClient(Credentials{Mechanism: "SCRAM-SHA-256", User: "u", Secret: secret.New("p")}); !errors.Is(err, ErrMechanism) {
		t.Errorf("unknown mechanism: %v", err)
	}
	if _, err := NewServer("SCRAM-SHA-256", nil); !errors.Is(err, ErrMechanism) {
		t.Errorf("unknown mechanism: %v", err)
	}
}

// The failure rounds: each mechanism has its own dummy answer, and a second
// challenge is an error. Nil would read as success to go-smtp's client.
func TestFailureRound(t *testing.T) {
	for mechanism, dummy := range map[string]string{XOAuth2: "", OAuthBearer: "\x01"} {
		client, err := NewClient(Credentials{Mechanism: mechanism, User: "u", Secret: secret.New("t")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.Start(); err != nil {
			t.Fatal(err)
		}
		answer, err := client.Next([]byte(`{"status":"401"}`))
		if err != nil || answer == nil || string(answer) != dummy {
			t.Errorf("%s: answer %q (nil: %v), %v; want %q", mechanism, answer, answer == nil, err, dummy)
		}
		if _, err := client.Next(nil); !errors.Is(err, gosasl.ErrUnexpectedServerChallenge) {
			t.Errorf("%s: second challenge: %v", mechanism, err)
		}
	}
}

func TestLoginClientIgnoresTheChallengesText(t *testing.T) {
	for _, text := range []string{"Password:", "Password", "password", "Passwort:\x00"} {
		client, _ := NewClient(Credentials{Mechanism: Login, User: "u", Secret: secret.New("p")})
		if answer, err := client.Next([]byte(text)); err != nil || string(answer) != "p" {
			t.Errorf("%q: %q, %v", text, answer, err)
		}
		if _, err := client.Next([]byte(text)); err == nil {
			t.Error("a second challenge was answered")
		}
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		mechanism, message, user, token string
		ok                              bool
	}{
		{XOAuth2, "user=u\x01auth=Bearer t\x01\x01", "u", "t", true},
		{XOAuth2, "user=u\x01auth=bearer   t\x01\x01", "u", "t", true},
		{XOAuth2, "user=u\x01auth=Bearer t\x01vendor=x\x01\x01", "u", "t", true},
		{XOAuth2, "user=u\x01auth=Bearer t\x01", "", "", false},
		{XOAuth2, "user=u\x01user=v\x01auth=Bearer t\x01\x01", "", "", false},
		{XOAuth2, "user=\x01auth=Bearer t\x01\x01", "", "", false},
		{XOAuth2, "user=u\x01auth=Basic t\x01\x01", "", "", false},
		{XOAuth2, "user=u\x01auth=Bearer \x01\x01", "", "", false},
		{XOAuth2, "user=u\r\n\x01auth=Bearer t\x01\x01", "", "", false},
		{XOAuth2, "", "", "", false},
		{OAuthBearer, "n,a=u,\x01auth=Bearer t\x01\x01", "u", "t", true},
		{OAuthBearer, "y,a=u,\x01host=h\x01port=993\x01auth=BEARER t\x01\x01", "u", "t", true},
		{OAuthBearer, "n,,\x01auth=Bearer t\x01\x01", "", "t", true},
		{OAuthBearer, "n,a=a=2cb=3D,\x01auth=Bearer t\x01\x01", "a,b=", "t", true},
		{OAuthBearer, "p=tls-unique,a=u,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "F,n,a=u,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,b=u,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u=,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u=41,\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,x\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,\x01port=0\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,\x01port=x\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,\x01host=h h\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,\x01=x\x01auth=Bearer t\x01\x01", "", "", false},
		{OAuthBearer, "n,a=u,\x01\x01", "", "", false},
		{OAuthBearer, "\x01", "", "", false},
		{Plain, "\x00u\x00t", "u", "t", true},
		{Plain, "u\x00u\x00t", "u", "t", true},
		{Plain, "\x00u\x00t\x00", "", "", false},
		{Plain, "u\x00t", "", "", false},
		{Plain, "\x00\x00t", "", "", false},
		{Plain, "\x00u\x00", "", "", false},
		{Plain, "a\x01\x00u\x00t", "", "", false},
	}
	for _, tt := range tests {
		c, err := parser(tt.mechanism)([]byte(tt.message))
		if (err == nil) != tt.ok || c.User != tt.user || c.Secret.Reveal() != tt.token {
			t.Errorf("%s %q: user %q, token %q, %v", tt.mechanism, tt.message, c.User, c.Secret.Reveal(), err)
		}
	}
	for _, mechanism := range []string{Plain, XOAuth2, OAuthBearer} {
		if _, err := parser(mechanism)(bytes.Repeat([]byte{'x'}, MaxMessage+1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s takes a message without bounds: %v", mechanism, err)
		}
	}
}

func parser(mechanism string) func([]byte) (Credentials, error) {
	switch mechanism {
	case Plain:
		return ParsePlain
	case XOAuth2:
		return ParseXOAuth2
	}
	return ParseOAuthBearer
}

// What a client sends is what the server reads, with and without initial response.
func TestClientAndServerAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Credentials{
			Mechanism: rapid.SampledFrom([]string{Plain, Login, XOAuth2, OAuthBearer}).Draw(t, "mechanism"),
			User:      rapid.StringMatching(`[a-z=,"\\ é@%]{1,20}`).Draw(t, "user"),
			Secret:    secret.New(rapid.StringMatching(`[!-~]{1,60}`).Draw(t, "secret")),
		}
		var got Credentials
		server, err := NewServer(c.Mechanism, func(presented Credentials) error { got = presented; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := converse(t, c, server, rapid.Bool().Draw(t, "initial")); err != nil {
			t.Fatal(err)
		}
		if got.Mechanism != c.Mechanism || got.User != c.User || !got.Secret.Equal(c.Secret) {
			t.Fatalf("sent %q %q, read %q %q", c.User, c.Secret.Reveal(), got.User, got.Secret.Reveal())
		}
	})
}

// converse lets a client talk to a server until it is done.
func converse(t interface{ Fatalf(string, ...any) }, c Credentials, server Server, initial bool) error {
	client, err := NewClient(c)
	if err != nil {
		t.Fatalf("%v", err)
	}
	_, response, _ := client.Start()
	if !initial {
		if challenge, done, err := server.Next(nil); challenge == nil || done || err != nil {
			t.Fatalf("without initial response: %q, %v, %v", challenge, done, err)
		}
	}
	for range 4 {
		challenge, done, err := server.Next(response)
		if done {
			return err
		}
		if response, err = client.Next(challenge); err != nil {
			t.Fatalf("client at %q: %v", challenge, err)
		}
	}
	t.Fatalf("no end")
	return nil
}

func TestServerRefusal(t *testing.T) {
	refusal := &Refusal{Status: "insufficient_scope", Scope: "mail", OpenIDConfiguration: "https://id.example.test/x"}
	want := map[string]string{
		XOAuth2:     `{"status":"403","schemes":"bearer","scope":"mail","openid-configuration":"https://id.example.test/x"}`,
		OAuthBearer: `{"status":"insufficient_scope","scope":"mail","openid-configuration":"https://id.example.test/x"}`,
	}
	for mechanism, challenge := range want {
		for _, dummy := range []string{"", "\x01", "anything"} {
			server, _ := NewServer(mechanism, func(Credentials) error { return refusal })
			client, _ := NewClient(Credentials{Mechanism: mechanism, User: "u", Secret: secret.New("t")})
			_, first, _ := client.Start()
			got, done, err := server.Next(first)
			if string(got) != challenge || done || err != nil {
				t.Errorf("%s: %s, %v, %v", mechanism, got, done, err)
			}
			if _, done, err := server.Next([]byte(dummy)); !done || !errors.Is(err, refusal) {
				t.Errorf("%s: after the dummy: %v, %v", mechanism, done, err)
			}
			if _, _, err := server.Next(first); !errors.Is(err, gosasl.ErrUnexpectedClientResponse) {
				t.Errorf("%s: a second message gets %v", mechanism, err)
			}
		}
	}
}

func TestServerMalformedAndOutage(t *testing.T) {
	for mechanism, status := range map[string]string{XOAuth2: `"400"`, OAuthBearer: `"invalid_request"`} {
		server, _ := NewServer(mechanism, func(Credentials) error { t.Error("checked garbage"); return nil })
		challenge, done, err := server.Next([]byte("garbage"))
		if !strings.Contains(string(challenge), status) || done || err != nil {
			t.Errorf("%s: %s, %v, %v", mechanism, challenge, done, err)
		}
		if _, done, err := server.Next(nil); !done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", mechanism, done, err)
		}
	}
	outage := errors.New("database away")
	for _, mechanism := range []string{Plain, Login, XOAuth2, OAuthBearer} {
		server, _ := NewServer(mechanism, func(Credentials) error { return outage })
		c := Credentials{Mechanism: mechanism, User: "u", Secret: secret.New("t")}
		if err := converse(t, c, server, true); !errors.Is(err, outage) {
			t.Errorf("%s: %v", mechanism, err)
		}
		if _, _, err := server.Next([]byte("x")); !errors.Is(err, gosasl.ErrUnexpectedClientResponse) {
			t.Errorf("%s goes on after its end: %v", mechanism, err)
		}
	}
}

func TestParseRefusal(t *testing.T) {
	tests := []struct {
		challenge string
		want      Refusal
		ok        bool
	}{
		{`{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}`, Refusal{"400", "Bearer", "https://mail.google.com/", ""}, true},
		{`{"status":"invalid_token"}`, Refusal{Status: "invalid_token"}, true},
		{`{"status":401,"schemes":["bearer","mac"],"x":{"y":1}}`, Refusal{Status: "401", Schemes: `["bearer","mac"]`}, true},
		{`{"error":"x"}`, Refusal{}, false},
		{`Username:`, Refusal{}, false},
		{``, Refusal{}, false},
		{`{"status":"` + strings.Repeat("x", MaxMessage) + `"}`, Refusal{}, false},
	}
	for _, tt := range tests {
		if got, ok := ParseRefusal([]byte(tt.challenge)); got != tt.want || ok != tt.ok {
			t.Errorf("%.60s: %+v, %v", tt.challenge, got, ok)
		}
	}
}
