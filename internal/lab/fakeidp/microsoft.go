package fakeidp

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Cloud is one of Microsoft's separate worlds: a login host and the resources that
// its tokens may be for.
type Cloud struct {
	Login     string   // host of the login service
	Resources []string // resource prefixes with a trailing slash
}

// The clouds of clients.md section 3.
func PublicCloud() Cloud {
	return Cloud{"login.microsoftonline.com", []string{"https://outlook.office.com/", "https://outlook.office365.com/", "https://graph.microsoft.com/"}}
}

// USCloud is GCC High and DoD.
func USCloud() Cloud {
	return Cloud{"login.microsoftonline.us", []string{"https://outlook.office365.us/", "https://outlook-dod.office365.us/", "https://graph.microsoft.us/", "https://dod-graph.microsoft.us/"}}
}

// ChinaCloud is the one that 21Vianet runs.
func ChinaCloud() Cloud {
	return Cloud{"login.partner.microsoftonline.cn", []string{"https://partner.outlook.cn/", "https://microsoftgraph.chinacloudapi.cn/"}}
}

// ConsumerTenant is the tenant of all personal accounts.
const ConsumerTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// A MicrosoftClient is an app registration.
type MicrosoftClient struct {
	// Audience: "tenant", "organizations", "all" or "personal" (signInAudience).
	Audience  string
	Home      string   // tenant id of a single-tenant app
	Redirects []string // registered; http://localhost matches any port
	Secret    string   // not empty: a confidential client
	Expired   bool     // its secret has expired
	// NoPublicFlows: "Allow public client flows" is off: no device code.
	NoPublicFlows bool
	Disabled      bool
	// Certificates prove the app without a secret; Roles are the application permissions
	// that an administrator gave it: IMAP.AccessAsApp ...
	Certificates []*x509.Certificate
	Roles        []string
}

// A MicrosoftPerson is who sits at the browser.
type MicrosoftPerson struct {
	Tenant   string // ConsumerTenant for personal accounts
	Declines bool
	// NoConsent: the tenant lets no user consent to apps; AdminConsented undoes it.
	NoConsent, AdminConsented bool
	// NoDevice: conditional access blocks the device flow. Unmanaged: it wants a
	// managed device. MFA: a step is due that a refresh cannot do.
	NoDevice, Unmanaged, MFA bool
	// PasswordChanged: at that time every refresh token from before ended.
	PasswordChanged time.Time
	// SignInFrequency: sign-in is asked for again after that long; 0 never.
	SignInFrequency time.Duration
}

// Microsoft plays the v2.0 login service of one cloud.
type Microsoft struct {
	*book
	Cloud     Cloud
	Tenants   map[string]string // verified domain or name to tenant id
	Clients   map[string]*MicrosoftClient
	People    map[string]*MicrosoftPerson
	AtBrowser string
	// Lifetime of access tokens in seconds; 0: as long as Microsoft's.
	Lifetime int
	// Interval is how often a device code may be asked about, in seconds.
	Interval int
	// consents are the scopes of all resources that a person has consented to, by
	// client and person. A refresh token gets nothing else (65001).
	consents map[[2]string][]string
}

// NewMicrosoft makes a Microsoft that knows the consumers and no other tenant.
func NewMicrosoft(clock func() time.Time, cloud Cloud) *Microsoft {
	return &Microsoft{book: newBook(clock), Cloud: cloud, Tenants: map[string]string{"consumers": ConsumerTenant, ConsumerTenant: ConsumerTenant},
		Clients: map[string]*MicrosoftClient{}, People: map[string]*MicrosoftPerson{}, Interval: 5, consents: map[[2]string][]string{}}
}

// Hosts implements Provider.
func (m *Microsoft) Hosts() []string { return []string{m.Cloud.Login} }

// Refusals implements Provider: the AADSTS numbers.
func (m *Microsoft) Refusals() []string {
	return []string{
		"90002", "900144", "700016", "7000112", "50011", "50194", "9002331", "9002346", "9002332", "50020", "65001", "65004", "90094", "28000", "70011", "500011", "900561",
		"70003", "7000218", "700025", "7000215", "7000222", "70000", "70008", "54005", "500112", "501481", "9002313", "700082", "50173", "70043", "50076", "53000", "53003",
		"70016", "70018", "70020", "50199",
	}
}

// ServeHTTP implements http.Handler. The first path segment is the tenant.
func (m *Microsoft) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !m.tenantKnown(tenant) {
		m.refuseJSON(w, 400, "invalid_tenant", 90002, "Tenant '"+tenant+"' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.")
		return
	}
	switch rest {
	case "v2.0/.well-known/openid-configuration":
		m.metadata(w, tenant)
	case "discovery/v2.0/keys":
		m.keys(w)
	case "oauth2/v2.0/authorize":
		m.authorize(w, r, tenant)
	case "oauth2/v2.0/token":
		m.token(w, r, tenant)
	case "oauth2/v2.0/devicecode":
		m.deviceCode(w, r, tenant)
	default:
		http.NotFound(w, r) // there is no revocation endpoint
	}
}

func (m *Microsoft) tenantKnown(tenant string) bool {
	return tenant == "common" || tenant == "organizations" || m.Tenants[tenant] != ""
}

// metadata: the multi-tenant documents have a template for an issuer.
func (m *Microsoft) metadata(w http.ResponseWriter, tenant string) {
	base := "https://" + m.Cloud.Login + "/" + tenant
	issuer := "https://" + m.Cloud.Login + "/{tenantid}/v2.0"
	if id := m.Tenants[tenant]; id != "" {
		issuer = "https://" + m.Cloud.Login + "/" + id + "/v2.0"
	}
	answer(w, http.StatusOK, map[string]any{
		"issuer": issuer, "authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token",
		"device_authorization_endpoint": base + "/oauth2/v2.0/devicecode", "jwks_uri": base + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"subject_types_supported":               []string{"pairwise"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		"claims_supported": []string{"sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid", "email"},
	})
}

// refuseJSON answers with Microsoft's error form.
func (m *Microsoft) refuseJSON(w http.ResponseWriter, status int, code string, number int, text string) {
	m.refuse(fmt.Sprint(number))
	answer(w, status, m.errorBody(code, number, text))
}

func (m *Microsoft) errorBody(code string, number int, text string) map[string]any {
	stamp := m.clock().UTC().Format("2006-01-02 15:04:05Z")
	trace, correlation := "0f1e2d3c-0000-4000-8000-00000000a100", "a1b2c3d4-0000-4000-8000-0000000000ff"
	body := map[string]any{
		"error": code, "error_codes": []int{number}, "timestamp": stamp, "trace_id": trace, "correlation_id": correlation,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", number, text, trace, correlation, stamp),
		"error_uri":         fmt.Sprintf("https://%s/error?code=%d", m.Cloud.Login, number),
	}
	if sub := map[int]string{65001: "consent_required", 50076: "basic_action", 53003: "message_only"}[number]; sub != "" {
		body["suberror"] = sub
	}
	return body
}

// refusePage shows an error in the browser, where the application hears nothing.
func (m *Microsoft) refusePage(w http.ResponseWriter, number int, text string) {
	m.refuse(fmt.Sprint(number))
	page(w, 200, fmt.Sprintf("Sorry, but we’re having trouble signing you in. AADSTS%d: %s", number, text))
}

// refuseBack sends the browser back with an error.
func (m *Microsoft) refuseBack(w http.ResponseWriter, r *http.Request, code string, number int, text string) {
	m.refuse(fmt.Sprint(number))
	q := url.Values{"error": {code}, "error_description": {fmt.Sprintf("AADSTS%d: %s", number, text)},
		"error_uri": {fmt.Sprintf("https://%s/error?code=%d", m.Cloud.Login, number)}, "state": r.URL.Query()["state"]}
	back(w, r, r.URL.Query().Get("redirect_uri"), q)
}

// audience compares the tenant in the path with who the app is for. Where a page is
// shown (browser) and where JSON is answered, the number for personal apps differs.
func (m *Microsoft) audience(client *MicrosoftClient, tenant string, page bool) (number int, text string) {
	id := m.Tenants[tenant]
	personal := 9002346
	if page {
		personal = 9002331
	}
	switch {
	case client.Audience == "tenant" && (tenant == "common" || tenant == "organizations" || tenant == "consumers"):
		return 50194, "Application is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps created after 10/15/2018. Use a tenant-specific endpoint or configure the application to be multi-tenant."
	case client.Audience == "tenant" && id != client.Home:
		return 700016, "Application was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
	case client.Audience == "personal" && tenant != "consumers" && id != ConsumerTenant:
		return personal, "Application is configured for use by Microsoft Account users only. Please use the /consumers endpoint to serve this request."
	case client.Audience == "organizations" && id == ConsumerTenant:
		return 9002332, "Application is configured for use by Microsoft Entra users only. Please do not use the /consumers endpoint to serve this request."
	}
	return 0, ""
}

// scopeFault checks the names in a scope list as v2.0 does. A consent page and a device
// code may name scopes of several resources; a token is for one (tokenFault).
func (m *Microsoft) scopeFault(scopes []string) (code string, number int, text string) {
	for _, s := range scopes {
		if oidcScope(s) {
			continue
		}
		prefix, name := m.splitScope(s)
		if !slices.Contains(m.Cloud.Resources, prefix) {
			return "invalid_resource", 500011, "The resource principal named " + strings.TrimSuffix(prefix, "/") + " was not found in the tenant."
		}
		if !slices.Contains([]string{"IMAP.AccessAsUser.All", "POP.AccessAsUser.All", "SMTP.Send", "Mail.Send", "Mail.ReadWrite", "User.Read", ".default"}, name) {
			return "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid. The scope " + s + " is not valid."
		}
	}
	return "", 0, ""
}

// tokenFault is scopeFault for a token: one resource.
func (m *Microsoft) tokenFault(scopes []string) (code string, number int, text string) {
	if code, number, text := m.scopeFault(scopes); number != 0 {
		return code, number, text
	}
	resource := ""
	for _, s := range scopes {
		prefix, _ := m.splitScope(s)
		switch {
		case oidcScope(s):
		case resource != "" && resource != prefix:
			return "invalid_request", 28000, "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope " + strings.Join(scopes, " ") + " is not valid."
		default:
			resource = prefix
		}
	}
	return "", 0, ""
}

func oidcScope(scope string) bool {
	return slices.Contains([]string{"openid", "profile", "email", "offline_access"}, scope)
}

// splitScope: a bare name means Graph.
func (m *Microsoft) splitScope(scope string) (prefix, name string) {
	i := strings.LastIndex(scope, "/")
	if i < 0 {
		return "https://graph.microsoft.com/", scope
	}
	return scope[:i+1], scope[i+1:]
}

// audienceOf is the resource that a token with these scopes is for.
func (m *Microsoft) audienceOf(scopes []string) string {
	for _, s := range scopes {
		if !oidcScope(s) {
			prefix, _ := m.splitScope(s)
			return prefix
		}
	}
	return "https://graph.microsoft.com/"
}

// redirectRegistered: for loopback names with http the port does not count, the path
// does. [::1] is not supported.
func redirectRegistered(registered []string, redirect string) bool {
	u, err := url.Parse(redirect)
	if err != nil {
		return false
	}
	for _, text := range registered {
		r, err := url.Parse(text)
		if err != nil {
			continue
		}
		// Only an empty path is the same as a slash.
		samePath := strings.TrimPrefix(u.Path, "/") == strings.TrimPrefix(r.Path, "/")
		if u.Scheme == r.Scheme && u.Hostname() == r.Hostname() && samePath && (u.Port() == r.Port() || loopbackName(r.Hostname()) && r.Scheme == "http") {
			return true
		}
	}
	return false
}

func loopbackName(host string) bool { return host == "localhost" || host == "127.0.0.1" }

func (m *Microsoft) authorize(w http.ResponseWriter, r *http.Request, tenant string) {
	q := r.URL.Query()
	client := m.Clients[q.Get("client_id")]
	scopes := strings.Fields(q.Get("scope"))
	if repeated := once(q); repeated != "" {
		m.refusePage(w, 9002313, "Invalid request. Request is malformed or invalid.")
		return
	}
	for _, name := range []string{"client_id", "response_type", "scope"} {
		if q.Get(name) == "" {
			m.refusePage(w, 900144, "The request body must contain the following parameter: '"+name+"'.")
			return
		}
	}
	switch {
	case client == nil:
		m.refusePage(w, 700016, "Application with identifier '"+q.Get("client_id")+"' was not found in the directory.")
		return
	case client.Disabled:
		m.refusePage(w, 7000112, "Application is disabled.")
		return
	case !redirectRegistered(client.Redirects, q.Get("redirect_uri")):
		m.refusePage(w, 50011, "The redirect URI '"+q.Get("redirect_uri")+"' specified in the request does not match the redirect URIs configured for the application.")
		return
	}
	if number, text := m.audience(client, tenant, true); number != 0 {
		m.refusePage(w, number, text)
		return
	}
	if code, number, text := m.scopeFault(scopes); number != 0 {
		m.refuseBack(w, r, code, number, text)
		return
	}
	m.person(w, r, q, tenant, scopes)
}

func (m *Microsoft) person(w http.ResponseWriter, r *http.Request, q url.Values, tenant string, scopes []string) {
	name := q.Get("login_hint")
	if name == "" {
		name = m.AtBrowser
	}
	p := m.People[name]
	if p == nil {
		page(w, 200, "This username may be incorrect. Make sure you typed it correctly.")
		return
	}
	if number, text := m.wrongDoor(p, tenant, name); number != 0 {
		m.refusePage(w, number, text)
		return
	}
	switch {
	case p.NoConsent && !p.AdminConsented:
		// A page first; this is its way back to the application.
		m.refuseBack(w, r, "access_denied", 90094, "An administrator has to grant permission for this application.")
	case p.Unmanaged:
		m.refusePage(w, 53000, "Device is not in required device state. Conditional Access policy requires a compliant device.")
	case p.Declines:
		m.refuseBack(w, r, "access_denied", 65004, "User declined to consent to access the app.")
	default:
		m.consent(q.Get("client_id"), name, scopes)
		text := "M.C5" + random(80)
		m.codes[text] = &code{client: q.Get("client_id"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), method: q.Get("code_challenge_method"),
			nonce: q.Get("nonce"), scopes: scopes, person: name, tenant: p.Tenant, offline: slices.Contains(scopes, "offline_access"), issued: m.clock()}
		back(w, r, q.Get("redirect_uri"), url.Values{"code": {text}, "state": q["state"], "session_state": {"5e551011"}})
	}
}

// consent notes what a person has agreed to; it adds to what there was.
func (m *Microsoft) consent(client, person string, scopes []string) {
	key := [2]string{client, person}
	m.consents[key] = append(m.consents[key], scopes...)
}

// Withdraw takes back what a person consented to, as an administrator or the page of
// consents does.
func (m *Microsoft) Withdraw(client, person string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.consents, [2]string{client, person})
}

// wrongDoor: personal and work accounts have different doors.
func (m *Microsoft) wrongDoor(p *MicrosoftPerson, tenant, name string) (number int, text string) {
	id := m.Tenants[tenant]
	personal := p.Tenant == ConsumerTenant
	if tenant == "common" || tenant == "organizations" && !personal || id == p.Tenant {
		return 0, ""
	}
	return 50020, "User account '" + name + "' from identity provider 'live.com' does not exist in tenant and cannot access the application. The account needs to be added as an external user in the tenant first."
}

// form reads a POST body, or answers.
func (m *Microsoft) form(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		m.refuseJSON(w, 400, "invalid_request", 900561, "The endpoint only accepts POST requests. Received a GET request.")
		return false
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.ParseForm() != nil || once(r.PostForm) != "" {
		m.refuseJSON(w, 400, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid.")
		return false
	}
	return true
}

func (m *Microsoft) client(w http.ResponseWriter, r *http.Request, tenant string) (string, *MicrosoftClient) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	client := m.Clients[id]
	switch {
	case id == "":
		m.refuseJSON(w, 400, "invalid_request", 900144, "The request body must contain the following parameter: 'client_id'.")
	case client == nil:
		m.refuseJSON(w, 400, "unauthorized_client", 700016, "Application with identifier '"+id+"' was not found in the directory.")
	case client.Disabled:
		m.refuseJSON(w, 400, "unauthorized_client", 7000112, "Application is disabled.")
	case r.PostForm.Get("client_assertion") != "" && len(client.Certificates) > 0:
		if number, text := m.assertionFault(r.PostForm, id, tenant, client); number != 0 {
			m.refuseJSON(w, 401, "invalid_client", number, text)
			return "", nil
		}
		return id, client
	case client.Secret == "" && (secret != "" || r.PostForm.Get("client_assertion") != ""):
		m.refuseJSON(w, 401, "invalid_client", 700025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.")
	case client.Secret != "" && secret == "":
		m.refuseJSON(w, 401, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case client.Secret != secret:
		m.refuseJSON(w, 401, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.")
	case client.Expired:
		m.refuseJSON(w, 401, "invalid_client", 7000222, "The provided client secret keys are expired.")
	default:
		if number, text := m.audience(client, tenant, false); number != 0 {
			m.refuseJSON(w, 400, "unauthorized_client", number, text)
			return "", nil
		}
		return id, client
	}
	return "", nil
}
