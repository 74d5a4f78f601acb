package fakegithub

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An appStand is a stand with an app that organisation 1 has installed.
type appStand struct {
	*stand
	key *rsa.PrivateKey
}

func newAppStand(t *testing.T, key *rsa.PrivateKey) *appStand {
	d := newStand(t)
	d.s.App = &App{ID: "4711", Key: &key.PublicKey, Installations: []*Installation{{ID: 33, Org: 1, Members: "read"}}}
	d.s.Organizations = []*Org{{ID: 1, Login: "acme"}}
	d.s.Accounts = []*Person{
		{ID: 7, Login: "ann", Orgs: []Membership{{ID: 1, State: "active"}}, Teams: []Membership{{ID: 5, Org: 1, State: "active"}}},
		{ID: 8, Login: "bob", Orgs: []Membership{{ID: 1, State: "pending"}}},
		{ID: 9, Login: "pub", Orgs: []Membership{{ID: 1, State: "active", Public: true}}},
	}
	return &appStand{d, key}
}

func (d *appStand) jwt(iss string, iat, exp time.Duration) string {
	d.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: d.key}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{"iss": iss, "iat": d.now.Add(iat).Unix(), "exp": d.now.Add(exp).Unix()})
	signed, err := signer.Sign(claims)
	if err != nil {
		d.t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	return text
}

func (d *appStand) good() string { return d.jwt("4711", -time.Minute, 8*time.Minute) }

func (d *appStand) issue(proof, id, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/api/v3/app/installations/"+id+"/access_tokens", strings.NewReader(body))
	r.Header.Set("User-Agent", "test")
	r.Header.Set("Authorization", "Bearer "+proof)
	return d.do(r)
}

func (d *appStand) installationToken(body string) string {
	var answer struct{ Token string }
	if w := d.issue(d.good(), "33", body); w.Code != http.StatusCreated || json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		d.t.Fatalf("no token: %d %s", w.Code, w.Body)
	}
	return answer.Token
}

func TestAppRefusals(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const members = `{"permissions":{"members":"read"}}`
	cases := map[string]func(d *appStand){
		"jwt":                    func(d *appStand) { d.api("/app/installations", "nonsense") },
		"jwt-issuer":             func(d *appStand) { d.api("/app/installations", d.jwt("1", -time.Minute, time.Minute)) },
		"jwt-expiry":             func(d *appStand) { d.api("/app/installations", d.jwt("4711", -time.Minute, 11*time.Minute)) },
		"jwt-issued":             func(d *appStand) { d.api("/app/installations", d.jwt("4711", time.Minute, 2*time.Minute)) },
		"app-path":               func(d *appStand) { d.api("/app/nothing", d.good()) },
		"installation-unknown":   func(d *appStand) { d.issue(d.good(), "34", members) },
		"installation-suspended": func(d *appStand) { d.s.App.Installations[0].Suspended = true; d.issue(d.good(), "33", members) },
		"permission-exceeds":     func(d *appStand) { d.issue(d.good(), "33", `{"permissions":{"members":"write"}}`) },
		"token-expired": func(d *appStand) {
			x := d.installationToken(members)
			d.now = d.now.Add(time.Hour)
			d.api("/user/7", x)
		},
		"org-unknown": func(d *appStand) { d.api("/orgs/other/members", d.installationToken(members)) },
		"team-unknown": func(d *appStand) {
			d.s.Deleted[5] = true
			d.api("/organizations/1/team/5/members", d.installationToken(members))
		},
		"account-unknown":    func(d *appStand) { d.api("/user/99", d.installationToken(members)) },
		"membership-unknown": func(d *appStand) { d.api("/orgs/acme/memberships/nobody", d.installationToken(members)) },
		"org-hidden":         func(d *appStand) { d.api("/orgs/acme/members", d.installationToken(`{"permissions":{}}`)) },
	}
	for _, name := range newAppStand(t, key).s.AppRefusals() {
		d := newAppStand(t, key)
		if cases[name] == nil {
			t.Errorf("%s: no request makes it fire", name)
			continue
		}
		cases[name](d)
		if fired := d.s.Fired(); fired[name] != 1 || len(fired) != 1 {
			t.Errorf("%s: fired %v", name, fired)
		}
	}
	d := newAppStand(t, key)
	token := d.installationToken(members)
	for path, want := range map[string]string{
		"/orgs/ACME/members?per_page=1": `"login":"ann"`, "/orgs/acme/memberships/bob": `"state":"pending"`, "/user/9": `"login":"pub"`,
		"/organizations/1/team/5/members": `"id":7`, "/organizations/1/team/5/memberships/ann": `"active"`,
	} {
		if w := d.api(path, token); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := d.api("/app/installations", d.good()); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"login":"acme"`) {
		t.Errorf("installations: %d %s", w.Code, w.Body)
	}
	if fired := d.s.Fired(); len(fired) != 0 {
		t.Errorf("good requests were refused: %v", fired)
	}
}
