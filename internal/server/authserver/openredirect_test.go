package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Anybody may register a program with a site of theirs. Until a person has decided, a
// link to this server must not lead there (RFC 9700 section 4.11.2).
func TestOpenRedirect(t *testing.T) {
	b := newBench(t)
	for uri, trusted := range map[string]bool{
		"https://evil.test/cb":       false,
		"https://127.0.0.1.test/cb":  false,
		"HTTPS://evil.test/cb":       false,
		"http://127.0.0.1/cb":        true, // a program on the person's own computer
		"http://localhost:4711/cb":   true,
		"com.example.mail:/callback": true,
	} {
		id := b.registerClient(`{"redirect_uris":["`+uri+`"],"client_name":"Bank"}`).text(t, "client_id")
		for name, c := range map[string]struct{ who, query string }{
			"bad scope":       {"", authQuery("client_id", id, "redirect_uri", uri, "scope", "calendar").Encode()},
			"no page, nobody": {"", authQuery("client_id", id, "redirect_uri", uri, "prompt", "none").Encode()},
			"no page":         {"p1", authQuery("client_id", id, "redirect_uri", uri, "prompt", "none").Encode()},
		} {
			got := b.get(b.browser(c.who), "/authorize?"+c.query)
			if trusted != (got.status == http.StatusSeeOther) || !trusted && got.header.Get("Location") != "" {
				t.Errorf("%s, %s: %d to %q", uri, name, got.status, got.header.Get("Location"))
			}
		}
		// A person's no is an answer, and goes to the program.
		no := b.decide("p1", "/authorize?"+authQuery("client_id", id, "redirect_uri", uri).Encode(), "deny")
		to, err := url.Parse(no.header.Get("Location"))
		if err != nil || !strings.HasPrefix(no.header.Get("Location"), uri) || to.Query().Get("error") != "access_denied" {
			t.Errorf("%s, the person's no: %d to %q", uri, no.status, no.header.Get("Location"))
		}
	}
}
