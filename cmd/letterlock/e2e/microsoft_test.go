//go:build unix

package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

const (
	microsoftID  = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
	corpTenant   = "11111111-2222-4333-8444-555555555555"
	otherTenant  = "66666666-7777-4888-8999-aaaaaaaaaaaa"
	outlook      = "https://outlook.office.com/"
	graph        = "https://graph.microsoft.com/"
	readMail     = "IMAP.AccessAsUser.All"
	sendByGraph  = "Mail.Send"
	sendBySMTP   = "SMTP.Send"
	personalMail = "you@outlook.com"
	workMail     = "you@corp.example"
)

// clouds are Microsoft's three worlds.
type clouds struct{ public, us, china *fakeidp.Microsoft }

func newMicrosoft(t *testing.T) (*world, clouds) {
	var c clouds
	w := newWorld(t, func(clock func() time.Time) []fakeidp.Provider {
		c = clouds{fakeidp.NewMicrosoft(clock, fakeidp.PublicCloud()), fakeidp.NewMicrosoft(clock, fakeidp.USCloud()), fakeidp.NewMicrosoft(clock, fakeidp.ChinaCloud())}
		return []fakeidp.Provider{c.public, c.us, c.china}
	})
	w.resetMicrosoft(c)
	return w, c
}

func (w *world) resetMicrosoft(c clouds) {
	w.calm()
	for _, m := range []*fakeidp.Microsoft{c.public, c.us, c.china} {
		m.With(func() {
			m.Forge, m.AtBrowser, m.Interval = nil, "", 1
			m.Tenants = map[string]string{"consumers": fakeidp.ConsumerTenant, fakeidp.ConsumerTenant: fakeidp.ConsumerTenant,
				corpTenant: corpTenant, "corp.example": corpTenant, otherTenant: otherTenant}
			m.Clients = map[string]*fakeidp.MicrosoftClient{microsoftID: {Audience: "all", Redirects: []string{"http://localhost"}}}
			m.People = map[string]*fakeidp.MicrosoftPerson{
				personalMail: {Tenant: fakeidp.ConsumerTenant}, workMail: {Tenant: corpTenant}, "other@corp.example": {Tenant: corpTenant},
			}
		})
		m.Withdraw(microsoftID, personalMail)
		m.Withdraw(microsoftID, workMail)
	}
}

func TestMicrosoft(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	for _, k := range []struct {
		name, provider, address string
		cloud                   *fakeidp.Microsoft
		client                  fakeidp.MicrosoftClient
		flow                    string
		args                    []string
		outlook, graph          string
		revoke                  string
	}{
		{"personal", "microsoft-personal", personalMail, c.public, fakeidp.MicrosoftClient{Audience: "personal"}, "browser", nil, outlook, graph, "https://account.live.com/consent/Manage"},
		{"personal, paste", "microsoft-personal", personalMail, c.public, fakeidp.MicrosoftClient{Audience: "all"}, "paste", nil, outlook, graph, "https://account.live.com/consent/Manage"},
		{"personal, device", "microsoft-personal", personalMail, c.public, fakeidp.MicrosoftClient{Audience: "personal"}, "device", nil, outlook, graph, "https://account.live.com/consent/Manage"},
		{"personal by common", "microsoft", personalMail, c.public, fakeidp.MicrosoftClient{Audience: "all"}, "browser", []string{"--provider", "microsoft"}, outlook, graph, "https://myapps.microsoft.com/"},
		{"work by common", "microsoft", workMail, c.public, fakeidp.MicrosoftClient{Audience: "all"}, "browser", []string{"--provider", "microsoft"}, outlook, graph, "https://myapps.microsoft.com/"},
		{"work by organizations", "microsoft", workMail, c.public, fakeidp.MicrosoftClient{Audience: "organizations"}, "paste", []string{"--provider", "microsoft", "--tenant", "organizations"}, outlook, graph, "https://myapps.microsoft.com/"},
		{"work, device", "microsoft", workMail, c.public, fakeidp.MicrosoftClient{Audience: "organizations"}, "device", []string{"--provider", "microsoft", "--tenant", "organizations"}, outlook, graph, "https://myapps.microsoft.com/"},
		{"work, one tenant", "microsoft", workMail, c.public, fakeidp.MicrosoftClient{Audience: "tenant", Home: corpTenant}, "browser", []string{"--provider", "microsoft", "--tenant", corpTenant}, outlook, graph, "https://myapps.microsoft.com/"},
		{"work, tenant by domain", "microsoft", workMail, c.public, fakeidp.MicrosoftClient{Audience: "tenant", Home: corpTenant}, "paste", []string{"--provider", "microsoft", "--tenant", "corp.example"}, outlook, graph, "https://myapps.microsoft.com/"},
		{"GCC High", "microsoft-gcchigh", workMail, c.us, fakeidp.MicrosoftClient{Audience: "organizations"}, "browser", []string{"--provider", "microsoft-gcchigh"}, "https://outlook.office365.us/", "https://graph.microsoft.us/", "https://myapps.microsoft.com/"},
		{"DoD", "microsoft-dod", workMail, c.us, fakeidp.MicrosoftClient{Audience: "tenant", Home: corpTenant}, "browser", []string{"--provider", "microsoft-dod", "--tenant", corpTenant}, "https://outlook-dod.office365.us/", "https://dod-graph.microsoft.us/", "https://myapps.microsoft.com/"},
		{"21Vianet", "microsoft-china", workMail, c.china, fakeidp.MicrosoftClient{Audience: "organizations"}, "device", []string{"--provider", "microsoft-china"}, "https://partner.outlook.cn/", "https://microsoftgraph.chinacloudapi.cn/", "https://myapps.microsoft.com/"},
	} {
		t.Run(k.name, func(t *testing.T) {
			w.resetMicrosoft(c)
			k.client.Redirects = []string{"http://localhost"}
			k.cloud.With(func() { k.cloud.Clients[microsoftID] = &k.client })
			asked := w.watchScopes()
			h := w.person(t)
			h.must("", "letterlock", "register", k.provider, "--client-id", microsoftID)
			a := w.login(h, func() { k.cloud.Decide(k.address, true) }, append([]string{k.address, "--flow", k.flow}, k.args...)...)
			if a.code != 0 || a.stdout != "" || !strings.Contains(a.stderr, "signed in "+k.address+", may read and send mail") {
				t.Fatalf("login: %v", a)
			}
			microsoftTokens(t, k.cloud, h, k.address, k.outlook, k.graph, k.flow == "device")
			microsoftEnd(t, k.cloud, h, k.address, k.revoke)
			for _, scopes := range asked() {
				if strings.Contains(scopes, k.outlook) && strings.Contains(scopes, k.graph) {
					t.Errorf("a token was asked for two resources: %s", scopes)
				}
			}
		})
	}
}

// watchScopes notes the scopes of requests for a token. It returns what there was.
func (w *world) watchScopes() func() []string {
	var all []string
	w.mu.Lock()
	defer w.mu.Unlock()
	w.between = func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/token") {
			return
		}
		rewrite(r, func(form url.Values) {
			w.mu.Lock()
			defer w.mu.Unlock()
			all = append(all, form.Get("scope"))
		})
	}
	return func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return all
	}
}

// microsoftTokens fetches tokens for both resources from the one refresh token, and
// renews them when they have expired. Every answer brings a new refresh token.
func microsoftTokens(t *testing.T, m *fakeidp.Microsoft, h *home, address, outlook, graph string, device bool) {
	t.Helper()
	refresh := h.grant(address).Refresh
	mail := h.token(address, "--for", "imap")
	for _, purpose := range []string{"pop3", "smtp", "send"} {
		if h.token(address, "--for", purpose) != mail {
			t.Errorf("the token for %s is not the one for Outlook", purpose)
		}
	}
	if who, err := m.Check(mail, outlook+readMail); who != address || err != nil {
		t.Errorf("the token is of %q: %v", who, err)
	}
	if device {
		// The person was asked about one resource only.
		h.letterlock("token", address, "--for", "graph").says(t, 77, "AADSTS65001", "remedy: sign in again in a browser (--flow browser or paste)", "hint: letterlock login "+address)
	} else {
		api := h.token(address, "--for", "graph")
		if who, err := m.Check(api, graph+sendByGraph); who != address || err != nil || api == mail {
			t.Errorf("the token for Graph is of %q: %v", who, err)
		}
		if _, err := m.Check(api, outlook+readMail); err == nil {
			t.Error("the token for Graph opens Outlook")
		}
		if h.token(address, "--for", "imap") != mail || h.token(address, "--for", "graph") != api {
			t.Error("one token pushed out the other")
		}
		if h.grant(address).Refresh.Equal(refresh) {
			t.Error("the new refresh token was not kept")
		}
	}
	refresh = h.grant(address).Refresh
	h.expire(address)
	if who, err := m.Check(h.token(address), outlook+readMail); who != address || err != nil {
		t.Errorf("the refreshed token is of %q: %v", who, err)
	}
	if h.grant(address).Refresh.Equal(refresh) {
		t.Error("the new refresh token was not kept")
	}
}

// microsoftEnd signs out: there is no endpoint for that, so the page is named.
func microsoftEnd(t *testing.T, m *fakeidp.Microsoft, h *home, address, page string) {
	t.Helper()
	before := len(m.Refreshes())
	r := h.must("", "letterlock", "logout", address)
	if !strings.Contains(r.stderr, "deleted here; take the right back at the provider too: "+page) {
		t.Errorf("logout: %v", r)
	}
	if h.grantFile(address) != nil || len(m.Refreshes()) != before {
		t.Error("the grant is still on disk, or Microsoft was asked for what it does not have")
	}
	h.letterlock("token", address).says(t, 77, "is not signed in", "letterlock login "+address)
}

// A send-only right is consented to for SMTP and Graph; no token of it reads mail.
func TestMicrosoftSendOnly(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	for _, k := range []struct{ name, provider, address string }{
		{"personal", "microsoft-personal", personalMail}, {"work", "microsoft", workMail},
	} {
		t.Run(k.name, func(t *testing.T) {
			w.resetMicrosoft(c)
			h := w.person(t)
			h.must("", "letterlock", "register", k.provider, "--client-id", microsoftID)
			a := w.login(h, nil, k.address, "--account", "cron", "--provider", k.provider, "--send-only", "--flow", "browser")
			if a.code != 0 || !strings.Contains(a.stderr, "may send mail and cannot read it") {
				t.Fatalf("login: %v", a)
			}
			asked, _ := url.Parse(a.address)
			if scope := asked.Query().Get("scope"); strings.Contains(scope, "AccessAsUser") || strings.Contains(scope, "Mail.Read") {
				t.Errorf("the consent is for %q", scope)
			}
			for purpose, scope := range map[string]string{"smtp": outlook + sendBySMTP, "send": outlook + sendBySMTP, "graph": graph + sendByGraph} {
				token := h.token("cron", "--for", purpose)
				if who, err := c.public.Check(token, scope); who != k.address || err != nil {
					t.Errorf("the token for %s is of %q: %v", purpose, who, err)
				}
				if _, err := c.public.Check(token, outlook+readMail); err == nil {
					t.Errorf("the token for %s reads mail", purpose)
				}
			}
			for _, purpose := range []string{"imap", "pop3"} {
				h.letterlock("token", "cron", "--for", purpose).says(t, 77, "does not cover")
			}
		})
	}
}

// Over ssh letterlock chooses the device code by itself.
func TestMicrosoftChoosesDevice(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	h := w.person(t, "SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22")
	h.must("", "letterlock", "register", "microsoft-personal", "--client-id", microsoftID)
	a := w.login(h, func() { c.public.Decide(personalMail, true) }, personalMail)
	if a.code != 0 || !strings.Contains(a.stderr, "signing in by device: this is an ssh session") || !strings.Contains(a.address, "microsoft.com/devicelogin") {
		t.Errorf("login: %v", a)
	}
}
