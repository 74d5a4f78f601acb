package fakeidp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// GoogleMail is the restricted scope that reads and sends by IMAP, POP and SMTP;
// GmailSend the sensitive one that only sends, by the API.
const (
	GoogleMail = "https://mail.google.com/"
	GmailSend  = "https://www.googleapis.com/auth/gmail.send"
)

// A GoogleClient is an OAuth client of a Google Cloud project.
type GoogleClient struct {
	Secret string
	Type   string // "desktop" or "tv"
	// Testing: the consent screen's publishing status. Only TestUsers may sign in,
	// and refresh tokens end after 7 days.
	Testing   bool
	TestUsers []string
	// Internal names the one Workspace domain whose people may use the client.
	Internal string
	Deleted  bool
}

// A GooglePerson is who sits at the browser.
type GooglePerson struct {
	Workspace string // domain, empty for a consumer account
	// Blocked: the Workspace administrator has restricted third-party access.
	Blocked  bool
	Declines bool // clicks Cancel
	// Reauth: the administrator's session length has run out.
	Reauth bool
	// PasswordChanged: at that time every refresh token with a mail scope ended.
	PasswordChanged time.Time
	// Seen: consented before. The documentation of desktop apps says that they get a
	// refresh token every time; programs report that without prompt=consent they do
	// not. The fake holds with the reports.
	Seen bool
	// Unticks are scopes that the person leaves out on the consent page.
	Unticks []string
}

// Google plays accounts.google.com and oauth2.googleapis.com.
type Google struct {
	*book
	Clients map[string]*GoogleClient
	People  map[string]*GooglePerson
	// Machines are service accounts, by address.
	Machines map[string]*ServiceAccount
	// AtBrowser signs in when the request has no login_hint.
	AtBrowser string
	// Lifetime of access tokens in seconds; Google says 3599.
	Lifetime int
}

// NewGoogle makes an empty Google.
func NewGoogle(clock func() time.Time) *Google {
	return &Google{book: newBook(clock), Clients: map[string]*GoogleClient{}, People: map[string]*GooglePerson{}, Machines: map[string]*ServiceAccount{}, Lifetime: 3599}
}

// Hosts implements Provider.
func (g *Google) Hosts() []string {
	return []string{"accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com", "openidconnect.googleapis.com"}
}

// Refusals implements Provider.
func (g *Google) Refusals() []string {
	return []string{
		"repeated-parameter", "unknown-client", "deleted-client", "redirect-mismatch", "oob", "response-type", "scope-missing", "scope-unknown",
		"challenge-method", "challenge-length", "not-test-user", "org-internal", "admin-policy", "declined",
		"method", "content-type", "client-missing", "secret-missing", "secret-wrong", "grant-type", "code-unknown", "code-redirect", "verifier-missing", "verifier-wrong",
		"refresh-revoked", "refresh-password", "refresh-testing-7-days", "refresh-idle-6-months", "refresh-other-client", "refresh-rapt", "refresh-scope",
		"device-client-type", "device-scope", "device-pending", "device-slow-down", "device-denied", "device-expired", "revoke-unknown",
	}
}

// ServeHTTP implements http.Handler for all hosts.
func (g *Google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	host, _, _ := strings.Cut(r.Host, ":")
	switch host + r.URL.Path {
	case "accounts.google.com/.well-known/openid-configuration":
		g.metadata(w)
	case "accounts.google.com/o/oauth2/v2/auth":
		g.authorize(w, r)
	case "oauth2.googleapis.com/token":
		g.token(w, r)
	case "oauth2.googleapis.com/device/code":
		g.deviceCode(w, r)
	case "oauth2.googleapis.com/revoke":
		g.revoke(w, r)
	case "www.googleapis.com/oauth2/v3/certs":
		g.keys(w)
	default:
		http.NotFound(w, r)
	}
}

func (g *Google) metadata(w http.ResponseWriter) {
	answer(w, http.StatusOK, map[string]any{
		"issuer":                                googleIssuer,
		"authorization_endpoint":                "https://accounts.google.com/o/oauth2/v2/auth",
		"device_authorization_endpoint":         "https://oauth2.googleapis.com/device/code",
		"token_endpoint":                        "https://oauth2.googleapis.com/token",
		"userinfo_endpoint":                     "https://openidconnect.googleapis.com/v1/userinfo",
		"revocation_endpoint":                   "https://oauth2.googleapis.com/revoke",
		"jwks_uri":                              "https://www.googleapis.com/oauth2/v3/certs",
		"response_types_supported":              []string{"code", "token", "id_token", "code token", "code id_token", "token id_token", "code token id_token", "none"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "email", "profile"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"code_challenge_methods_supported":      []string{"plain", "S256"},
		"grant_types_supported": []string{"authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code",
			"urn:ietf:params:oauth:grant-type:jwt-bearer"},
	})
}

// authorize is the authorization endpoint; everything but the person's own refusal is
// shown as a page, as Google does.
func (g *Google) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	client := g.Clients[q.Get("client_id")]
	scopes := strings.Fields(q.Get("scope"))
	blocked := func(name string, status int, text string) {
		g.refuse(name)
		page(w, status, text)
	}
	switch {
	case once(q) != "":
		blocked("repeated-parameter", 400, "Error 400: invalid_request: OAuth 2 parameters can only have a single value: "+once(q))
	case client == nil:
		blocked("unknown-client", 401, "Error 401: invalid_client: The OAuth client was not found.")
	case client.Deleted:
		blocked("deleted-client", 401, "Error 401: deleted_client: The OAuth client was deleted.")
	case strings.HasPrefix(q.Get("redirect_uri"), "urn:ietf:wg:oauth:2.0:oob"):
		blocked("oob", 400, "Error 400: invalid_request: The out-of-band (OOB) flow has been blocked in order to keep users secure.")
	case client.Type != "desktop" || !googleLoopback(q.Get("redirect_uri")):
		blocked("redirect-mismatch", 400, "Error 400: redirect_uri_mismatch")
	case q.Get("response_type") != "code":
		blocked("response-type", 400, "Error 400: invalid_request: Required parameter is missing: response_type")
	case len(scopes) == 0:
		blocked("scope-missing", 400, "Error 400: invalid_request: Missing required parameter: scope")
	case !subset(scopes, googleScopes()):
		blocked("scope-unknown", 400, "Error 400: invalid_scope: Some requested scopes were invalid.")
	case q.Get("code_challenge") != "" && !slices.Contains([]string{"S256", "plain", ""}, q.Get("code_challenge_method")):
		blocked("challenge-method", 400, "Error 400: invalid_request: Invalid value for code_challenge_method")
	case q.Get("code_challenge") != "" && (len(q.Get("code_challenge")) < 43 || len(q.Get("code_challenge")) > 128):
		blocked("challenge-length", 400, "Error 400: invalid_request: code_challenge must be 43 to 128 characters")
	default:
		g.person(w, r, q, client, scopes)
	}
}

const googleIssuer = "https://accounts.google.com"

// granted names scopes as Google's answers do: email and profile come back under
// their long names.
func granted(scopes []string) []string {
	var out []string
	for _, s := range scopes {
		if s == "email" || s == "profile" {
			s = "https://www.googleapis.com/auth/userinfo." + s
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func mailScope(scopes []string) bool {
	return slices.Contains(scopes, GoogleMail) || slices.Contains(scopes, GmailSend)
}

// deviceScopes is the list that the documentation of the device flow has; mail is not
// on it.
func deviceScopes() []string {
	return []string{"openid", "email", "profile", "https://www.googleapis.com/auth/drive.appdata", "https://www.googleapis.com/auth/drive.file",
		"https://www.googleapis.com/auth/youtube", "https://www.googleapis.com/auth/youtube.readonly"}
}

func googleScopes() []string {
	return []string{"openid", "email", "profile", GoogleMail, GmailSend,
		"https://www.googleapis.com/auth/userinfo.email", "https://www.googleapis.com/auth/userinfo.profile"}
}

// googleLoopback accepts what a desktop client may redirect to: http on a loopback
// literal or localhost, any port.
func googleLoopback(redirect string) bool {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.Fragment != "" || u.User != nil {
		return false
	}
	return slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())
}

// person is what happens after the request was found in order.
func (g *Google) person(w http.ResponseWriter, r *http.Request, q url.Values, client *GoogleClient, scopes []string) {
	name := q.Get("login_hint")
	if name == "" {
		name = g.AtBrowser
	}
	p := g.People[name]
	switch {
	case p == nil:
		page(w, 200, "Couldn’t find your Google Account")
	case client.Internal != "" && client.Internal != p.Workspace:
		g.refuse("org-internal")
		page(w, 403, "Error 403: org_internal: This client is restricted to users within its organization.")
	case p.Blocked:
		g.refuse("admin-policy")
		page(w, 400, "Error 400: admin_policy_enforced: Access to your account data is restricted by policies within your organization.")
	case client.Testing && !slices.Contains(client.TestUsers, name):
		g.refuse("not-test-user")
		page(w, 403, "Error 403: access_denied: The app is currently being tested, and can only be accessed by developer-approved testers.")
	case p.Declines:
		g.refuse("declined")
		back(w, r, q.Get("redirect_uri"), url.Values{"error": {"access_denied"}, "state": q["state"], "iss": {googleIssuer}})
	default:
		scopes = slices.DeleteFunc(granted(scopes), func(s string) bool { return slices.Contains(p.Unticks, s) })
		text := "4/0A" + random(32)
		offline := q.Get("access_type") == "offline" && (!p.Seen || strings.Contains(q.Get("prompt"), "consent"))
		p.Seen = true
		g.codes[text] = &code{
			client: q.Get("client_id"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), method: q.Get("code_challenge_method"),
			nonce: q.Get("nonce"), scopes: scopes, person: name, offline: offline, issued: g.clock(),
		}
		// Google sends iss (RFC 9207) since 2026 and does not say so in its metadata.
		back(w, r, q.Get("redirect_uri"), url.Values{"state": q["state"], "iss": {googleIssuer}, "code": {text}, "scope": {strings.Join(scopes, " ")}, "authuser": {"0"}, "prompt": {"consent"}})
	}
}

// refuseJSON answers with Google's error form.
func (g *Google) refuseJSON(w http.ResponseWriter, name string, status int, code, description string) {
	g.refuse(name)
	body := map[string]string{"error": code}
	if description != "" {
		body["error_description"] = description
	}
	if name == "refresh-rapt" {
		body["error_subtype"] = "invalid_rapt"
	}
	answer(w, status, body)
}

// form reads a POST body, or answers.
func (g *Google) form(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		g.refuseJSON(w, "method", 405, "invalid_request", "Method not allowed")
		return false
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.ParseForm() != nil {
		g.refuseJSON(w, "content-type", 400, "invalid_request", "Bad Request")
		return false
	}
	if repeated := once(r.PostForm); repeated != "" {
		g.refuseJSON(w, "repeated-parameter", 400, "invalid_request", "Parameter not allowed more than once: "+repeated)
		return false
	}
	return true
}

// client authenticates; a desktop client has a secret and must send it.
func (g *Google) client(w http.ResponseWriter, r *http.Request) (string, *GoogleClient) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok {
		id, secret = user, pass
	}
	client := g.Clients[id]
	switch {
	case id == "":
		g.refuseJSON(w, "client-missing", 400, "invalid_request", "Could not determine client ID from request.")
	case client == nil:
		g.refuseJSON(w, "unknown-client", 401, "invalid_client", "The OAuth client was not found.")
	case client.Deleted:
		g.refuseJSON(w, "deleted-client", 401, "deleted_client", "The OAuth client was deleted.")
	case secret == "":
		g.refuseJSON(w, "secret-missing", 400, "invalid_request", "client_secret is missing.")
	case secret != client.Secret:
		g.refuseJSON(w, "secret-wrong", 401, "invalid_client", "The provided client secret is invalid.")
	default:
		return id, client
	}
	return "", nil
}

func (g *Google) token(w http.ResponseWriter, r *http.Request) {
	if !g.form(w, r) {
		return
	}
	if r.PostForm.Get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		g.assertion(w, r.PostForm) // the assertion is who asks: there is no client
		return
	}
	id, client := g.client(w, r)
	if client == nil {
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		g.redeem(w, r.PostForm, id)
	case "refresh_token":
		g.renew(w, r.PostForm, id, client)
	case "urn:ietf:params:oauth:grant-type:device_code":
		g.poll(w, r.PostForm, id)
	default:
		g.refuseJSON(w, "grant-type", 400, "unsupported_grant_type", "Invalid grant_type: "+r.PostForm.Get("grant_type"))
	}
}

func (g *Google) redeem(w http.ResponseWriter, form url.Values, id string) {
	c := g.codes[form.Get("code")]
	switch {
	case c == nil || c.used || c.client != id || g.clock().Sub(c.issued) > 10*time.Minute:
		g.refuseJSON(w, "code-unknown", 400, "invalid_grant", "Bad Request")
	case c.redirect != form.Get("redirect_uri"):
		g.refuseJSON(w, "code-redirect", 400, "redirect_uri_mismatch", "Bad Request")
	case c.challenge != "" && form.Get("code_verifier") == "":
		g.refuseJSON(w, "verifier-missing", 400, "invalid_grant", "Missing code verifier.")
	case c.challenge != "" && !pkceMatches(c, form.Get("code_verifier")):
		g.refuseJSON(w, "verifier-wrong", 400, "invalid_grant", "Invalid code verifier.")
	default:
		c.used = true
		now := g.clock()
		g.issue(w, &grant{client: id, person: c.person, scopes: c.scopes, signedIn: now, used: now}, c.scopes, c.offline, c.nonce)
	}
}

// renew is a refresh. Google does not rotate: the answer has no refresh token.
func (g *Google) renew(w http.ResponseWriter, form url.Values, id string, client *GoogleClient) {
	found := g.refresh[form.Get("refresh_token")]
	scopes := granted(strings.Fields(form.Get("scope")))
	switch {
	case found == nil || found.revoked:
		g.refuseJSON(w, "refresh-revoked", 400, "invalid_grant", "Token has been expired or revoked.")
	case found.client != id:
		g.refuseJSON(w, "refresh-other-client", 401, "unauthorized_client", "Unauthorized")
	case client.Testing && g.clock().Sub(found.signedIn) > 7*24*time.Hour:
		g.refuseJSON(w, "refresh-testing-7-days", 400, "invalid_grant", "Token has been expired or revoked.")
	case g.People[found.person].PasswordChanged.After(found.signedIn) && mailScope(found.scopes):
		g.refuseJSON(w, "refresh-password", 400, "invalid_grant", "Token has been expired or revoked.")
	case g.clock().Sub(found.used) > 182*24*time.Hour:
		g.refuseJSON(w, "refresh-idle-6-months", 400, "invalid_grant", "Token has been expired or revoked.")
	case g.People[found.person].Reauth:
		g.refuseJSON(w, "refresh-rapt", 400, "invalid_grant", "reauth related error (invalid_rapt)")
	case !subset(scopes, found.scopes):
		g.refuseJSON(w, "refresh-scope", 400, "invalid_scope", "Bad Request")
	default:
		if len(scopes) == 0 {
			scopes = found.scopes
		}
		found.used = g.clock()
		g.issue(w, found, scopes, false, "")
	}
}

// issue answers with tokens; offline adds a refresh token.
func (g *Google) issue(w http.ResponseWriter, to *grant, scopes []string, offline bool, nonce string) {
	now := g.clock()
	token := "ya29." + random(150)
	g.access[token] = &access{person: to.person, client: to.client, scopes: scopes, grant: to, expires: now.Add(time.Duration(g.Lifetime) * time.Second)}
	body := map[string]any{"access_token": token, "expires_in": g.Lifetime, "scope": strings.Join(scopes, " "), "token_type": "Bearer"}
	if offline {
		refresh := "1//0" + random(60)
		g.refresh[refresh] = to
		body["refresh_token"] = refresh
		if g.Clients[to.client].Testing {
			body["refresh_token_expires_in"] = 604799
		}
	}
	if slices.Contains(scopes, "openid") {
		claims := map[string]any{"iss": googleIssuer, "aud": to.client, "azp": to.client, "sub": "11" + to.person, "email": to.person,
			"email_verified": true, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		if nonce != "" {
			claims["nonce"] = nonce
		}
		body["id_token"] = g.idToken(claims)
	}
	answer(w, http.StatusOK, body)
}

// deviceCode refuses mail scopes: the device flow has an allow-list of its own.
func (g *Google) deviceCode(w http.ResponseWriter, r *http.Request) {
	if !g.form(w, r) {
		return
	}
	client := g.Clients[r.PostForm.Get("client_id")]
	scopes := strings.Fields(r.PostForm.Get("scope"))
	switch {
	case client == nil:
		g.refuseJSON(w, "unknown-client", 401, "invalid_client", "The OAuth client was not found.")
	case client.Type != "tv":
		g.refuseJSON(w, "device-client-type", 401, "invalid_client", "Invalid client type.")
	case len(scopes) == 0:
		g.refuseJSON(w, "scope-missing", 400, "invalid_request", "Missing required parameter: scope")
	case !subset(scopes, deviceScopes()):
		bad := slices.IndexFunc(scopes, func(s string) bool { return !slices.Contains(deviceScopes(), s) })
		g.refuseJSON(w, "device-scope", 400, "invalid_scope", "Invalid device flow scope: "+scopes[bad])
	default:
		text := "AH-1Ng" + random(40)
		g.devices[text] = &device{client: r.PostForm.Get("client_id"), scopes: scopes, user: "ABCD-EFGH", issued: g.clock(), asked: g.clock(), person: g.AtBrowser}
		answer(w, http.StatusOK, map[string]any{"device_code": text, "user_code": "ABCD-EFGH", "verification_url": "https://www.google.com/device", "expires_in": 1800, "interval": 5})
	}
}

// Decide lets the person at the browser answer all pending device codes.
func (b *book) Decide(person string, allow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.devices {
		if !d.decided {
			d.decided, d.refused, d.person = true, !allow, person
		}
	}
}

func (g *Google) poll(w http.ResponseWriter, form url.Values, id string) {
	d := g.devices[form.Get("device_code")]
	now := g.clock()
	switch {
	case d == nil || d.used || d.client != id:
		g.refuseJSON(w, "code-unknown", 400, "invalid_grant", "Malformed auth code.")
	case now.Sub(d.issued) > 30*time.Minute:
		g.refuseJSON(w, "device-expired", 400, "expired_token", "")
	case d.decided && d.refused:
		g.refuseJSON(w, "device-denied", 403, "access_denied", "Forbidden")
	case !d.decided && now.Sub(d.asked) < 4*time.Second:
		d.asked = now
		g.refuseJSON(w, "device-slow-down", 403, "slow_down", "Forbidden")
	case !d.decided:
		d.asked = now
		g.refuseJSON(w, "device-pending", 428, "authorization_pending", "Precondition Required")
	default:
		d.used = true
		g.issue(w, &grant{client: id, person: d.person, scopes: d.scopes, signedIn: now, used: now}, d.scopes, true, "")
	}
}

// revoke takes an access or refresh token and ends the whole grant.
func (g *Google) revoke(w http.ResponseWriter, r *http.Request) {
	if !g.form(w, r) {
		return
	}
	token := r.PostForm.Get("token")
	found := g.refresh[token]
	if a := g.access[token]; found == nil && a != nil {
		found = a.grant
	}
	if found == nil || found.revoked {
		g.refuseJSON(w, "revoke-unknown", 400, "invalid_token", "Token expired or revoked")
		return
	}
	found.revoked = true
	answer(w, http.StatusOK, map[string]any{})
}
