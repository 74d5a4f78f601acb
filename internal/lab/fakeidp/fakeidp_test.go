package fakeidp

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// A stand is one fake with a clock and a client that talks to it in memory.
type stand struct {
	t    *testing.T
	idp  Provider
	now  time.Time
	last string // body of the last answer
	at   string // Location of the last answer
}

func (s *stand) clock() time.Time { return s.now }

func (s *stand) do(method, target string, form url.Values, contentType string) int {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, target, body)
	if form != nil {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	s.idp.ServeHTTP(w, r)
	s.last, s.at = w.Body.String(), w.Header().Get("Location")
	return w.Code
}

func (s *stand) post(target string, form url.Values) int {
	return s.do(http.MethodPost, target, form, "application/x-www-form-urlencoded")
}

// with returns a copy of base with pairs set; an empty value deletes.
func with(base url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			out.Del(pairs[i])
			continue
		}
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

// code reads the authorization code from the last redirect.
func (s *stand) code() string {
	s.t.Helper()
	u, err := url.Parse(s.at)
	if err != nil || u.Query().Get("code") == "" {
		s.t.Fatalf("no code in redirect %q, body %s", s.at, s.last)
	}
	return u.Query().Get("code")
}

func (s *stand) field(name string) string {
	s.t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(s.last), &body); err != nil {
		s.t.Fatalf("answer is no JSON: %s", s.last)
	}
	text, _ := body[name].(string)
	return text
}

// expect checks that exactly this refusal has fired since before.
func (s *stand) expect(name string, before map[string]int) {
	s.t.Helper()
	for other, n := range s.idp.Fired() {
		if n != before[other] && other != name {
			s.t.Errorf("wanted refusal %s, fired %s: %s", name, other, s.last)
		}
	}
	if s.idp.Fired()[name] != before[name]+1 {
		s.t.Errorf("refusal %s did not fire: %s", name, s.last)
	}
}

const verifier = "a-verifier-that-is-long-enough-for-rfc-7636-4.1"

func challenge() string { return oauth2.S256ChallengeFromVerifier(verifier) }

func everyRefusalFired(t *testing.T, idp Provider) {
	t.Helper()
	for _, name := range idp.Refusals() {
		if idp.Fired()[name] == 0 {
			t.Errorf("refusal %s never fired: a check that nobody has seen work", name)
		}
	}
}

func TestGoogleRefuses(t *testing.T) {
	s := &stand{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	g := NewGoogle(s.clock)
	s.idp = g
	g.Clients["desk"] = &GoogleClient{Secret: "S", Type: "desktop"}
	g.Clients["other"] = &GoogleClient{Secret: "S", Type: "desktop"}
	g.Clients["gone"] = &GoogleClient{Secret: "S", Type: "desktop", Deleted: true}
	g.Clients["test"] = &GoogleClient{Secret: "S", Type: "desktop", Testing: true, TestUsers: []string{"ann@gmail.com"}}
	g.Clients["intern"] = &GoogleClient{Secret: "S", Type: "desktop", Internal: "corp.example"}
	g.Clients["tv"] = &GoogleClient{Secret: "S", Type: "tv"}
	g.People["ann@gmail.com"] = &GooglePerson{}
	g.People["bob@gmail.com"] = &GooglePerson{}
	g.People["no@gmail.com"] = &GooglePerson{Declines: true}
	g.People["w@corp.example"] = &GooglePerson{Workspace: "corp.example", Blocked: true}

	const auth, token, device, revoke = "https://accounts.google.com/o/oauth2/v2/auth?", "https://oauth2.googleapis.com/token", "https://oauth2.googleapis.com/device/code", "https://oauth2.googleapis.com/revoke"
	good := url.Values{"client_id": {"desk"}, "redirect_uri": {"http://127.0.0.1:4711"}, "response_type": {"code"}, "scope": {GoogleMail + " openid email"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}, "state": {"st"}, "access_type": {"offline"}, "prompt": {"consent"}, "login_hint": {"ann@gmail.com"}}
	for name, q := range map[string]url.Values{
		"unknown-client": with(good, "client_id", "x"), "deleted-client": with(good, "client_id", "gone"),
		"oob": with(good, "redirect_uri", "urn:ietf:wg:oauth:2.0:oob"), "redirect-mismatch": with(good, "redirect_uri", "https://evil.example/"),
		"response-type": with(good, "response_type", "token"), "scope-missing": with(good, "scope", ""), "scope-unknown": with(good, "scope", "mail"),
		"challenge-method": with(good, "code_challenge_method", "S512"), "challenge-length": with(good, "code_challenge", "short"),
		"not-test-user": with(good, "client_id", "test", "login_hint", "bob@gmail.com"), "org-internal": with(good, "client_id", "intern"),
		"admin-policy": with(good, "login_hint", "w@corp.example"), "declined": with(good, "login_hint", "no@gmail.com"),
		"repeated-parameter": {"client_id": {"desk", "desk"}},
	} {
		before := g.Fired()
		s.do(http.MethodGet, auth+q.Encode(), nil, "")
		s.expect(name, before)
	}

	sign := func(client string) url.Values {
		s.do(http.MethodGet, auth+with(good, "client_id", client).Encode(), nil, "")
		return url.Values{"grant_type": {"authorization_code"}, "client_id": {client}, "client_secret": {"S"}, "code": {s.code()}, "redirect_uri": {"http://127.0.0.1:4711"}, "code_verifier": {verifier}}
	}
	for _, bad := range []struct {
		name  string
		pairs []string
	}{
		{"client-missing", []string{"client_id", ""}}, {"secret-missing", []string{"client_secret", ""}}, {"secret-wrong", []string{"client_secret", "x"}},
		{"grant-type", []string{"grant_type", "password"}}, {"code-unknown", []string{"code", "4/x"}}, {"code-redirect", []string{"redirect_uri", "http://127.0.0.1:1"}},
		{"verifier-missing", []string{"code_verifier", ""}}, {"verifier-wrong", []string{"code_verifier", strings.Repeat("x", 43)}},
	} {
		form := sign("desk")
		before := g.Fired()
		s.post(token, with(form, bad.pairs...))
		s.expect(bad.name, before)
	}
	before := g.Fired()
	s.do(http.MethodGet, token, nil, "")
	s.expect("method", before)
	before = g.Fired()
	s.do(http.MethodPost, token, sign("desk"), "application/json")
	s.expect("content-type", before)

	refresh := func(client string) url.Values {
		s.post(token, sign(client))
		return url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "client_secret": {"S"}, "refresh_token": {s.field("refresh_token")}}
	}
	form := refresh("desk")
	if s.post(token, form) != 200 || s.field("refresh_token") != "" {
		t.Errorf("Google does not rotate: %s", s.last)
	}
	if who, err := g.Check(s.field("access_token"), GoogleMail); who != "ann@gmail.com" {
		t.Errorf("Check = %q, %v", who, err)
	}
	for _, bad := range []struct {
		name string
		run  func() url.Values
	}{
		{"refresh-other-client", func() url.Values { return with(refresh("desk"), "client_id", "other") }},
		{"refresh-scope", func() url.Values { return with(refresh("desk"), "scope", GmailSend) }},
		{"refresh-testing-7-days", func() url.Values { f := refresh("test"); s.now = s.now.Add(7*24*time.Hour + time.Second); return f }},
		{"refresh-idle-6-months", func() url.Values { f := refresh("desk"); s.now = s.now.Add(183 * 24 * time.Hour); return f }},
		{"refresh-password", func() url.Values {
			f := refresh("desk")
			s.now = s.now.Add(time.Hour)
			g.People["ann@gmail.com"].PasswordChanged = s.now
			return f
		}},
		{"refresh-rapt", func() url.Values { f := refresh("desk"); g.People["ann@gmail.com"].Reauth = true; return f }},
		{"refresh-revoked", func() url.Values { f := refresh("desk"); g.Revoke("ann@gmail.com"); return f }},
	} {
		*g.People["ann@gmail.com"] = GooglePerson{}
		form := bad.run()
		before := g.Fired()
		s.post(token, form)
		s.expect(bad.name, before)
	}

	ask := url.Values{"client_id": {"tv"}, "scope": {"openid email"}}
	for name, form := range map[string]url.Values{"device-client-type": with(ask, "client_id", "desk"), "device-scope": with(ask, "scope", "openid "+GoogleMail)} {
		before := g.Fired()
		s.post(device, form)
		s.expect(name, before)
	}
	poll := func() url.Values {
		s.post(device, ask)
		return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"tv"}, "client_secret": {"S"}, "device_code": {s.field("device_code")}}
	}
	for name, prepare := range map[string]func(){"device-pending": func() { s.now = s.now.Add(5 * time.Second) }, "device-slow-down": func() {},
		"device-denied": func() { g.Decide("ann@gmail.com", false) }, "device-expired": func() { s.now = s.now.Add(time.Hour) }} {
		form := poll()
		prepare()
		before := g.Fired()
		s.post(token, form)
		s.expect(name, before)
	}
	before = g.Fired()
	s.post(revoke, url.Values{"token": {"x"}})
	s.expect("revoke-unknown", before)
	everyRefusalFired(t, g)
}

// microsoftCast registers clients and people with every fault there is.
func microsoftCast(m *Microsoft) (ann *MicrosoftPerson) {
	m.Tenants["corp.example"], m.Tenants["1111"], m.Tenants["2222"] = "1111", "1111", "2222"
	localhost := []string{"http://localhost"}
	m.Clients["app"] = &MicrosoftClient{Audience: "all", Redirects: localhost}
	m.Clients["off"] = &MicrosoftClient{Audience: "all", Redirects: localhost, Disabled: true}
	m.Clients["single"] = &MicrosoftClient{Audience: "tenant", Home: "1111", Redirects: localhost}
	m.Clients["msa"] = &MicrosoftClient{Audience: "personal", Redirects: localhost}
	m.Clients["work"] = &MicrosoftClient{Audience: "organizations", Redirects: localhost}
	m.Clients["web"] = &MicrosoftClient{Audience: "all", Redirects: localhost, Secret: "S"}
	m.Clients["old"] = &MicrosoftClient{Audience: "all", Redirects: localhost, Secret: "S", Expired: true}
	m.Clients["nopub"] = &MicrosoftClient{Audience: "all", Redirects: localhost, NoPublicFlows: true}
	ann = &MicrosoftPerson{Tenant: "1111"}
	m.People["ann@corp.example"] = ann
	m.People["me@outlook.com"] = &MicrosoftPerson{Tenant: ConsumerTenant}
	m.People["no@corp.example"] = &MicrosoftPerson{Tenant: "1111", Declines: true}
	m.People["user@corp.example"] = &MicrosoftPerson{Tenant: "1111", NoConsent: true}
	m.People["byod@corp.example"] = &MicrosoftPerson{Tenant: "1111", Unmanaged: true}
	return ann
}

func TestMicrosoftRefuses(t *testing.T) {
	s := &stand{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	m := NewMicrosoft(s.clock, PublicCloud())
	s.idp = m
	ann := microsoftCast(m)

	const base = "https://login.microsoftonline.com/"
	const outlook = "https://outlook.office.com/"
	at := func(tenant, what string) string { return base + tenant + "/oauth2/v2.0/" + what }
	good := url.Values{"client_id": {"app"}, "redirect_uri": {"http://localhost:4711/"}, "response_type": {"code"}, "scope": {outlook + "IMAP.AccessAsUser.All offline_access openid"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}, "state": {"st"}, "login_hint": {"ann@corp.example"}}
	for _, bad := range []struct {
		name, tenant string
		q            url.Values
	}{
		{"90002", "nobody.example", good}, {"900144", "common", with(good, "scope", "")}, {"700016", "common", with(good, "client_id", "x")},
		{"7000112", "common", with(good, "client_id", "off")}, {"50011", "common", with(good, "redirect_uri", "http://127.0.0.1:4711/")},
		{"50194", "common", with(good, "client_id", "single")}, {"700016", "2222", with(good, "client_id", "single")},
		{"9002331", "common", with(good, "client_id", "msa")}, {"9002332", "consumers", with(good, "client_id", "work")},
		{"50020", "organizations", with(good, "login_hint", "me@outlook.com")}, {"50020", "consumers", good}, {"50020", "2222", good},
		{"65004", "common", with(good, "login_hint", "no@corp.example")}, {"90094", "common", with(good, "login_hint", "user@corp.example")},
		{"53000", "common", with(good, "login_hint", "byod@corp.example")},
		{"50011", "common", with(good, "redirect_uri", "http://localhost:4711/callback")}, {"50011", "common", with(good, "redirect_uri", "http://[::1]:4711/")},
		{"70011", "common", with(good, "scope", outlook+"Everything")},
		{"500011", "common", with(good, "scope", "https://nowhere.example/IMAP.AccessAsUser.All")}, {"9002313", "common", url.Values{"client_id": {"a", "b"}}},
	} {
		before := m.Fired()
		s.do(http.MethodGet, at(bad.tenant, "authorize")+"?"+bad.q.Encode(), nil, "")
		s.expect(bad.name, before)
	}
	before := m.Fired()
	s.do(http.MethodGet, at("common", "token"), nil, "")
	s.expect("900561", before)
	before = m.Fired()
	s.post(at("common", "devicecode"), url.Values{"client_id": {"msa"}, "scope": {outlook + "IMAP.AccessAsUser.All"}})
	s.expect("9002346", before)

	sign := func(client string) url.Values {
		s.do(http.MethodGet, at("common", "authorize")+"?"+with(good, "client_id", client).Encode(), nil, "")
		return url.Values{"grant_type": {"authorization_code"}, "client_id": {client}, "code": {s.code()}, "redirect_uri": {"http://localhost:4711/"}, "code_verifier": {verifier}}
	}
	for _, bad := range []struct {
		name, client string
		pairs        []string
	}{
		{"900144", "app", []string{"client_id", ""}}, {"70003", "app", []string{"grant_type", "magic"}}, {"7000218", "web", nil}, {"700025", "app", []string{"client_secret", "S"}},
		{"7000215", "web", []string{"client_secret", "x"}}, {"7000222", "old", []string{"client_secret", "S"}}, {"70000", "app", []string{"code", "x"}},
		{"500112", "app", []string{"redirect_uri", "http://localhost:1/"}}, {"501481", "app", []string{"code_verifier", strings.Repeat("x", 43)}},
		{"28000", "app", []string{"scope", outlook + "SMTP.Send https://graph.microsoft.com/Mail.Send"}}, {"70000", "app", []string{"scope", outlook + "SMTP.Send"}},
	} {
		form := sign(bad.client)
		before := m.Fired()
		s.post(at("common", "token"), with(form, bad.pairs...))
		s.expect(bad.name, before)
	}
	form := sign("app")
	s.now = s.now.Add(11 * time.Minute)
	before = m.Fired()
	s.post(at("common", "token"), form)
	s.expect("70008", before)
	form = sign("app")
	s.post(at("common", "token"), form)
	before = m.Fired()
	s.post(at("common", "token"), form)
	s.expect("54005", before)

	two := outlook + "IMAP.AccessAsUser.All https://graph.microsoft.com/Mail.Send offline_access"
	form = with(sign("app"), "code", "")
	s.do(http.MethodGet, at("common", "authorize")+"?"+with(good, "scope", two).Encode(), nil, "")
	form.Set("code", s.code())
	before = m.Fired()
	s.post(at("common", "token"), form)
	s.expect("28000", before)
	if s.post(at("common", "token"), with(form, "scope", outlook+"IMAP.AccessAsUser.All offline_access")) != 200 {
		t.Errorf("consent to two resources, token for one: %s", s.last)
	}
	first := s.field("refresh_token")

	renewal := url.Values{"grant_type": {"refresh_token"}, "client_id": {"app"}, "refresh_token": {first}, "scope": {"https://graph.microsoft.com/Mail.Send offline_access"}}
	if s.post(at("common", "token"), renewal) != 200 || s.field("refresh_token") == "" || s.field("refresh_token") == first {
		t.Errorf("a refresh for the other resource must work and bring a new refresh token: %s", s.last)
	}
	if who, err := m.Check(s.field("access_token"), "https://graph.microsoft.com/Mail.Send"); who != "ann@corp.example" {
		t.Errorf("Check = %q, %v", who, err)
	}
	if s.post(at("common", "token"), renewal) != 200 {
		t.Errorf("the old refresh token stays good: %s", s.last)
	}
	fresh := func() url.Values {
		s.post(at("common", "token"), sign("app"))
		return with(renewal, "refresh_token", s.field("refresh_token"))
	}
	for _, bad := range []struct {
		name    string
		prepare func()
	}{
		{"700082", func() { s.now = s.now.Add(91 * 24 * time.Hour) }}, {"50173", func() { s.now = s.now.Add(time.Hour); ann.PasswordChanged = s.now }},
		{"70043", func() { ann.SignInFrequency = time.Hour; s.now = s.now.Add(2 * time.Hour) }}, {"50076", func() { ann.MFA = true }}, {"53003", func() { ann.Unmanaged = true }},
		{"65001", func() { m.Withdraw("app", "ann@corp.example") }},
	} {
		*ann = MicrosoftPerson{Tenant: "1111"}
		form := fresh()
		bad.prepare()
		before := m.Fired()
		s.post(at("common", "token"), form)
		s.expect(bad.name, before)
	}
	*ann = MicrosoftPerson{Tenant: "1111"}
	microsoftDevice(s, m, ann)
	everyRefusalFired(t, m)
}

// microsoftDevice fires the refusals of the device flow.
func microsoftDevice(s *stand, m *Microsoft, ann *MicrosoftPerson) {
	const token, codes = "https://login.microsoftonline.com/common/oauth2/v2.0/token", "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode"
	ask := url.Values{"client_id": {"app"}, "scope": {"https://outlook.office.com/IMAP.AccessAsUser.All offline_access"}}
	poll := func(client string) url.Values {
		s.post(codes, with(ask, "client_id", client))
		return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {client}, "device_code": {s.field("device_code")}}
	}
	for _, bad := range []struct {
		name, client string
		prepare      func()
	}{
		{"70016", "app", func() {}}, {"7000218", "nopub", func() {}}, {"70020", "app", func() { s.now = s.now.Add(time.Hour) }},
		{"50199", "app", func() { m.Decide("ann@corp.example", false) }}, {"53003", "app", func() { ann.NoDevice = true; m.Decide("ann@corp.example", true) }},
	} {
		form := poll(bad.client)
		bad.prepare()
		before := m.Fired()
		s.post(token, form)
		s.expect(bad.name, before)
	}
	before := m.Fired()
	s.post(token, with(poll("app"), "device_code", "x"))
	s.expect("70018", before)
	*ann = MicrosoftPerson{Tenant: "1111"}
	ask.Set("scope", "https://outlook.office.com/IMAP.AccessAsUser.All https://graph.microsoft.com/Mail.Send")
	form := poll("app") // two resources are only found wrong when the token is fetched
	m.Decide("ann@corp.example", true)
	before = m.Fired()
	s.post(token, form)
	s.expect("28000", before)
}
