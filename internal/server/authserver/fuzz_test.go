package authserver

import (
	"net/url"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func FuzzParams(f *testing.F) {
	f.Add("grant_type=refresh_token&client_id=a&client_id=b&x=%00&resource=1&resource=2&e=")
	f.Fuzz(func(t *testing.T, raw string) {
		all, twice, err := parseParams(raw)
		if err != nil {
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("%q: taken, though net/url refuses it", raw)
		}
		for name, value := range all {
			if value == "" || strings.ContainsAny(value, "\x00\r\n") || len(value) > max(maxValue, longer(name)) {
				t.Fatalf("%q: %q=%q", raw, name, value)
			}
			if len(values[name]) > 1 && name != "resource" && !contains(twice, name) {
				t.Fatalf("%q: %q came twice unnoticed", raw, name)
			}
		}
	})
}

func contains(list []string, want string) bool {
	for _, have := range list {
		if have == want {
			return true
		}
	}
	return false
}

// FuzzRedirect: whatever matches leads, for net/url too, to the registered host and
// path. Nobody may find text on which the comparison and a browser disagree.
func FuzzRedirect(f *testing.F) {
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:80/cb")
	f.Add("http://[::1]", "http://[::1]:1@evil.test")
	f.Add("https://app.example/cb", "https://app.example/cb#x")
	f.Fuzz(func(t *testing.T, registered, requested string) {
		if checkRedirectURI(registered) != nil || !matchRedirect([]string{registered}, requested) {
			return
		}
		have, err := url.Parse(registered)
		if err != nil {
			t.Fatal(err)
		}
		want, err := url.Parse(requested)
		if err != nil {
			t.Fatalf("%q matches %q and is no URL: %v", requested, registered, err)
		}
		if have.Scheme != want.Scheme || have.Hostname() != want.Hostname() || have.Path != want.Path || want.User != nil || want.Fragment != "" || have.RawQuery != want.RawQuery {
			t.Fatalf("%q matches %q", requested, registered)
		}
	})
}

// TestAfterPort holds the comparison alone to what registration already refuses.
func TestAfterPort(t *testing.T) {
	for _, uri := range []string{"http://127.0.0.1.evil.test/", "http://127.0.0.1@evil.test/", "http://127.0.0.1:80@evil.test/", "http://127.0.0.1\\x"} {
		if rest, ok := afterPort(uri, "http://127.0.0.1"); ok {
			t.Errorf("%s: taken, with %q after the port", uri, rest)
		}
	}
}

func FuzzUserCode(f *testing.F) {
	f.Add("bcdf-ghjk")
	f.Add("BCDF GHJK ")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := normalUserCode(typed)
		if !ok {
			return
		}
		if again, same := normalUserCode(code); len(code) != 9 || !same || again != code {
			t.Fatalf("%q became %q, then %q", typed, code, again)
		}
	})
}

// FuzzClientID: no text but a signed one is a client.
func FuzzClientID(f *testing.F) {
	s := &Server{clientKey: []byte("key")}
	id, err := s.sealClientID(sealedClient{Redirects: []string{"http://127.0.0.1/"}, Grants: []string{"authorization_code"}, Name: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id)
	f.Add(id + "A")
	f.Fuzz(func(t *testing.T, text string) {
		client, ok := s.openClientID(text)
		if ok != (text == id) || ok && client.ID != identity.ClientID(text) {
			t.Fatalf("%q: %v %v", text, ok, client)
		}
	})
}

func FuzzRegistration(f *testing.F) {
	f.Add("n", "http://127.0.0.1/")
	f.Fuzz(func(t *testing.T, name, uri string) {
		wish := registration{Name: name, RedirectURIs: []string{uri}}
		if checkRegistration(&wish) != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.User != nil || strings.ContainsAny(uri, "#\\ \r\n") || u.Scheme == "http" && !loopback(u.Hostname()) || u.Scheme == "javascript" || u.Scheme == "data" {
			t.Fatalf("%q was registered", uri)
		}
	})
}
