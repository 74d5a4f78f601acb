package provider

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

func purposes() []Purpose { return []Purpose{IMAP, POP3, SMTP, Send, Graph} }

func TestBookIsSane(t *testing.T) {
	names, domains := map[string]bool{}, map[string]string{}
	for _, p := range All() {
		if p.Name == "" || p.Title == "" || names[p.Name] || p.Name != strings.ToLower(p.Name) {
			t.Errorf("name %q, title %q", p.Name, p.Title)
		}
		names[p.Name] = true
		for _, domain := range p.Domains {
			if other := domains[domain]; other != "" || domain != strings.ToLower(domain) || !strings.Contains(domain, ".") {
				t.Errorf("%s: domain %q, also of %q", p.Name, domain, other)
			}
			domains[domain] = p.Name
		}
		checkServers(t, p)
		checkRights(t, p)
		checkEndpoints(t, p)
		if p.Registration.None == "" && (len(p.Registration.Steps) == 0 || len(p.Registration.Links) == 0) {
			t.Errorf("%s: neither a guide nor a reason for none", p.Name)
		}
	}
	for _, name := range []string{"google", "microsoft", "microsoft-personal", "microsoft-gcchigh", "microsoft-dod", "microsoft-china",
		"yahoo", "aol", "fastmail", "zoho", "yandex", "mailru", "comcast", "thundermail", "gmx", "mailcom", "icloud", "proton"} {
		if p, ok := ByName(name); !ok || p.Name != name {
			t.Errorf("%s is not in the book", name)
		}
	}
	if _, ok := ByName("nobody"); ok {
		t.Error("nobody is in the book")
	}
}

func checkServers(t *testing.T, p Provider) {
	t.Helper()
	for name, server := range map[string]MailServer{"IMAP": p.IMAP, "POP3": p.POP3, "SMTP": p.SMTP} {
		if server.IsZero() && name == "POP3" {
			continue
		}
		want := map[int]Security{993: ImplicitTLS, 995: ImplicitTLS, 465: ImplicitTLS, 587: STARTTLS, 1143: STARTTLS, 1025: STARTTLS}
		if server.Host == "" || server.Security != want[server.Port] {
			t.Errorf("%s: %s server %+v", p.Name, name, server)
		}
	}
	if len(p.Mechanisms) == 0 {
		t.Errorf("%s: no mechanism", p.Name)
	}
}

// checkRights: every purpose is to be had or explained, and no right reads mail that
// is called send-only.
func checkRights(t *testing.T, p Provider) {
	t.Helper()
	for _, right := range []Right{Full, SendOnly} {
		for _, purpose := range purposes() {
			r, ok := p.ResourceFor(purpose, right)
			if why := p.WhyNot(purpose, right); ok == (why != "") {
				t.Errorf("%s: %s for %s: found %v, reason %q", p.Name, right, purpose, ok, why)
			}
			if ok && (len(r.Scopes[right]) == 0 || !slices.Contains(r.Purposes, purpose)) {
				t.Errorf("%s: %s for %s: %+v", p.Name, right, purpose, r)
			}
			if ok && right == SendOnly && (purpose == IMAP || purpose == POP3) {
				t.Errorf("%s: send-only reads %s", p.Name, purpose)
			}
		}
		for _, scope := range p.ConsentScopes(right) {
			if scope == "" || strings.TrimSpace(scope) != scope {
				t.Errorf("%s: scope %q", p.Name, scope)
			}
			reads := scope == "https://mail.google.com/" || strings.Contains(scope, "IMAP") || strings.Contains(scope, "POP") || strings.Contains(scope, "imap")
			if right == SendOnly && reads {
				t.Errorf("%s: send-only asks for %s", p.Name, scope)
			}
		}
	}
}

func checkEndpoints(t *testing.T, p Provider) {
	t.Helper()
	resolved, err := p.ForTenant("")
	if err != nil {
		t.Errorf("%s: %v", p.Name, err)
		return
	}
	e := resolved.Endpoints
	places := append([]string{string(e.Issuer), e.Authorization, e.Token, e.DeviceAuthorization, e.Revocation, e.UserInfo, e.JWKS, p.RevokePage}, p.Registration.Links...)
	for _, place := range places {
		if u, err := url.Parse(place); place != "" && (err != nil || u.Scheme != "https" || u.Host == "" || strings.Contains(place, "{tenant}")) {
			t.Errorf("%s: %q is no https URL: %v", p.Name, place, err)
		}
	}
	if len(p.Resources) == 0 {
		return
	}
	if e.Authorization == "" || e.Token == "" || len(p.Flows) == 0 || p.Redirect.URI == "" {
		t.Errorf("%s: no way to sign in", p.Name)
	}
	if slices.Contains(p.Flows, FlowDevice) && e.DeviceAuthorization == "" && !p.Discover {
		t.Errorf("%s: device flow without an endpoint", p.Name)
	}
	if (p.Auth == oauth.AuthNone) == p.NeedsSecret && p.Name != "comcast" {
		t.Errorf("%s: authenticates by %s, needs a secret: %v", p.Name, p.Auth, p.NeedsSecret)
	}
	// The URL that a browser gets is one that package oauth agrees to make.
	conn := &oauth.Conn{Endpoints: e, Client: oauth.Client{ID: "client"}}
	if _, err := conn.AuthCodeURL(oauth.AuthRequest{State: "s", Verifier: oauth.NewVerifier(), Scopes: p.ScopesFor(Full), Extra: p.Params}); err != nil {
		t.Errorf("%s: %v", p.Name, err)
	}
}

// TestNoBorrowedClient: the book holds no client id, neither Thunderbird's nor another's.
func TestNoBorrowedClient(t *testing.T) {
	for _, p := range All() {
		for name := range p.Params {
			if name == "client_id" || name == "client_secret" {
				t.Errorf("%s brings %s", p.Name, name)
			}
		}
		text := strings.Join(append(p.Registration.Steps, p.Registration.Admin, p.Registration.None), " ")
		for _, word := range []string{"googleusercontent", "9e5f94bc", "08162f7c", "GOCSPX"} {
			if strings.Contains(text, word) {
				t.Errorf("%s mentions %s", p.Name, word)
			}
		}
	}
}

func TestRightsOfTheGreatTwo(t *testing.T) {
	google, _ := ByName("google")
	microsoft, _ := ByName("microsoft")
	const outlook, graph = "https://outlook.office.com/", "https://graph.microsoft.com/"
	for _, test := range []struct {
		p       Provider
		purpose Purpose
		right   Right
		name    string
		scope   string
	}{
		{google, IMAP, Full, "mail", "https://mail.google.com/"},
		{google, Send, Full, "mail", "https://mail.google.com/"},
		{google, Send, SendOnly, "gmail-send", "https://www.googleapis.com/auth/gmail.send"},
		{google, SMTP, SendOnly, "", ""},
		{microsoft, IMAP, Full, "outlook", outlook + "IMAP.AccessAsUser.All"},
		{microsoft, SMTP, SendOnly, "outlook", outlook + "SMTP.Send"},
		{microsoft, Send, Full, "graph", graph + "Mail.Send"},
		{microsoft, Send, SendOnly, "outlook", outlook + "SMTP.Send"},
		{microsoft, Graph, SendOnly, "graph", graph + "Mail.Send"},
	} {
		r, ok := test.p.ResourceFor(test.purpose, test.right)
		if ok != (test.name != "") || r.Name != test.name || ok && r.Scopes[test.right][0] != test.scope {
			t.Errorf("%s %s %s: %+v", test.p.Name, test.purpose, test.right, r)
		}
	}
	// One resource a request: no resource mixes hosts.
	for _, p := range All() {
		for _, r := range p.Resources {
			for right, scopes := range r.Scopes {
				hosts := map[string]bool{}
				for _, scope := range scopes {
					if u, err := url.Parse(scope); err == nil && u.Host != "" {
						hosts[u.Host] = true
					}
				}
				if len(hosts) > 1 {
					t.Errorf("%s %s %s mixes %v", p.Name, r.Name, right, hosts)
				}
			}
		}
	}
	if slices.Contains(google.Flows, FlowDevice) {
		t.Error("Google has no device flow for mail")
	}
}

func TestByAddress(t *testing.T) {
	for address, want := range map[string]string{
		"me@gmail.com": "google", "Me@GMAIL.com": "google", "me@googlemail.com.": "google", "me@outlook.com": "microsoft-personal",
		"me@hotmail.co.uk": "microsoft-personal", "me@live.nl": "microsoft-personal", "me@yahoo.de": "yahoo", "me@ymail.com": "yahoo",
		"me@aol.com": "aol", "me@icloud.com": "icloud", "me@pm.me": "proton", "me@gmx.de": "gmx", "me@mail.com": "mailcom", "me@mail.ru": "mailru",
		"me@fastmail.com": "fastmail", "\"a@b\"@gmail.com": "google",
		"me@yahoo.co.jp": "", "me@comcast.net": "", "me@example.com": "", "me@notgmail.com": "", "me@sub.gmail.com": "", "gmail.com": "", "": "", "@": "",
	} {
		if p, ok := ByAddress(address); p.Name != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", address, p.Name, want)
		}
	}
}

func TestByMX(t *testing.T) {
	for host, want := range map[string]string{
		"aspmx.l.google.com": "google", "ALT1.ASPMX.L.GOOGLE.COM.": "google", "smtp.google.com": "google",
		"example-com.mail.protection.outlook.com": "microsoft", "example-com.a-v1.mx.microsoft": "microsoft",
		"outlook-com.olc.protection.outlook.com": "microsoft-personal", "x.mail.protection.office365.us": "microsoft-gcchigh",
		"x.mail.protection.partner.outlook.cn": "microsoft-china", "mta5.am0.yahoodns.net": "yahoo", "mx-aol.mail.gm0.yahoodns.net": "aol",
		"in1-smtp.messagingengine.com": "fastmail", "mx.yandex.net": "yandex", "mx1.comcast.net": "comcast",
		"evilgoogle.com": "", "google.com.evil.example": "", "mx.example.com": "", "": "",
	} {
		if p, ok := ByMX(host); p.Name != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", host, p.Name, want)
		}
	}
}

func TestForTenant(t *testing.T) {
	const id = "0a1b2c3d-0000-1111-2222-333344445555"
	for _, test := range []struct {
		provider, tenant, path, issuer string
		templated                      bool
		fault                          string
	}{
		{"microsoft", "", "common", "{tenantid}", true, ""},
		{"microsoft", "organizations", "organizations", "{tenantid}", true, ""},
		{"microsoft", "Contoso.onmicrosoft.com", "contoso.onmicrosoft.com", "{tenantid}", true, ""},
		{"microsoft", strings.ToUpper(id), id, id, false, ""},
		{"microsoft", "consumers", "consumers", personalTenant, false, ""},
		{"microsoft-personal", "", "consumers", personalTenant, false, ""},
		{"microsoft-personal", id, "", "", false, "personal"},
		{"microsoft-dod", "consumers", "", "", false, "no personal accounts"},
		{"google", "x.example", "", "", false, "no tenants"},
		{"microsoft", "../evil", "", "", false, "neither"},
		{"microsoft", "a/b.example", "", "", false, "neither"},
		{"microsoft", "word", "", "", false, "neither"},
		{"microsoft", "x.example?y", "", "", false, "neither"},
		{"microsoft", "-x.example", "", "", false, "neither"},
		{"microsoft", "me@contoso.com", "", "", false, "neither"},
		{"microsoft", strings.Repeat("a.", 150) + "a", "", "", false, "neither"},
		{"microsoft", id + "0", "", "", false, "neither"},
	} {
		p, _ := ByName(test.provider)
		got, err := p.ForTenant(test.tenant)
		if test.fault != "" {
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%s %q: %v", test.provider, test.tenant, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %q: %v", test.provider, test.tenant, err)
			continue
		}
		login := "https://login.microsoftonline.com/"
		if got.Endpoints.Token != login+test.path+"/oauth2/v2.0/token" || string(got.Endpoints.Issuer) != login+test.issuer+"/v2.0" || got.TemplatedIssuer != test.templated {
			t.Errorf("%s %q: %+v", test.provider, test.tenant, got.Endpoints)
		}
		if again, err := got.ForTenant(""); err != nil || again.Endpoints != got.Endpoints {
			t.Errorf("%s %q does not stay: %+v, %v", test.provider, test.tenant, again.Endpoints, err)
		}
	}
}

func TestRegistrationGuide(t *testing.T) {
	for _, p := range All() {
		r := p.Registration.Fill("http://redirect.example/", []string{"scope-one", "scope-two"}, "", "client")
		text := strings.Join(r.Steps, "\n") + r.Admin
		if strings.Contains(text, "{") {
			t.Errorf("%s: unfilled: %s", p.Name, text)
		}
		if len(r.Steps) > 0 && (!strings.Contains(text, "http://redirect.example/") || !strings.Contains(text, "scope-one scope-two")) {
			t.Errorf("%s: the guide names neither redirect URI nor scopes", p.Name)
		}
	}
	microsoft, _ := ByName("microsoft")
	place, err := microsoft.AdminConsentURL("contoso.com", "a&b")
	if err != nil || place != "https://login.microsoftonline.com/contoso.com/adminconsent?client_id=a%26b" {
		t.Errorf("%s, %v", place, err)
	}
	google, _ := ByName("google")
	if _, err := google.AdminConsentURL("", "x"); err == nil {
		t.Error("Google has an admin consent page")
	}
}
