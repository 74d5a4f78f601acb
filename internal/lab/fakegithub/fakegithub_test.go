package fakegithub

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	callback = "https://id.example.org/signin/github/callback"
	verifier = "a-verifier-that-is-long-enough-for-rfc-7636-4.1"
)

// A stand sends requests and notes what fired.
type stand struct {
	t   *testing.T
	s   *Server
	now time.Time
}

func newStand(t *testing.T) *stand {
	d := &stand{t: t, now: time.Unix(1_800_000_000, 0)}
	d.s = New(func() time.Time { return d.now }, "app", "hush", callback)
	d.s.Sit(&Person{ID: 7, Login: "ann", Emails: []Email{{"ann@example.org", true, true}},
		Orgs: []Membership{{ID: 1, State: "active"}, {ID: 2, State: "pending"}}, Teams: []Membership{{ID: 5, Org: 1, State: "active"}}})
	return d
}

func (d *stand) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.s.ServeHTTP(w, r)
	return w
}

func (d *stand) ask(query url.Values) *httptest.ResponseRecorder {
	return d.do(httptest.NewRequest("GET", "/login/oauth/authorize?"+query.Encode(), nil))
}

func (d *stand) post(form url.Values) string {
	r := httptest.NewRequest("POST", "/login/oauth/access_token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := d.do(r)
	if w.Code != http.StatusOK {
		d.t.Errorf("the token endpoint answered %d", w.Code)
	}
	return w.Body.String()
}

func (d *stand) api(path, token string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/api/v3"+path, nil)
	r.Header.Set("User-Agent", "test")
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return d.do(r)
}

func good() url.Values {
	return url.Values{"client_id": {"app"}, "redirect_uri": {callback}, "state": {"s"}, "scope": {"read:user user:email read:org"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}
}

func with(v url.Values, name, value string) url.Values {
	v.Set(name, value)
	return v
}

func (d *stand) code() string {
	to, err := url.Parse(d.ask(good()).Header().Get("Location"))
	if err != nil || to.Query().Get("code") == "" || to.Query().Get("state") != "s" {
		d.t.Fatalf("no code: %v %v", to, err)
	}
	return to.Query().Get("code")
}

func (d *stand) exchange(code string) url.Values {
	return url.Values{"client_id": {"app"}, "client_secret": {"hush"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {callback}}
}

func (d *stand) token() string {
	v, err := url.ParseQuery(d.post(d.exchange(d.code())))
	if err != nil || v.Get("access_token") == "" {
		d.t.Fatalf("no token: %v %v", v, err)
	}
	return v.Get("access_token")
}

// Every refusal fires at the request it is for, and at no good one.
func TestRefusals(t *testing.T) {
	cases := map[string]func(d *stand){
		"repeated-parameter": func(d *stand) { q := good(); q.Add("state", "two"); d.ask(q) },
		"unknown-client":     func(d *stand) { d.ask(with(good(), "client_id", "other")) },
		"suspended":          func(d *stand) { d.s.Suspended = true; d.ask(good()) },
		"redirect-mismatch":  func(d *stand) { d.ask(with(good(), "redirect_uri", "https://evil.test/signin/github/callback")) },
		"challenge-method":   func(d *stand) { d.ask(with(good(), "code_challenge_method", "plain")) },
		"challenge-length":   func(d *stand) { d.ask(with(good(), "code_challenge", "short")) },
		"denied":             func(d *stand) { d.s.Sit(&Person{Deny: true}); d.ask(good()) },
		"method":             func(d *stand) { d.do(httptest.NewRequest("GET", "/login/oauth/access_token", nil)) },
		"client-credentials": func(d *stand) { d.post(with(d.exchange(d.code()), "client_secret", "wrong")) },
		"code-unknown":       func(d *stand) { d.post(d.exchange("nothing")) },
		"code-used":          func(d *stand) { c := d.code(); d.post(d.exchange(c)); d.post(d.exchange(c)) },
		"code-expired":       func(d *stand) { c := d.code(); d.now = d.now.Add(11 * time.Minute); d.post(d.exchange(c)) },
		"code-redirect":      func(d *stand) { d.post(with(d.exchange(d.code()), "redirect_uri", callback+"/x")) },
		"verifier":           func(d *stand) { d.post(with(d.exchange(d.code()), "code_verifier", "another")) },
		"user-agent":         func(d *stand) { d.api("/user", d.token(), "User-Agent", "") },
		"credentials":        func(d *stand) { d.api("/user", "gho_no") },
		"api-version":        func(d *stand) { d.api("/user", d.token(), "X-GitHub-Api-Version", "1999-01-01") },
		"scope":              func(d *stand) { d.s.person.Untick = []string{"user:email"}; d.api("/user/emails", d.token()) },
		"per-page":           func(d *stand) { d.api("/user/emails?per_page=x", d.token()) },
		"page":               func(d *stand) { d.api("/user/emails?page=0", d.token()) },
		"state-filter":       func(d *stand) { d.api("/user/memberships/orgs?state=x", d.token()) },
		"restricted-org":     func(d *stand) { d.s.Restricted[1] = true; d.api("/organizations/1/team/5/memberships/ann", d.token()) },
		"not-a-member":       func(d *stand) { d.api("/organizations/1/team/6/memberships/ann", d.token()) },
		"primary-limit":      func(d *stand) { token := d.token(); d.s.Limit = "primary"; d.api("/user", token) },
		"secondary-limit":    func(d *stand) { token := d.token(); d.s.Limit = "secondary"; d.api("/user", token) },
		"delete-credentials": func(d *stand) {
			r := httptest.NewRequest("DELETE", "/api/v3/applications/app/token", nil)
			r.Header.Set("User-Agent", "x")
			d.do(r)
		},
		"delete-token": func(d *stand) {
			r := httptest.NewRequest("DELETE", "/api/v3/applications/app/token", strings.NewReader(`{"access_token":"no"}`))
			r.Header.Set("User-Agent", "x")
			r.SetBasicAuth("app", "hush")
			d.do(r)
		},
		"unknown-path": func(d *stand) { d.api("/orgs", d.token()) },
	}
	for _, name := range newStand(t).s.Refusals() {
		d := newStand(t)
		if cases[name] == nil {
			t.Errorf("%s: no request makes it fire", name)
			continue
		}
		cases[name](d)
		if fired := d.s.Fired(); fired[name] != 1 || len(fired) != 1 {
			t.Errorf("%s: fired %v", name, fired)
		}
	}
}

func TestGoodRequests(t *testing.T) {
	d := newStand(t)
	token := d.token()
	for path, want := range map[string]string{
		"/user": `"id":7`, "/user/emails?per_page=100": "ann@example.org", "/user/memberships/orgs": `"state":"pending"`,
		"/organizations/1/team/5/memberships/ANN": `"state":"active"`,
	} {
		if w := d.api(path, token); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest("DELETE", "/api/v3/applications/app/token", strings.NewReader(`{"access_token":"`+token+`"}`))
	r.Header.Set("User-Agent", "x")
	r.SetBasicAuth("app", "hush")
	if w := d.do(r); w.Code != http.StatusNoContent || d.s.Tokens() != 0 {
		t.Errorf("%d, %d tokens left", w.Code, d.s.Tokens())
	}
	if fired := d.s.Fired(); len(fired) != 0 {
		t.Errorf("good requests were refused: %v", fired)
	}
}
