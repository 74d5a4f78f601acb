package membership_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
)

var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

const (
	org  = 9919
	team = 47
)

// A hub is a fake GitHub with an organisation of 250 people, the app, and an asker.
type hub struct {
	s     *fakegithub.Server
	asker *membership.GitHub
	now   time.Time
}

func newHub(t *testing.T, teamID int) *hub {
	t.Helper()
	h := &hub{now: time.Unix(1_800_000_000, 0)}
	h.s = fakegithub.New(func() time.Time { return h.now }, "app", "hush", "https://id.example.org/cb")
	h.s.App = &fakegithub.App{ID: "4711", Key: &appKey().PublicKey, Installations: []*fakegithub.Installation{{ID: 1, Org: 5, Members: "read"}, {ID: 33, Org: org, Members: "read"}}}
	h.s.Organizations = []*fakegithub.Org{{ID: 5, Login: "other"}, {ID: org, Login: "acme"}}
	for i := 1; i <= 250; i++ {
		h.s.Accounts = append(h.s.Accounts, &fakegithub.Person{ID: int64(i), Login: fmt.Sprint("user-", i),
			Orgs:  []fakegithub.Membership{{ID: org, State: "active", Public: i%50 == 0}},
			Teams: []fakegithub.Membership{{ID: team, Org: org, State: "active"}}})
	}
	server := httptest.NewServer(h.s)
	t.Cleanup(server.Close)
	h.asker = membership.NewGitHub(membership.GitHubOptions{URL: server.URL, AppID: "4711", Key: appKey(), Organization: org, Team: teamID,
		HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: func() time.Time { return h.now }})
	return h
}

func (h *hub) person(id int) *fakegithub.Person { return h.s.Accounts[id-1] }

func bound(subjects ...string) []identity.Binding {
	var all []identity.Binding
	for _, s := range subjects {
		all = append(all, identity.Binding{Issuer: "https://github.com", Subject: s, Person: identity.PersonID("p" + s)})
	}
	return all
}

// Faults of GitHub as data: what is a definite no, what is a yes after all, and what is
// nothing to go by. Accounts 1, 120 and 240 are bound.
func TestGitHub(t *testing.T) {
	const gone, member, nothing = "gone", "member", "nothing is known"
	for _, c := range []struct {
		what  string
		team  int
		fault func(h *hub)
		want  string // of account 120
		says  string // of the error, or the reason
		after time.Duration
	}{
		{"all is well", 0, func(*hub) {}, member, "", 0},
		{"all is well in the team", team, func(*hub) {}, member, "", 0},
		{"left", 0, func(h *hub) { h.person(120).Orgs = nil }, gone, "not in the organisation", 0},
		{"left the team only", team, func(h *hub) { h.person(120).Teams = nil }, gone, "not in the team", 0},
		{"left the team, which is not asked for", 0, func(h *hub) { h.person(120).Teams = nil }, member, "", 0},
		{"invited again", 0, func(h *hub) { h.person(120).Orgs[0].State = "pending" }, gone, "has not accepted", 0},
		{"account deleted", 0, func(h *hub) { h.s.Accounts = append(h.s.Accounts[:119:119], h.s.Accounts[120:]...) }, gone, "not there any more", 0},
		{"another has the name now", 0, func(h *hub) {
			h.person(120).Orgs, h.person(120).Login = nil, "renamed"
			h.s.Accounts = append(h.s.Accounts, &fakegithub.Person{ID: 999, Login: "user-120", Orgs: []fakegithub.Membership{{ID: org, State: "active"}}})
		}, gone, "not in the organisation", 0},
		{"renamed themselves", 0, func(h *hub) { h.person(120).Login = "renamed" }, member, "", 0},
		{"missing from the list only", 0, func(h *hub) { h.person(120).Orgs[0].Unlisted = true }, member, "", 0},
		{"the organisation was renamed", 0, func(h *hub) { h.s.Organizations[1].Login = "acme-inc" }, member, "", 0},
		{"the app was uninstalled", 0, func(h *hub) { h.s.App.Installations = h.s.App.Installations[:1] }, nothing, "not installed the app", 0},
		{"the app is suspended", 0, func(h *hub) { h.s.App.Installations[1].Suspended = true }, nothing, "suspended", 0},
		{"the right was taken away", 0, func(h *hub) { h.s.App.Installations[1].Members = "" }, nothing, "may not read members", 0},
		{"another key", 0, func(h *hub) { h.s.App.Key = &rsa.PublicKey{N: appKey().N, E: 3} }, nothing, "401", 0},
		{"another app", 0, func(h *hub) { h.s.App.ID = "1" }, nothing, "404", 0},
		{"a clock that is wrong", 0, func(h *hub) { h.now = h.now.Add(-time.Hour); h.s.App.ID = "4711" }, member, "", 0},
		{"the team was deleted", team, func(h *hub) { h.s.Deleted[team] = true }, nothing, "404", 0},
		{"everybody left the team", team, func(h *hub) {
			for _, p := range h.s.Accounts {
				p.Teams = nil
			}
		}, nothing, "no member at all", 0},
		{"the known member is not known any more", 0, func(h *hub) {
			h.person(120).Orgs = nil
			for _, p := range h.s.Accounts {
				if p.ID != 120 {
					p.Orgs[0].Hidden = true
				}
			}
		}, nothing, "do not count", 0},
		{"the rate limit", 0, func(h *hub) { h.s.Limit = "primary" }, nothing, "rate limit", 20 * time.Minute},
		{"the secondary limit", 0, func(h *hub) { h.s.Limit = "secondary" }, nothing, "rate limit", time.Minute},
		{"502", 0, func(h *hub) { h.s.Limit = "down" }, nothing, "502", 0},
		{"a maintenance page", 0, func(h *hub) { h.s.Limit = "garbage" }, nothing, "not what it should be", 0},
		{"megabytes", 0, func(h *hub) { h.s.Limit = "huge" }, nothing, "", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHub(t, c.team)
			c.fault(h)
			answers, err := h.asker.Ask(t.Context(), bound("1", "120", "240"))
			got, says := nothing, ""
			switch {
			case err != nil:
				says = err.Error()
			case answers["120"].State == membership.Member:
				got = member
			case answers["120"].State == membership.Gone:
				got, says = gone, answers["120"].Why
			}
			if got != c.want || !strings.Contains(says, c.says) {
				t.Fatalf("%s (%s), want %s (%s); fired %v", got, says, c.want, c.says, h.s.Fired())
			}
			if err == nil && (answers["1"].State != membership.Member || answers["240"].State != membership.Member) {
				t.Errorf("the others: %+v", answers)
			}
			var later *membership.Later
			if errors.As(err, &later) && later.After != c.after || c.after != 0 && later == nil {
				t.Errorf("to wait: %+v, want %v", later, c.after)
			}
		})
	}
}

// GitHub that fails in the middle: at each single request once.
func TestGitHubBreaksAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		h := newHub(t, 0)
		h.person(120).Orgs = nil
		asked := 0
		broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked == n {
				http.Error(w, "Unicorn!", http.StatusBadGateway)
				return
			}
			h.s.ServeHTTP(w, r)
		}))
		asker := membership.NewGitHub(membership.GitHubOptions{URL: broken.URL, AppID: "4711", Key: appKey(), Organization: org,
			HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: func() time.Time { return h.now }})
		answers, err := asker.Ask(t.Context(), bound("1", "120"))
		broken.Close()
		if asked < n {
			if err != nil || answers["120"].State != membership.Gone {
				t.Errorf("unbroken: %+v, %v", answers, err)
			}
			if n < 8 {
				t.Errorf("only %d requests", n)
			}
			return
		}
		if err == nil {
			t.Errorf("broken at request %d: %+v", n, answers)
		}
	}
}

func TestParseKey(t *testing.T) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(appKey())
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	for name, c := range map[string]struct {
		kind string
		der  []byte
		good bool
	}{
		"as GitHub gives it": {"RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(appKey()), true},
		"PKCS #8":            {"PRIVATE KEY", pkcs8, true},
		"garbage":            {"RSA PRIVATE KEY", []byte("x"), false},
	} {
		if _, err := membership.ParseKey(pem.EncodeToMemory(&pem.Block{Type: c.kind, Bytes: c.der})); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err == nil {
		if _, err := membership.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(small)})); err == nil {
			t.Error("1024 bits are enough")
		}
	}
	if _, err := membership.ParseKey([]byte("no PEM")); err == nil {
		t.Error("no PEM is a key")
	}
}

func FuzzGitHub(f *testing.F) {
	f.Add([]byte(`[{"id":33,"account":{"id":9919,"login":"acme"},"permissions":{"members":"read"},"suspended_at":null}]`), 200)
	f.Add([]byte(`{"token":"ghs_x","permissions":{"members":"read"}}`), 201)
	f.Add([]byte(`{"message":"API rate limit exceeded"}`), 403)
	var body []byte
	status := 200
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = w.Write(body) }))
	f.Cleanup(server.Close)
	asker := membership.NewGitHub(membership.GitHubOptions{URL: server.URL, AppID: "1", Key: appKey(), Organization: org, HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: time.Now})
	f.Fuzz(func(t *testing.T, data []byte, code int) {
		body, status = data, 200+(code%400+400)%400
		// Whatever one answer is, it is never enough to say that somebody is gone.
		if answers, err := asker.Ask(t.Context(), bound("1")); err == nil && answers["1"].State == membership.Gone {
			t.Fatalf("gone by %d %q", status, data)
		}
	})
}
