//go:build unix

package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
	"github.com/letterlock-mail/letterlock/internal/lab/zone"
)

// An openServer is example.org: its autoconfig and its authorization server, which
// takes one public or lent client and nobody else.
type openServer struct {
	mu           sync.Mutex
	id, secret   string // of the one client
	autoconfig   string // what oAuth2 holds beside the issuer
	registration string // "": not offered; else how it answers
	codes        map[string]url.Values
	tokens       map[string]string
	registered   int
}

// Hosts implements fakeidp.Provider.
func (s *openServer) Hosts() []string {
	return []string{"login.example.org", "autoconfig.example.org"}
}

// Fired and Refusals are of the strict fakes; this one counts nothing.
func (s *openServer) Fired() map[string]int { return nil }

func (s *openServer) Refusals() []string { return nil }

// Check implements fakeidp.Provider.
func (s *openServer) Check(token, _ string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if who := s.tokens[token]; who != "" {
		return who, nil
	}
	return "", errors.New("unknown token")
}

// ServeHTTP implements http.Handler.
func (s *openServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const issuer = "https://login.example.org"
	say := func(status int, value any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}
	_ = r.ParseForm()
	host, _, _ := strings.Cut(r.Host, ":")
	switch host + r.URL.Path {
	case "autoconfig.example.org/mail/config-v1.1.xml":
		fmt.Fprintf(w, `<clientConfig version="1.2"><emailProvider id="example.org"><domain>example.org</domain>
<incomingServer type="imap"><hostname>imap.example.org</hostname><port>993</port><socketType>SSL</socketType><username>%%EMAILADDRESS%%</username></incomingServer>
</emailProvider><oAuth2><issuer>%s</issuer>%s</oAuth2></clientConfig>`, issuer, s.autoconfig)
	case "login.example.org/.well-known/openid-configuration":
		m := map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
			"scopes_supported": []string{"urn:ietf:params:oauth:scope:mail", "offline_access"}, "code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true}
		if s.registration != "" {
			m["registration_endpoint"] = issuer + "/register"
		}
		say(200, m)
	case "login.example.org/register":
		s.registered++
		say(403, map[string]string{"error": s.registration})
	case "login.example.org/authorize":
		back, err := url.Parse(r.Form.Get("redirect_uri"))
		if err != nil || back.Hostname() != "127.0.0.1" || r.Form.Get("client_id") != s.id || r.Form.Get("code_challenge") == "" || r.Form.Get("client_secret") != "" {
			http.Error(w, "not a client of ours", 400)
			return
		}
		code := fmt.Sprintf("code-%d", len(s.codes))
		s.codes[code] = r.Form
		back.RawQuery = url.Values{"code": {code}, "state": {r.Form.Get("state")}, "iss": {issuer}}.Encode()
		http.Redirect(w, r, back.String(), http.StatusFound)
	case "login.example.org/token":
		asked := s.codes[r.PostForm.Get("code")]
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		id, secret, _ := r.BasicAuth()
		secret, _ = url.QueryUnescape(secret) // RFC 6749 section 2.3.1
		if id == "" {
			id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
		}
		if asked == nil || id != s.id || secret != s.secret || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
			say(400, map[string]string{"error": "invalid_grant"})
			return
		}
		token := fmt.Sprintf("at-%d-%d", len(s.tokens), time.Now().UnixNano())
		s.tokens[token] = asked.Get("login_hint")
		say(200, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt-" + token, "scope": asked.Get("scope")})
	default:
		http.NotFound(w, r)
	}
}

// TestClientWithoutAnID: a domain that publishes where its people sign in, and the ways
// to a client when nobody has an id: "open", one that the document lends, and "open"
// where registration is refused.
func TestClientWithoutAnID(t *testing.T) {
	t.Parallel()
	server := &openServer{}
	w := newWorld(t, func(func() time.Time) []fakeidp.Provider { return []fakeidp.Provider{server} })
	nowhere := zone.Zone{"example.org MX": {"10 mx.example.org"}}.Serve(t)
	for _, c := range []struct {
		name, id, secret, autoconfig, registration string
	}{
		{"open", "open", "", "", ""},
		{"lent", "everybody", "", "<clientID>everybody</clientID>", ""},
		{"lent with what it calls a secret", "everybody", "known to all", "<clientID>everybody</clientID><clientSecret>known to all</clientSecret>", ""},
		{"registration refused", "open", "", "", "access_denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server.mu.Lock()
			server.id, server.secret, server.autoconfig, server.registration, server.registered = c.id, c.secret, c.autoconfig, c.registration, 0
			server.codes, server.tokens = map[string]url.Values{}, map[string]string{}
			server.mu.Unlock()
			h := w.person(t)
			for _, again := range []bool{false, true} { // the second time by what was written down
				a := w.login(h, nil, "ann@example.org", "--dns-server", nowhere, "--flow", "paste")
				if a.code != 0 || !again && !strings.Contains(a.stderr, "example.org says by https://autoconfig.example.org/mail/config-v1.1.xml that its people sign in at https://login.example.org") {
					t.Fatalf("again %v: %v", again, a)
				}
			}
			if who, err := server.Check(h.token("ann@example.org"), ""); err != nil || who != "ann@example.org" {
				t.Errorf("%q, %v", who, err)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if (c.registration != "") != (server.registered > 0) {
				t.Errorf("registered %d times", server.registered)
			}
			if asked := w.net.Asked(); slices.ContainsFunc(asked, func(place string) bool { return strings.HasSuffix(place, ":80") }) {
				t.Errorf("plain http was tried: %q", asked)
			}
		})
	}
}

// TestNothingPublished: what a person is told when the domain says nothing, when only
// DNS says something, and when DNS is away.
func TestNothingPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(func() time.Time) []fakeidp.Provider { return nil })
	h := w.person(t)
	for _, c := range []struct {
		name  string
		zone  zone.Zone
		code  int
		texts []string
	}{
		{"nothing", zone.Zone{"example.org MX": {"10 mx.example.org"}}, 78, []string{"which provider example.org belongs to is not known", "--issuer URL"}},
		{"a host outside of the domain", zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 imap.mallory.example"}}, 78, []string{"DNS, which can be forged, says that the imap server of example.org is imap.mallory.example", "--imap imap.mallory.example"}},
		{"DNS away", zone.Zone{"example.org MX": {"FAIL"}, "_imaps._tcp.example.org SRV": {"FAIL"}}, 75, []string{"_imaps._tcp.example.org", "try again"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := c.zone.Serve(t)
			h.letterlock("login", "ann@example.org", "--dns-server", server).says(t, c.code, c.texts...)
			if r := h.letterlock("discover", "ann@example.org", "--dns-server", server, "--json"); r.code != c.code || !json.Valid([]byte(r.stdout)) || !strings.Contains(r.stdout, `"domain": "example.org"`) {
				t.Errorf("discover: %v", r)
			}
			if asked := w.net.Asked(); slices.ContainsFunc(asked, func(place string) bool { return strings.Contains(place, "mallory") }) {
				t.Errorf("a host in doubt was spoken to: %q", asked)
			}
		})
	}
	h.letterlock("discover", "ann@localhost").says(t, 67, "the domain of the address")
	h.letterlock("discover", "ann").says(t, 67)
	h.letterlock("login", "ann@example.org", "--dns-server", "x").says(t, 64)
}
