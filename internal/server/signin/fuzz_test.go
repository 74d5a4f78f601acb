package signin

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// canned answers every request of the API with what it was given, by path.
type canned struct {
	user, orgs, team, emails, link string
	calls                          int
}

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	c.calls++
	body := map[string]string{"/user": c.user, "/user/memberships/orgs": c.orgs, "/user/emails": c.emails}[r.URL.Path]
	if strings.HasPrefix(r.URL.Path, "/organizations/") {
		body = c.team
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Link": {c.link}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// FuzzGitHubAnswers: whatever the API says, an account has a positive number, a membership
// is the one asked for and active, and reading ends.
func FuzzGitHubAnswers(f *testing.F) {
	f.Add(`{"id":7,"login":"ann"}`, `[{"state":"active","organization":{"id":9919}}]`, `{"state":"active"}`, `[{"email":"a@example.org","verified":true}]`, `<https://x>; rel="next"`)
	f.Add(`{"id":-1,"login":"ann"}`, `null`, `[]`, `{}`, `rel=next`)
	f.Add(`{"id":1e3,"login":"../x"}`, `[{"state":"pending","organization":{"id":9919}}]`, `{"state":"ACTIVE"}`, `[null]`, `<,>;rel="prev next"`)
	f.Fuzz(func(t *testing.T, user, orgs, team, emails, link string) {
		c := &canned{user: user, orgs: orgs, team: team, emails: emails, link: link}
		g := NewGitHub(GitHubOptions{API: "https://api.test", ClientID: "app", Organization: org, Team: 1, Emails: true, HTTP: &http.Client{Transport: c}, Now: time.Now})
		account, err := g.who(t.Context(), oauth.Token{Access: secret.New("t"), Scopes: []string{"user,read:org"}})
		if c.calls > 3+2*maxPages {
			t.Fatalf("%d calls", c.calls)
		}
		if err != nil {
			return
		}
		if account.Subject == "" || account.Subject[0] == '-' || account.Subject == "0" || !strings.Contains(orgs, "active") || !strings.Contains(team, "active") {
			t.Fatalf("let in %+v", account)
		}
		if strings.ContainsAny(account.Shown+account.Name, "\r\n\x00\x1b") {
			t.Fatalf("%q", account)
		}
	})
}

// FuzzOwnAddresses: an address that decides is plain, canonical, and in a domain of ours.
func FuzzOwnAddresses(f *testing.F) {
	for _, seed := range []string{"ann@example.org", "Ann@EXAMPLE.org", `"a@b"@example.org`, "\u212a@example.org", "a@b@example.org", "a+b@example.org", "a@example.org."} {
		f.Add(seed)
	}
	d := &Desk{Options{Domains: []string{"example.org"}}}
	f.Fuzz(func(t *testing.T, email string) {
		for _, address := range d.ownAddresses([]string{email}) {
			canonical, err := identity.CanonicalAddress(address)
			if err != nil || canonical != address || !strings.EqualFold(address, email) || !strings.HasSuffix(address, "@example.org") ||
				strings.Count(address, "@") != 1 || strings.ContainsAny(address, "+\" \t\r\n") {
				t.Fatalf("%q became %q", email, address)
			}
		}
	})
}

// FuzzClaims: no claim has a value that is not written in it.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{`{"groups":["mail"]}`, `{"groups":"mail"}`, `{"groups":null}`, `{"groups":{"a":"mail"}}`, `{"email_verified":"true"}`} {
		f.Add("h."+base64.RawURLEncoding.EncodeToString([]byte(seed))+".s", "mail")
	}
	p := NewOIDC(OIDCOptions{Issuer: "https://op.test"})
	f.Fuzz(func(t *testing.T, token, value string) {
		claims, err := payload(token)
		if err != nil {
			return
		}
		if value != "" && value != "true" && value != "false" && hasOne(claims["groups"], []string{value}) {
			var one any
			_ = json.Unmarshal(claims["groups"], &one)
			list, _ := one.([]any)
			if one != value && !slices.Contains(list, any(value)) {
				t.Fatalf("%q is not in %s", value, claims["groups"])
			}
		}
		account, err := p.account(oauth.IDClaims{Issuer: "https://op.test", Subject: "1", Email: "a@example.org"}, claims)
		if err == nil && len(account.Emails) > 0 && strings.TrimSpace(string(claims["email_verified"])) != "true" {
			t.Fatalf("verified by %s", claims["email_verified"])
		}
	})
}

// FuzzCallback: no query lets a browser in that began nothing, or comes with another's state.
func FuzzCallback(f *testing.F) {
	for _, seed := range []string{"", "code=c&state=s", "state=%zz", "error=access_denied&state=s", "code=a&code=b&state=s", strings.Repeat("a=b&", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 32<<10 {
			return
		}
		states := queryValues(query, "state")
		if again := queryValues(query, "state"); !slices.Equal(states, again) {
			t.Fatal("read differently")
		}
		g := NewGitHub(GitHubOptions{ClientID: "app", HTTP: &http.Client{Transport: &canned{}}, Now: time.Now})
		if account, err := g.Finish(t.Context(), Flow{State: "the-state-of-this-browser"}, query); err == nil {
			t.Fatalf("let in %+v", account)
		}
	})
}
