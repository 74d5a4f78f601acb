package fakeidp

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A ServiceAccount is a machine of a Google Cloud project, known by its address.
type ServiceAccount struct {
	Keys     map[string]crypto.PublicKey // by key id
	Disabled bool
	// Delegated are the scopes that Workspaces have given it for their people
	// (domain-wide delegation), by domain.
	Delegated map[string][]string
}

// MachineRefusals lists the names of the refusals of machines.
func (g *Google) MachineRefusals() []string {
	return []string{"assertion-malformed", "assertion-account", "assertion-disabled", "assertion-signature", "assertion-audience", "assertion-time",
		"assertion-subject", "assertion-delegation", "assertion-scope"}
}

// MachineRefusals lists the AADSTS numbers of the refusals of apps without a user.
func (m *Microsoft) MachineRefusals() []string {
	return []string{"50059", "1002012", "700021", "700023", "700024", "700027"}
}

// claims is what both check in an assertion.
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Scope    string `json:"scope"`
	ID       string `json:"jti"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	Before   int64  `json:"nbf"`
}

// peek reads an assertion without believing it.
func peek(text string, algorithms ...jose.SignatureAlgorithm) (*jose.JSONWebSignature, claims, bool) {
	var c claims
	signed, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil || json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &c) != nil {
		return nil, c, false
	}
	return signed, c, true
}

// assertion is the JWT bearer grant of a service account, as the page "Using OAuth 2.0
// for server to server applications" describes it. Only RS256 is taken.
func (g *Google) assertion(w http.ResponseWriter, form url.Values) {
	signed, c, ok := peek(form.Get("assertion"), jose.RS256)
	if !ok {
		g.refuseJSON(w, "assertion-malformed", 400, "invalid_grant", "Bad Request")
		return
	}
	account := g.Machines[c.Issuer]
	if account == nil {
		g.refuseJSON(w, "assertion-account", 400, "invalid_grant", "Invalid grant: account not found")
		return
	}
	now, scopes := g.clock(), strings.Fields(c.Scope)
	issued, expires := time.Unix(c.Issued, 0), time.Unix(c.Expires, 0)
	_, domain, _ := strings.Cut(c.Subject, "@")
	_, err := signed.Verify(account.Keys[signed.Signatures[0].Header.KeyID])
	switch {
	case account.Disabled:
		g.refuseJSON(w, "assertion-disabled", 401, "disabled_client", "The OAuth client was disabled.")
	case err != nil:
		g.refuseJSON(w, "assertion-signature", 400, "invalid_grant", "Invalid JWT Signature.")
	case c.Audience != "https://oauth2.googleapis.com/token":
		g.refuseJSON(w, "assertion-audience", 400, "invalid_grant", "Invalid JWT: Failed audience check.")
	case issued.After(now.Add(5 * time.Minute)), expires.Before(now), expires.Sub(issued) > time.Hour, c.Issued == 0:
		g.refuseJSON(w, "assertion-time", 400, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	case len(scopes) == 0 || !subset(scopes, googleScopes()):
		g.refuseJSON(w, "assertion-scope", 400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	case g.People[c.Subject] == nil || g.People[c.Subject].Workspace != domain:
		g.refuseJSON(w, "assertion-subject", 400, "invalid_grant", "Invalid email or User ID")
	case !subset(scopes, account.Delegated[domain]):
		g.refuseJSON(w, "assertion-delegation", 401, "unauthorized_client", "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.")
	default:
		token := "ya29.c." + random(180)
		g.access[token] = &access{person: c.Subject, client: c.Issuer, scopes: scopes, expires: now.Add(time.Duration(g.Lifetime) * time.Second)}
		// No refresh token, and no scope: it is as it was asked for.
		answer(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": g.Lifetime, "token_type": "Bearer"})
	}
}

// assertionFault checks the client assertion of an app, as the page on certificate
// credentials describes it: PS256 or RS256, the certificate named by its digest.
func (m *Microsoft) assertionFault(form url.Values, id, tenant string, client *MicrosoftClient) (number int, text string) {
	signed, c, ok := peek(form.Get("client_assertion"), jose.PS256, jose.RS256)
	if !ok || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return 700027, "The certificate with identifier used to sign the client assertion is not registered on application."
	}
	thumb, _ := signed.Signatures[0].Header.ExtraHeaders["x5t#S256"].(string)
	i := slices.IndexFunc(client.Certificates, func(cert *x509.Certificate) bool {
		sum := sha256.Sum256(cert.Raw)
		return base64.RawURLEncoding.EncodeToString(sum[:]) == thumb
	})
	now, base := m.clock(), "https://"+m.Cloud.Login+"/"+tenant
	switch {
	case i < 0:
		return 700027, "The certificate with identifier used to sign the client assertion is not registered on application."
	case func() bool { _, err := signed.Verify(client.Certificates[i].PublicKey); return err != nil }():
		return 700027, "Client assertion failed signature validation."
	case c.Issuer != id || c.Subject != id:
		return 700021, "Client assertion application identifier doesn't match 'client_id' parameter."
	case !slices.Contains([]string{base + "/oauth2/v2.0/token", base + "/v2.0"}, c.Audience):
		return 700023, "Client assertion audience claim does not match Realm issuer."
	case now.Before(time.Unix(c.Before, 0).Add(-5 * time.Minute)), now.After(time.Unix(c.Expires, 0)), c.Expires-c.Before > 24*3600, c.ID == "":
		return 700024, "Client assertion is not within its valid time range."
	}
	return 0, ""
}

// app is the client credentials grant.
func (m *Microsoft) app(w http.ResponseWriter, form url.Values, id, tenant string, client *MicrosoftClient) {
	scopes := strings.Fields(form.Get("scope"))
	directory := m.Tenants[tenant]
	switch {
	case client.Secret == "" && len(client.Certificates) == 0:
		m.refuseJSON(w, 401, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case directory == "" || directory == ConsumerTenant:
		m.refuseJSON(w, 400, "invalid_request", 50059, "No tenant-identifying information found in either the request or implied by any provided credentials.")
	case len(scopes) != 1 || !strings.HasSuffix(scopes[0], "/.default"):
		m.refuseJSON(w, 400, "invalid_scope", 1002012, "The provided value for scope "+form.Get("scope")+" is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).")
	default:
		token := m.sign(map[string]any{"aud": strings.TrimSuffix(scopes[0], "/.default"), "roles": client.Roles, "tid": directory, "appid": id, "idtyp": "app", "jti": random(16)})
		lifetime := 3599
		if m.Lifetime > 0 {
			lifetime = m.Lifetime
		}
		resource := strings.TrimSuffix(scopes[0], ".default")
		var may []string
		for _, role := range client.Roles {
			may = append(may, resource+role)
		}
		m.access[token] = &access{person: "app:" + id, client: id, scopes: may, expires: m.clock().Add(time.Duration(lifetime) * time.Second)}
		answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token})
	}
}
