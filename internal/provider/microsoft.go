package provider

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

const (
	consumers = "consumers"
	// personalTenant is the directory of all personal accounts; the metadata of
	// consumers names it as issuer.
	personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
	// tenantTemplate stands in the issuer of documents for several tenants; the token
	// has its own tenant there (package oauth compares).
	tenantTemplate = "{tenantid}"
)

// A cloud is one of Microsoft's separate worlds. Accounts, registrations and tokens of
// one mean nothing in another.
type cloud struct {
	name, title string
	tenant      string
	login       string // host of the endpoints
	outlook     string // audience of the mail protocols
	graph       string // host and audience of Graph
	portal      string
	imap, smtp  string
	domains, mx []string
}

// microsoft is work and school accounts in the world-wide cloud, US GCC included, and
// personal ones: common asks which it is.
func microsoft() Provider {
	return cloud{
		name: "microsoft", title: "Microsoft 365", tenant: "common",
		login: "login.microsoftonline.com", outlook: "outlook.office.com", graph: "graph.microsoft.com",
		portal: "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps/ApplicationsListBlade",
		imap:   "outlook.office365.com", smtp: "smtp.office365.com",
		mx: []string{"mail.protection.outlook.com", "mx.microsoft"},
	}.provider()
}

// microsoftPersonal is Outlook.com, Hotmail, Live and MSN.
func microsoftPersonal() Provider {
	p := cloud{
		name: "microsoft-personal", title: "Outlook.com", tenant: consumers,
		login: "login.microsoftonline.com", outlook: "outlook.office.com", graph: "graph.microsoft.com",
		portal: "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps/ApplicationsListBlade",
		imap:   "outlook.office365.com", smtp: "smtp-mail.outlook.com",
		domains: personalDomains(), mx: []string{"olc.protection.outlook.com"},
	}.provider()
	p.RevokePage = "https://account.live.com/consent/Manage"
	p.Registration.Admin = "" // there is no administrator
	p.Registration.Steps[0] = "Sign in to the portal. A personal account alone has no directory to register in any more: an Azure sign-up (with a card, free of charge) or a directory of your organization gives one."
	return p
}

// microsoftGCCHigh is the US government cloud of that name; plain GCC is in the
// world-wide one.
func microsoftGCCHigh() Provider {
	return cloud{
		name: "microsoft-gcchigh", title: "Microsoft 365 GCC High", tenant: "organizations",
		login: "login.microsoftonline.us", outlook: "outlook.office365.us", graph: "graph.microsoft.us",
		portal: "https://portal.azure.us/#view/Microsoft_AAD_RegisteredApps/ApplicationsListBlade",
		imap:   "outlook.office365.us", smtp: "smtp.office365.us",
		mx: []string{"mail.protection.office365.us"},
	}.provider()
}

// microsoftDoD is the cloud of the US Department of Defense. Its hosts are from scripts
// of others, not from documentation we could read.
func microsoftDoD() Provider {
	return cloud{
		name: "microsoft-dod", title: "Microsoft 365 DoD", tenant: "organizations",
		login: "login.microsoftonline.us", outlook: "outlook-dod.office365.us", graph: "dod-graph.microsoft.us",
		portal: "https://portal.azure.us/#view/Microsoft_AAD_RegisteredApps/ApplicationsListBlade",
		imap:   "outlook-dod.office365.us", smtp: "outlook-dod.office365.us",
	}.provider()
}

// microsoftChina is the cloud that 21Vianet runs. The mail hosts are not verified.
func microsoftChina() Provider {
	return cloud{
		name: "microsoft-china", title: "Microsoft 365 (21Vianet)", tenant: "organizations",
		login: "login.partner.microsoftonline.cn", outlook: "partner.outlook.cn", graph: "microsoftgraph.chinacloudapi.cn",
		portal: "https://portal.azure.cn/#view/Microsoft_AAD_RegisteredApps/ApplicationsListBlade",
		imap:   "partner.outlook.cn", smtp: "partner.outlook.cn",
		mx: []string{"protection.partner.outlook.cn"},
	}.provider()
}

// provider fills in what all clouds share. There is no RFC 7009 endpoint, and
// OAUTHBEARER is not offered. A refresh token belongs to the user and the client and
// serves every resource; each use returns a new one and leaves the old one alive.
func (c cloud) provider() Provider {
	at := "https://" + c.login + "/{tenant}"
	return Provider{
		Name: c.name, Title: c.title, Domains: c.domains, MX: c.mx, Tenant: c.tenant,
		Endpoints: oauth.Endpoints{
			Issuer:              oauth.Issuer(at + "/v2.0"),
			Authorization:       at + "/oauth2/v2.0/authorize",
			Token:               at + "/oauth2/v2.0/token",
			DeviceAuthorization: at + "/oauth2/v2.0/devicecode",
			JWKS:                at + "/discovery/v2.0/keys",
			UserInfo:            "https://" + c.graph + "/oidc/userinfo",
		},
		TemplatedIssuer: c.tenant != consumers,
		Auth:            oauth.AuthNone,
		Redirect:        Redirect{URI: "http://localhost", AnyPort: true},
		Flows:           []Flow{FlowBrowser, FlowDevice, FlowPaste, FlowClientCredentials},
		Params:          url.Values{"prompt": {"select_account"}},
		Resources:       c.resources(),
		IMAP:            MailServer{c.imap, 993, ImplicitTLS},
		POP3:            MailServer{c.imap, 995, ImplicitTLS},
		SMTP:            MailServer{c.smtp, 587, STARTTLS}, // there is no 465
		Mechanisms:      []string{"XOAUTH2"},
		Registration:    c.registration(),
		RevokePage:      "https://myapps.microsoft.com/",
		Rotates:         true,
		Lifetimes: []Lifetime{
			{Rule: "refresh tokens end after 90 days without use", Days: 90, Idle: true},
			{Rule: "a change of the password or a revocation by an administrator ends refresh tokens"},
			{Rule: "the sign-in frequency of a Conditional Access policy ends refresh tokens", When: "the administrator has set it"},
			{Rule: "refresh tokens of a client registered as single-page application end after 24 hours", When: "the redirect URI was registered under that platform"},
		},
	}
}

// resources are two, and a token is good for one of them: a request that names scopes
// of both is refused (AADSTS28000, 700022).
func (c cloud) resources() []Resource {
	outlook, graph := "https://"+c.outlook+"/", "https://"+c.graph+"/"
	return []Resource{
		{
			Name:     "outlook",
			Purposes: []Purpose{IMAP, POP3, SMTP, Send},
			Scopes: map[Right][]string{
				Full:     {outlook + "IMAP.AccessAsUser.All", outlook + "POP.AccessAsUser.All", outlook + "SMTP.Send", "offline_access", "openid", "email", "profile"},
				SendOnly: {outlook + "SMTP.Send", "offline_access", "openid", "email", "profile"},
			},
		},
		{
			Name:     "graph",
			Purposes: []Purpose{Graph, Send},
			Scopes: map[Right][]string{
				Full:     {graph + "Mail.Send", "offline_access", "openid", "email", "profile"},
				SendOnly: {graph + "Mail.Send", "offline_access", "openid", "email", "profile"},
			},
		},
	}
}

func (c cloud) registration() Registration {
	return Registration{
		Links: []string{c.portal},
		Steps: []string{
			"Sign in to the portal with an account that may register applications in your directory.",
			"New registration: any name. Supported account types: this directory only, any directory, or any directory and personal accounts; it decides which tenant to give at login.",
			"Redirect URI: platform Public client/native (mobile and desktop), value {redirect}. Not Single-page application: its sign-ins end after 24 hours.",
			"Authentication, Settings: set Allow public client flows to Yes, or device codes are refused (AADSTS7000218).",
			"API permissions, delegated: {scopes}. Those of the mail protocols are found under Microsoft Graph as IMAP.AccessAsUser.All, POP.AccessAsUser.All and SMTP.Send.",
			"Copy the Application (client) id from the overview. There is no secret: this is a public client.",
		},
		Admin: "Please grant admin consent for this application: https://" + c.login + "/{tenant}/adminconsent?client_id={client_id} . " +
			"It asks for these delegated permissions, for the signed-in user's own mailbox only: {scopes}. It is a mail program on the user's own machine; no data leaves it for a third party. " +
			"For sending by SMTP the mailbox also needs: Set-CASMailbox -Identity USER -SmtpClientAuthenticationDisabled $false",
	}
}

// inTenant fills in {tenant}. The issuer follows a rule of its own: what the metadata
// of consumers and of a directory id name is known, the others' tokens name a
// directory that we cannot know before.
func inTenant(e oauth.Endpoints, tenant string) oauth.Endpoints {
	issuer := tenantTemplate
	switch {
	case tenant == consumers:
		issuer = personalTenant
	case directoryID(tenant):
		issuer = tenant
	}
	e.Issuer = oauth.Issuer(strings.Replace(string(e.Issuer), "{tenant}", issuer, 1))
	for _, place := range []*string{&e.Authorization, &e.Token, &e.DeviceAuthorization, &e.JWKS} {
		*place = strings.Replace(*place, "{tenant}", tenant, 1)
	}
	return e
}

// AdminConsentURL is where an administrator approves a client for a whole directory.
func (p Provider) AdminConsentURL(tenant, clientID string) (string, error) {
	if p.Family() != "microsoft" || tenant == consumers || p.Tenant == consumers {
		return "", fmt.Errorf("%s has no page for administrators' consent", p.Title)
	}
	resolved, err := p.ForTenant(tenant)
	if err != nil {
		return "", err
	}
	if resolved.Tenant == "common" {
		resolved.Tenant = "organizations"
	}
	u, err := url.Parse(resolved.Endpoints.Authorization)
	if err != nil {
		return "", fmt.Errorf("admin consent: %w", err)
	}
	u.Path = "/" + resolved.Tenant + "/adminconsent"
	u.RawQuery = url.Values{"client_id": {clientID}}.Encode()
	return u.String(), nil
}

// validTenant accepts what may stand in the path: it must not change the URL's meaning.
func validTenant(tenant string) bool {
	switch tenant {
	case "common", "organizations", consumers:
		return true
	}
	if directoryID(tenant) {
		return true
	}
	labels := strings.Split(tenant, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return len(labels) > 1 && len(tenant) <= 253
}

// directoryID reports whether text has the form 8-4-4-4-12 in hexadecimal.
func directoryID(text string) bool {
	groups := strings.Split(text, "-")
	if len(groups) != 5 {
		return false
	}
	for i, length := range []int{8, 4, 4, 4, 12} {
		if len(groups[i]) != length || strings.Trim(groups[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return true
}

func personalDomains() []string {
	return []string{
		"outlook.com", "outlook.at", "outlook.be", "outlook.cl", "outlook.co.id", "outlook.co.il", "outlook.co.th", "outlook.com.ar",
		"outlook.com.au", "outlook.com.br", "outlook.com.gr", "outlook.com.pe", "outlook.com.tr", "outlook.com.vn", "outlook.cz",
		"outlook.de", "outlook.dk", "outlook.es", "outlook.fr", "outlook.hu", "outlook.ie", "outlook.in", "outlook.it", "outlook.jp",
		"outlook.kr", "outlook.lv", "outlook.my", "outlook.ph", "outlook.pt", "outlook.sa", "outlook.sg", "outlook.sk",
		"hotmail.com", "hotmail.be", "hotmail.ca", "hotmail.ch", "hotmail.co.jp", "hotmail.co.kr", "hotmail.co.nz", "hotmail.co.uk",
		"hotmail.com.ar", "hotmail.com.au", "hotmail.com.br", "hotmail.com.tr", "hotmail.cz", "hotmail.de", "hotmail.dk", "hotmail.es",
		"hotmail.fi", "hotmail.fr", "hotmail.gr", "hotmail.hu", "hotmail.it", "hotmail.nl", "hotmail.no", "hotmail.se",
		"live.com", "live.at", "live.be", "live.ca", "live.cl", "live.cn", "live.co.uk", "live.com.ar", "live.com.au", "live.com.mx",
		"live.com.my", "live.com.pt", "live.com.sg", "live.de", "live.dk", "live.fi", "live.fr", "live.hk", "live.ie", "live.in",
		"live.it", "live.jp", "live.nl", "live.no", "live.ru", "live.se", "msn.com", "passport.com", "windowslive.com",
	}
}
