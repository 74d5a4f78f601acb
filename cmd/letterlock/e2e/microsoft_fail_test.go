//go:build unix

package e2e

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

const correlation = "Correlation ID: a1b2c3d4-0000-4000-8000-0000000000ff"

// TestMicrosoftEndsGrants lists how Microsoft ends or refuses a grant.
func TestMicrosoftEndsGrants(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	you := func() *fakeidp.MicrosoftPerson { return m.People[workMail] }
	client := func() *fakeidp.MicrosoftClient { return m.Clients[microsoftID] }
	login := "hint: letterlock login " + workMail
	for _, k := range []struct {
		refusal string
		after   time.Duration // since sign-in and last use
		change  func()
		code    int
		texts   []string
	}{
		{"700082", 91 * day, nil, 77, []string{"inactive for 90", "remedy: sign in again; the agent keeps grants in use alive", login}},
		{"50173", 0, func() { you().PasswordChanged = time.Now().Add(time.Hour) }, 77, []string{"the password was changed, sessions were revoked", login}},
		{"70043", 2 * day, func() { you().SignInFrequency = day }, 77, []string{"sign-in frequency is set (70043)", "ask the administrator about sign-in frequency", login}},
		{"50076", 0, func() { you().MFA = true }, 77, []string{"interaction_required", "sign in again in a browser and give the factor", login}},
		{"53003", 0, func() { you().Unmanaged = true }, 77, []string{"Conditional Access", "ask the administrator with the correlation id", correlation, login}},
		{"50020", 0, func() { you().Tenant, client().Audience = otherTenant, "all" }, 77, []string{"use --tenant consumers for personal accounts", login}},
		{"700016", 0, func() { delete(m.Clients, microsoftID) }, 78, []string{"check --client-id and --tenant", "letterlock register microsoft"}},
		{"7000112", 0, func() { client().Disabled = true }, 78, []string{"borrowed client ids end like this", "letterlock register microsoft"}},
		{"7000218", 0, func() { client().Secret = "S" }, 78, []string{"set Allow public client flows to Yes"}},
		{"50194", 0, func() { client().Audience, client().Home = "tenant", otherTenant }, 78, []string{"give --tenant with that directory's id"}},
		{"9002346", 0, func() { client().Audience = "personal" }, 78, []string{"remedy: give --tenant consumers"}},
		{"500011", 0, func() { m.Cloud.Resources = []string{graph} }, 78, []string{"check that the account has a mailbox in this cloud"}},
		{"90002", 0, func() { delete(m.Tenants, "corp.example"); delete(m.Tenants, corpTenant) }, 78, []string{"check --tenant, and use provider microsoft-gcchigh"}},
	} {
		t.Run(k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			m.With(func() { m.Cloud = fakeidp.PublicCloud() })
			tenant := map[string]string{"50194": "organizations", "9002346": "organizations"}[k.refusal]
			if tenant == "" {
				tenant = "corp.example"
			}
			h := signedInAtMicrosoft(t, w, nil, "--tenant", tenant)
			h.age(workMail, k.after)
			w.pass(k.after)
			if k.change != nil {
				m.With(k.change)
			}
			refusedRefresh(t, m, h, k.refusal, k.code, k.texts...)
		})
	}
	t.Run("65001", func(t *testing.T) {
		w.resetMicrosoft(c)
		h := signedInAtMicrosoft(t, w, nil)
		h.age(workMail, 0)
		m.Withdraw(microsoftID, workMail)
		refusedRefresh(t, m, h, "65001", 77, "consent", "letterlock register microsoft to the administrator", login)
	})
	t.Run("70000", func(t *testing.T) {
		w.resetMicrosoft(c)
		h := signedInAtMicrosoft(t, w, nil)
		h.age(workMail, 0)
		m.Revoke(workMail)
		refusedRefresh(t, m, h, "70000", 77, "of another client, or withdrawn", login)
	})
}

// signedInAtMicrosoft signs the work account in; secret is a client secret's file.
func signedInAtMicrosoft(t *testing.T, w *world, register []string, login ...string) *home {
	t.Helper()
	h := w.person(t)
	h.must("", "letterlock", append([]string{"register", "microsoft", "--client-id", microsoftID}, register...)...)
	if a := w.login(h, nil, append([]string{workMail, "--provider", "microsoft", "--flow", "browser"}, login...)...); a.code != 0 {
		t.Fatalf("login: %v", a)
	}
	return h
}

// refusedRefresh asks for a token, which Microsoft refuses for that one reason.
func refusedRefresh(t *testing.T, m *fakeidp.Microsoft, h *home, refusal string, code int, texts ...string) {
	t.Helper()
	before, kept := m.Fired()[refusal], h.grantFile(workMail)
	h.letterlock("token", workMail).says(t, code, append(texts, "AADSTS"+refusal)...)
	if m.Fired()[refusal] != before+1 {
		t.Errorf("Microsoft refused for another reason: %v", m.Fired())
	}
	if !bytes.Equal(kept, h.grantFile(workMail)) {
		t.Error("the grant file was changed")
	}
}

// TestMicrosoftWantsSecret is about clients that have a secret, and one that has none.
func TestMicrosoftWantsSecret(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	for _, k := range []struct {
		refusal string // empty: it works
		client  fakeidp.MicrosoftClient
		secret  string
		texts   []string
	}{
		{"", fakeidp.MicrosoftClient{Secret: "S3cret"}, "S3cret", nil},
		{"7000218", fakeidp.MicrosoftClient{Secret: "S3cret"}, "", []string{"hint: set Allow public client flows to Yes"}},
		{"7000215", fakeidp.MicrosoftClient{Secret: "S3cret"}, "another", []string{"hint: make a new secret and copy its value"}},
		{"7000222", fakeidp.MicrosoftClient{Secret: "S3cret", Expired: true}, "S3cret", []string{"hint: make a new secret, or register a public client"}},
		{"700025", fakeidp.MicrosoftClient{}, "S3cret", []string{"hint: take the client secret out of the configuration"}},
	} {
		t.Run("AADSTS"+k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			k.client.Audience, k.client.Redirects = "all", []string{"http://localhost"}
			m.With(func() { m.Clients[microsoftID] = &k.client })
			h := w.person(t)
			args := []string{"register", "microsoft", "--client-id", microsoftID}
			if k.secret != "" {
				args = append(args, "--client-secret-file", h.write("secret", k.secret+"\n"))
			}
			h.must("", "letterlock", args...)
			before := m.Fired()[k.refusal]
			a := w.login(h, nil, workMail, "--provider", "microsoft", "--flow", "browser")
			if k.refusal == "" {
				if a.code != 0 || h.token(workMail) == "" {
					t.Errorf("login: %v", a)
				}
				return
			}
			nothingKept(t, h, a, 78, append(k.texts, "AADSTS"+k.refusal)...)
			if m.Fired()[k.refusal] != before+1 {
				t.Errorf("Microsoft refused for another reason: %v", m.Fired())
			}
		})
	}
}

// TestMicrosoftRefusesSignIn lists how a sign-in in the browser ends without a grant.
func TestMicrosoftRefusesSignIn(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	you := func() *fakeidp.MicrosoftPerson { return m.People[workMail] }
	client := func() *fakeidp.MicrosoftClient { return m.Clients[microsoftID] }
	for _, k := range []struct {
		refusal string
		change  func()
		args    []string // after those of the work account
		code    int
		texts   []string
		remedy  string // what letterlock explain says of the page
	}{
		{"65004", func() { you().Declines = true }, nil, 77, []string{"hint: sign in again and accept, or ask for less with --send-only"}, ""},
		{"90094", func() { you().NoConsent = true }, nil, 77, []string{"hint: ask an administrator of the organization to consent at https://login.microsoftonline.com/organizations/adminconsent?client_id=" + microsoftID}, ""},
		{"90094", func() { you().NoConsent = true }, []string{"--tenant", corpTenant}, 77, []string{"https://login.microsoftonline.com/" + corpTenant + "/adminconsent?client_id=" + microsoftID}, ""},
		{"50011", func() { client().Redirects = []string{"http://localhost/elsewhere"} }, nil, 75, nil, "for Letterlock http://localhost, any port; or give --redirect-uri as registered"},
		{"50194", func() { client().Audience, client().Home = "tenant", corpTenant }, nil, 75, nil, "give --tenant with that directory's id"},
		{"9002331", func() { client().Audience = "personal" }, nil, 75, nil, "give --tenant consumers"},
		{"9002332", func() { client().Audience = "organizations" }, []string{"--tenant", "consumers"}, 75, nil, "give --tenant organizations or the directory id"},
		{"700016", func() { delete(m.Clients, microsoftID) }, nil, 75, nil, "check --client-id and --tenant"},
		{"700016", func() { client().Audience, client().Home = "tenant", corpTenant }, []string{"--tenant", otherTenant}, 75, nil, "check --client-id and --tenant"},
		{"7000112", func() { client().Disabled = true }, nil, 75, nil, "register a client of your own"},
		{"50020", func() {}, []string{"--tenant", otherTenant}, 75, nil, "or pick the other account in the browser"},
		{"53000", func() { you().Unmanaged = true }, nil, 75, nil, "ask the administrator with the correlation id"},
		{"90002", func() {}, []string{"--tenant", "nobody.example"}, 75, nil, "use provider microsoft-gcchigh"},
	} {
		t.Run(k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			m.With(k.change)
			h := w.person(t)
			h.must("", "letterlock", "register", "microsoft", "--client-id", microsoftID)
			before := m.Fired()[k.refusal]
			a := w.login(h, nil, append([]string{workMail, "--provider", "microsoft", "--flow", "browser"}, k.args...)...)
			page := ""
			if k.remedy != "" {
				page = "AADSTS" + k.refusal
			} else {
				k.texts = append(k.texts, "AADSTS"+k.refusal)
			}
			nothingKept(t, h, a, k.code, append(k.texts, pageTexts(page)...)...)
			if m.Fired()[k.refusal] != before+1 {
				t.Errorf("Microsoft refused for another reason: %v", m.Fired())
			}
			explained(t, h, a.page, page, k.remedy)
		})
	}
}

// What a person registered elsewhere than at the usual place can be told to letterlock.
func TestMicrosoftOwnRedirect(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	c.public.With(func() { c.public.Clients[microsoftID].Redirects = []string{"http://localhost/elsewhere"} })
	signedInAtMicrosoft(t, w, nil, "--redirect-uri", "http://localhost/elsewhere")
}

// TestMicrosoftRefusesDevice lists how a sign-in by device code ends without a grant.
func TestMicrosoftRefusesDevice(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	accept := func() { m.Decide(workMail, true) }
	client := func() *fakeidp.MicrosoftClient { return m.Clients[microsoftID] }
	for _, k := range []struct {
		refusal string
		change  func()
		person  func()
		tenant  string
		code    int
		texts   []string
	}{
		{"53003", func() { m.People[workMail].NoDevice = true }, accept, "common", 77, []string{"hint: use --flow browser; if it stays, ask the administrator with the correlation id", correlation}},
		{"7000218", func() { client().NoPublicFlows = true }, accept, "common", 78, []string{"hint: set Allow public client flows to Yes"}},
		{"50199", func() {}, func() { m.Decide(workMail, false) }, "common", 77, []string{"the sign-in was declined at the provider's page"}},
		{"70020", func() {}, func() { w.pass(time.Hour) }, "common", 77, []string{"the device code ran out before it was entered"}},
		{"50020", func() {}, accept, "consumers", 78, []string{"use --tenant consumers for personal accounts"}},
		{"9002346", func() { client().Audience = "personal" }, accept, "common", 78, []string{"hint: give --tenant consumers"}},
		{"700016", func() { delete(m.Clients, microsoftID) }, accept, "common", 78, []string{"hint: check --client-id and --tenant"}},
		{"90002", func() {}, accept, "nobody.example", 78, []string{"hint: check --tenant"}},
	} {
		t.Run(k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			m.With(k.change)
			h := w.person(t)
			h.must("", "letterlock", "register", "microsoft", "--client-id", microsoftID)
			before := m.Fired()[k.refusal]
			a := w.login(h, k.person, workMail, "--provider", "microsoft", "--flow", "device", "--tenant", k.tenant)
			nothingKept(t, h, a, k.code, k.texts...)
			if m.Fired()[k.refusal] != before+1 {
				t.Errorf("Microsoft refused for another reason: %v", m.Fired())
			}
		})
	}
}

// The issuer of common and organizations is a template: the token's own tenant has to
// take its place, and nothing else. Elsewhere the tenant is pinned.
func TestMicrosoftChecksIssuer(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	issuer := func(tenant string) string { return "https://login.microsoftonline.com/" + tenant + "/v2.0" }
	forge := func(pairs ...any) func(map[string]any) {
		return func(claims map[string]any) {
			for i := 0; i < len(pairs); i += 2 {
				claims[pairs[i].(string)] = pairs[i+1]
			}
		}
	}
	for _, k := range []struct {
		name, tenant string
		forge        func(map[string]any)
		good         bool
	}{
		{"common, any tenant", "common", forge("tid", otherTenant, "iss", issuer(otherTenant)), true},
		{"common, tenant and issuer differ", "common", forge("tid", otherTenant), false},
		{"common, no tenant", "common", forge("tid", nil), false},
		{"common, the template itself", "common", forge("iss", issuer("{tenantid}"), "tid", "{tenantid}"), false},
		{"common, another host", "common", forge("iss", "https://login.microsoftonline.us/"+corpTenant+"/v2.0"), false},
		{"common, version 1", "common", forge("iss", "https://sts.windows.net/"+corpTenant+"/"), false},
		{"common, a path in the tenant", "common", forge("iss", issuer("x/"+corpTenant), "tid", "x/"+corpTenant), false},
		{"common, another client", "common", forge("aud", otherTenant), false},
		{"common, another request", "common", forge("nonce", "old"), false},
		{"organizations, tenant and issuer differ", "organizations", forge("iss", issuer(otherTenant)), false},
		{"pinned, its own", corpTenant, forge(), true},
		{"pinned, another tenant", corpTenant, forge("tid", otherTenant, "iss", issuer(otherTenant)), false},
	} {
		t.Run(k.name, func(t *testing.T) {
			w.resetMicrosoft(c)
			m.With(func() { m.Forge = k.forge })
			h := w.person(t)
			h.must("", "letterlock", "register", "microsoft", "--client-id", microsoftID)
			a := w.login(h, nil, workMail, "--provider", "microsoft", "--flow", "paste", "--tenant", k.tenant)
			if k.good {
				if a.code != 0 {
					t.Errorf("login: %v", a)
				}
				return
			}
			nothingKept(t, h, a, 69, "cannot be trusted; nothing was kept")
		})
	}
	t.Run("consumers, a work account", func(t *testing.T) {
		w.resetMicrosoft(c)
		m.With(func() { m.Forge = forge("tid", corpTenant, "iss", issuer(corpTenant)) })
		h := w.person(t)
		h.must("", "letterlock", "register", "microsoft-personal", "--client-id", microsoftID)
		nothingKept(t, h, w.login(h, nil, personalMail, "--flow", "paste"), 69, "cannot be trusted; nothing was kept")
	})
	t.Run("another person", func(t *testing.T) {
		w.resetMicrosoft(c)
		m.With(func() { m.AtBrowser = "other@corp.example" })
		h := w.person(t)
		h.must("", "letterlock", "register", "microsoft", "--client-id", microsoftID)
		a := w.login(h, nil, workMail, "--provider", "microsoft", "--flow", "browser", "--no-login-hint")
		nothingKept(t, h, a, 77, "other@corp.example signed in, not "+workMail)
	})
}

// TestMicrosoftRefusesChangedRequests changes letterlock's own requests on their way.
func TestMicrosoftRefusesChangedRequests(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	m := c.public
	two := outlook + readMail + " " + graph + sendByGraph
	changes := []change{
		{"900144", "/authorize", drop("scope"), true},
		{"900144", "/authorize", drop("client_id"), true},
		{"900144", "/authorize", drop("response_type"), true},
		{"9002313", "/authorize", func(v url.Values) { v.Add("client_id", "another") }, true},
		{"50011", "/authorize", put("redirect_uri", "http://127.0.0.1:4711/"), true},
		{"50011", "/authorize", put("redirect_uri", "https://letterlock.example/done"), true},
		{"70011", "/authorize", put("scope", outlook+"Everything"), false},
		{"500011", "/authorize", put("scope", "https://outlook.office365.us/IMAP.AccessAsUser.All"), false},
		{"900144", "/token", drop("client_id"), false},
		{"700025", "/token", put("client_secret", "S"), false},
		{"70003", "/token", put("grant_type", "magic"), false},
		{"70000", "/token", put("code", "another"), false},
		{"70000", "/token", put("scope", graph+"Mail.ReadWrite"), false},
		{"28000", "/token", put("scope", two), false},
		{"28000", "/token", drop("scope"), false},
		{"500112", "/token", put("redirect_uri", "http://localhost:1"), false},
		{"501481", "/token", drop("code_verifier"), false},
		{"501481", "/token", put("code_verifier", strings.Repeat("x", 43)), false},
	}
	for _, k := range changes {
		t.Run(k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			w.changeOnTheWay(k)
			h := w.person(t)
			h.must("", "letterlock", "register", "microsoft", "--client-id", microsoftID)
			before := m.Fired()[k.refusal]
			a := w.login(h, nil, workMail, "--provider", "microsoft", "--flow", "browser")
			if m.Fired()[k.refusal] != before+1 || a.code == 0 || (a.page != "") != k.page || h.grantFile(workMail) != nil {
				t.Errorf("%v\npage: %s\nfired: %v", a, a.page, m.Fired())
			}
		})
	}
	for _, k := range []change{
		{"28000", "/token", put("scope", two), false},
		{"65001", "/token", put("scope", graph+"Mail.ReadWrite"), false},
		{"70000", "/token", put("refresh_token", "another"), false},
	} {
		t.Run("refresh "+k.refusal, func(t *testing.T) {
			w.resetMicrosoft(c)
			h := signedInAtMicrosoft(t, w, nil)
			h.expire(workMail)
			w.changeOnTheWay(k)
			before := m.Fired()[k.refusal]
			if r := h.letterlock("token", workMail); r.code == 0 || r.stdout != "" || m.Fired()[k.refusal] != before+1 {
				t.Errorf("%v\nfired: %v", r, m.Fired())
			}
		})
	}
}

// TestProvidersInTrouble: what passes by itself is exit 75 and costs nothing.
func TestProvidersInTrouble(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	for name, answer := range map[string]http.HandlerFunc{
		"503": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) },
		"429": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTooManyRequests) },
		"500 with invalid_grant": func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = rw.Write([]byte(`{"error":"invalid_grant"}`))
		},
		"captive portal": func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write([]byte("<html>Welcome to the hotel</html>"))
		},
		"redirect": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://login.microsoftonline.com/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.resetMicrosoft(c)
			h := signedInAtMicrosoft(t, w, nil)
			h.expire(workMail)
			kept := h.grantFile(workMail)
			w.mu.Lock()
			w.instead = func(rw http.ResponseWriter, r *http.Request) bool { answer(rw, r); return true }
			w.mu.Unlock()
			h.letterlock("token", workMail).says(t, 75, "the grant is kept as it was")
			if !bytes.Equal(kept, h.grantFile(workMail)) {
				t.Error("the grant file was changed")
			}
			w.calm()
			h.token(workMail)
		})
	}
}
