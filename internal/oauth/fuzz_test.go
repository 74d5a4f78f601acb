package oauth

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRegistrationAnswer: no answer makes a client with another redirect URI, or one
// whose id or secret could break out of a header.
func FuzzRegistrationAnswer(f *testing.F) {
	for _, body := range []string{
		`{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"client_secret_post","registration_client_uri":"https://x/1","registration_access_token":"t"}`,
		`{"client_id":"c","redirect_uris":["http://127.0.0.1/a"]}`, `{"client_id":"c","redirect_uris":["https://evil.example/"]}`,
		`{"client_id":"a\u0001"}`, `{"error":"invalid_redirect_uri"}`, `[]`, ``,
	} {
		f.Add(201, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		const ours = "http://127.0.0.1/a"
		client, err := (answer{endpoint: "registration", status: status, body: body}).client(RegisterRequest{RedirectURIs: []string{ours}}, "https://idp.example/register")
		if err != nil {
			fault(t, err)
			return
		}
		if status < 200 || status > 299 || client.ID == "" || !charset(client.ID, 0x20) || !charset(client.Secret.Reveal(), 0x20) {
			t.Fatalf("status %d, accepted %q", status, client.ID)
		}
		if (client.Auth == AuthNone) != client.Secret.IsZero() || client.Auth == "" {
			t.Fatalf("authentication %q, secret %v", client.Auth, !client.Secret.IsZero())
		}
		o, _ := parseObject(body)
		if slices.ContainsFunc(o.list("redirect_uris"), func(uri string) bool { return uri != ours }) {
			t.Fatal("another redirect URI was accepted")
		}
		if r := client.Registration; r != nil {
			if u, err := url.Parse(r.ClientURI); err != nil || u.Scheme != "https" && !loopback(u.Hostname()) || !charset(r.AccessToken.Reveal(), 0x21) {
				t.Fatalf("accepted %q", r.ClientURI)
			}
		}
	})
}

// FuzzUserInfo: claims are about the subject that was asked for, or are none.
func FuzzUserInfo(f *testing.F) {
	for _, body := range []string{
		`{"sub":"1","email":"a@example.org"}`, `{"sub":"2"}`, `{"sub":1}`, `{"sub":"1","sub":"2"}`, `{"Sub":"1"}`, `{}`, `null`, `[]`, `"1"`, ``, "\xef\xbb\xbf{\"sub\":\"1\"}",
	} {
		f.Add("1", []byte(body))
	}
	f.Fuzz(func(t *testing.T, subject string, body []byte) {
		claims, err := answer{endpoint: "userinfo", status: http.StatusOK, body: body}.userInfo(subject)
		if err != nil {
			fault(t, err)
			return
		}
		var named string
		if err := json.Unmarshal(claims["sub"], &named); err != nil || named != subject || subject == "" {
			t.Fatalf("asked for %q, took %s", subject, body)
		}
	})
}

// FuzzIDToken: without the issuer's key no token is accepted; with it, whatever it
// claims, only what the checks let through.
func FuzzIDToken(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	transport := answering(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + public + `"}]}`)
	conn := &Conn{HTTP: &http.Client{Transport: transport}, Endpoints: Endpoints{Issuer: "https://idp.example", JWKS: "https://idp.example/keys"}, Client: Client{ID: "client"}, Now: noon}
	f.Add("eyJhbGciOiJFZERTQSJ9", []byte(`{"iss":"https://idp.example","sub":"1","aud":"client","nonce":"n","exp":1794312800}`), []byte(nil))
	f.Add("eyJhbGciOiJub25lIn0", []byte(`{"iss":"https://idp.example","sub":"1","aud":["client"],"nonce":"n","exp":1794312800}`), []byte("x"))
	f.Add("", []byte(`{}`), []byte("sig"))
	f.Fuzz(func(t *testing.T, header string, payload, signature []byte) {
		body := base64.RawURLEncoding.EncodeToString(payload)
		forged := header + "." + body + "." + base64.RawURLEncoding.EncodeToString(signature)
		if len(signature) != ed25519.SignatureSize {
			if claims, err := conn.VerifyID(t.Context(), hidden(forged), "n", false); err == nil {
				t.Fatalf("a forged token was accepted: %+v", claims)
			} else if strings.ContainsAny(err.Error(), "\r\n\x1b") {
				t.Fatalf("unclean %q", err)
			}
		}
		head := "eyJhbGciOiJFZERTQSJ9." + body
		claims, err := conn.VerifyID(t.Context(), hidden(head+"."+base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(head)))), "n", false)
		if err != nil {
			return
		}
		if claims.Issuer != "https://idp.example" || claims.Nonce != "n" || claims.Subject == "" {
			t.Fatalf("%q: accepted %+v", payload, claims)
		}
	})
}

// answering is a network on which every request has one answer.
type answering string

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}

// FuzzIssuer: what is taken for an issuer is https, or http on loopback, on one line.
func FuzzIssuer(f *testing.F) {
	for _, text := range []string{"https://login.example.org/realms/mail", "login.example.org", "http://127.0.0.1:8080", "http://evil.example", "HTTPS://A.B/c?d", "https://u:p@x", "x://y", "https://\x1b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		issuer, err := ParseIssuer(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x1b") {
				t.Fatalf("unclean %q", err)
			}
			return
		}
		u, err := url.Parse(string(issuer))
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			t.Fatalf("%q was taken for the issuer %q", text, issuer)
		}
		if again, err := ParseIssuer(string(issuer)); err != nil || again != issuer {
			t.Fatalf("%q became %q, which becomes %q, %v", text, issuer, again, err)
		}
	})
}
