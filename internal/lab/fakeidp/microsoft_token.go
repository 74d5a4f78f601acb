package fakeidp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (m *Microsoft) token(w http.ResponseWriter, r *http.Request, tenant string) {
	if !m.form(w, r) {
		return
	}
	id, client := m.client(w, r, tenant)
	if client == nil {
		return
	}
	if r.PostForm.Get("grant_type") == "client_credentials" {
		m.app(w, r.PostForm, id, tenant, client)
		return
	}
	if code, number, text := m.tokenFault(strings.Fields(r.PostForm.Get("scope"))); number != 0 {
		m.refuseJSON(w, 400, code, number, text)
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		m.redeem(w, r.PostForm, id)
	case "refresh_token":
		m.renew(w, r.PostForm, id, tenant)
	case "urn:ietf:params:oauth:grant-type:device_code":
		m.poll(w, r.PostForm, id)
	default:
		m.refuseJSON(w, 400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '"+r.PostForm.Get("grant_type")+"'.")
	}
}

func (m *Microsoft) redeem(w http.ResponseWriter, form url.Values, id string) {
	c := m.codes[form.Get("code")]
	scopes := strings.Fields(form.Get("scope"))
	if len(scopes) == 0 && c != nil {
		scopes = c.scopes
	}
	code, number, text := m.tokenFault(scopes)
	switch {
	case c == nil || c.client != id:
		m.refuseJSON(w, 400, "invalid_grant", 70000, "The provided value for the 'code' parameter is not valid.")
	case c.used:
		m.refuseJSON(w, 400, "invalid_grant", 54005, "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.")
	case m.clock().Sub(c.issued) > 10*time.Minute:
		m.refuseJSON(w, 400, "invalid_grant", 70008, "The provided authorization code or refresh token has expired due to inactivity.")
	case c.redirect != form.Get("redirect_uri"):
		m.refuseJSON(w, 400, "invalid_client", 500112, "The reply address does not match the reply address provided when requesting Authorization code.")
	case c.challenge != "" && !pkceMatches(c, form.Get("code_verifier")):
		m.refuseJSON(w, 400, "invalid_grant", 501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
	case number != 0:
		// The documentation says that the first resource counts; reports say 28000.
		m.refuseJSON(w, 400, code, number, text)
	case !subset(scopes, c.scopes):
		m.refuseJSON(w, 400, "invalid_grant", 70000, "The request was denied because one or more scopes requested are unauthorized or expired. The user must first sign in and grant the client application access to the requested scope.")
	default:
		c.used = true
		now := m.clock()
		m.issue(w, &grant{client: id, person: c.person, tenant: c.tenant, scopes: c.scopes, signedIn: now, used: now}, scopes, c.nonce)
	}
}

// renew is a refresh: a new refresh token each time, the old one stays good; the
// token is bound to user and client and not to the resource.
func (m *Microsoft) renew(w http.ResponseWriter, form url.Values, id, tenant string) {
	found := m.refresh[form.Get("refresh_token")]
	if found == nil || found.client != id || found.revoked {
		m.refuseJSON(w, 400, "invalid_grant", 70000, "The provided value for the 'refresh_token' parameter is not valid.")
		return
	}
	p := m.People[found.person]
	now := m.clock()
	number, text := m.wrongDoor(p, tenant, found.person)
	scopes := strings.Fields(form.Get("scope"))
	if len(scopes) == 0 {
		scopes = found.scopes
	}
	switch {
	case number != 0:
		m.refuseJSON(w, 400, "invalid_grant", number, text)
	case now.Sub(found.used) > 90*24*time.Hour:
		m.refuseJSON(w, 400, "invalid_grant", 700082, "The refresh token has expired due to inactivity. The token was inactive for 90.00:00:00.")
	case p.PasswordChanged.After(found.signedIn):
		m.refuseJSON(w, 400, "invalid_grant", 50173, "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.")
	case p.SignInFrequency > 0 && now.Sub(found.signedIn) > p.SignInFrequency:
		m.refuseJSON(w, 400, "invalid_grant", 70043, "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.")
	case p.MFA:
		m.refuseJSON(w, 400, "interaction_required", 50076, "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication.")
	case p.Unmanaged:
		m.refuseJSON(w, 400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.")
	case !subset(scopes, m.consents[[2]string{id, found.person}]) && !p.AdminConsented:
		m.refuseJSON(w, 400, "invalid_grant", 65001, "The user or administrator has not consented to use the application with ID '"+id+"'. Send an interactive authorization request for this user and resource.")
	default:
		found.used = now
		m.issue(w, found, scopes, "")
	}
}

// issue answers with tokens of the kinds that the two worlds have: long JWTs for work
// and school, opaque ones for personal accounts.
func (m *Microsoft) issue(w http.ResponseWriter, from *grant, scopes []string, nonce string) {
	now := m.clock()
	to := *from
	lifetime := 3599
	token := "EwB4A8l6BAAU" + random(700)
	if from.tenant != ConsumerTenant {
		lifetime = 4521
		token = m.sign(map[string]any{"aud": m.audienceOf(scopes), "scp": strings.Join(scopes, " "), "tid": from.tenant, "upn": from.person, "jti": random(16), "filler": random(900)})
	}
	if m.Lifetime > 0 {
		lifetime = m.Lifetime
	}
	m.access[token] = &access{person: from.person, client: from.client, scopes: scopes, grant: &to, expires: now.Add(time.Duration(lifetime) * time.Second)}
	body := map[string]any{"token_type": "Bearer", "scope": strings.Join(shown(scopes), " "), "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}
	if slices.Contains(scopes, "offline_access") || slices.Contains(from.scopes, "offline_access") {
		refresh := "1.AX" + random(400)
		m.refresh[refresh] = &to
		body["refresh_token"] = refresh
	}
	if slices.Contains(scopes, "openid") {
		claims := map[string]any{"iss": "https://" + m.Cloud.Login + "/" + from.tenant + "/v2.0", "aud": from.client, "sub": "sub-" + from.person, "tid": from.tenant,
			"preferred_username": from.person, "ver": "2.0", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		if slices.Contains(scopes, "email") {
			claims["email"] = from.person
		}
		if nonce != "" {
			claims["nonce"] = nonce
		}
		body["id_token"] = m.idToken(claims)
	}
	answer(w, http.StatusOK, body)
}

// shown: offline_access is never repeated in the answer.
func shown(scopes []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "offline_access" })
}

func (m *Microsoft) deviceCode(w http.ResponseWriter, r *http.Request, tenant string) {
	if !m.form(w, r) {
		return
	}
	client := m.Clients[r.PostForm.Get("client_id")]
	scopes := strings.Fields(r.PostForm.Get("scope"))
	code, number, text := m.scopeFault(scopes)
	switch {
	case client == nil:
		m.refuseJSON(w, 400, "unauthorized_client", 700016, "Application with identifier '"+r.PostForm.Get("client_id")+"' was not found in the directory.")
	case len(scopes) == 0:
		m.refuseJSON(w, 400, "invalid_request", 900144, "The request body must contain the following parameter: 'scope'.")
	case number != 0:
		m.refuseJSON(w, 400, code, number, text)
	default:
		if number, text := m.audience(client, tenant, false); number != 0 {
			m.refuseJSON(w, 400, "unauthorized_client", number, text)
			return
		}
		device := &device{client: r.PostForm.Get("client_id"), scopes: scopes, user: "E7KQ9X2AB", issued: m.clock(), asked: m.clock(), tenant: tenant}
		text := "EAQABAAEAAAA" + random(80)
		m.devices[text] = device
		answer(w, http.StatusOK, map[string]any{"user_code": device.user, "device_code": text, "verification_uri": "https://microsoft.com/devicelogin",
			"expires_in": 900, "interval": m.Interval, "message": "To sign in, use a web browser to open the page https://microsoft.com/devicelogin and enter the code " + device.user + " to authenticate."})
	}
}

// poll is where "Allow public client flows" is looked at, and the person's policies.
func (m *Microsoft) poll(w http.ResponseWriter, form url.Values, id string) {
	d := m.devices[form.Get("device_code")]
	now := m.clock()
	switch {
	case m.Clients[id].NoPublicFlows:
		m.refuseJSON(w, 401, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case d == nil || d.used || d.client != id:
		m.refuseJSON(w, 400, "bad_verification_code", 70018, "Invalid verification code due to User typing in wrong user code for device code flow.")
	case now.Sub(d.issued) > 15*time.Minute:
		m.refuseJSON(w, 400, "expired_token", 70020, "The provided value for the input parameter 'device_code' is not valid. This device code has expired.")
	case !d.decided:
		m.refuseJSON(w, 400, "authorization_pending", 70016, "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	case d.refused:
		m.refuseJSON(w, 400, "authorization_declined", 50199, "The end user denied the authorization request.")
	case m.People[d.person].NoDevice:
		m.refuseJSON(w, 400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.")
	default:
		p := m.People[d.person]
		if number, text := m.wrongDoor(p, d.tenant, d.person); number != 0 {
			m.refuseJSON(w, 400, "invalid_grant", number, text)
			return
		}
		if code, number, text := m.tokenFault(d.scopes); number != 0 {
			m.refuseJSON(w, 400, code, number, text) // asked for two resources, said only now
			return
		}
		d.used = true
		m.consent(id, d.person, d.scopes)
		m.issue(w, &grant{client: id, person: d.person, tenant: p.Tenant, scopes: d.scopes, signedIn: now, used: now}, d.scopes, "")
	}
}
