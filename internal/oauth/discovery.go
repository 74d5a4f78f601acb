package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Metadata is what Discover found.
type Metadata struct {
	Endpoints
	ScopesSupported     []string
	GrantTypesSupported []string
	AuthMethods         []string // token_endpoint_auth_methods_supported
	PKCE                []string // code_challenge_methods_supported
	TemplatedIssuer     bool     // issuer holds {tenantid}
}

// Discover reads OpenID Connect discovery and RFC 8414 metadata of the issuer.
//
// OpenID Connect comes first, for it is what most servers have. RFC 8414 is asked when
// the first document is not there, or lacks one of the endpoints that only RFC 8414
// registers (device, revocation, registration). The second fills gaps and overrides
// nothing, and what is wrong with it does not harm a good first. A server in trouble
// (no answer, 5xx, 429) ends the search: what would be pinned now would lack half.
//
// Both documents must name the very issuer that was asked, byte for byte. The one
// exception is a document whose issuer has {tenantid} in place of one path segment,
// as Microsoft's for all tenants; Endpoints.Issuer is then the template.
func Discover(ctx context.Context, hc *http.Client, issuer Issuer) (Metadata, error) {
	first, second, err := wellKnown(issuer)
	if err != nil {
		return Metadata{}, err
	}
	found, oidcErr := fetchMetadata(ctx, hc, first, issuer)
	if oidcErr == nil && found.complete() {
		return found, nil
	}
	if !mayBeElsewhere(oidcErr) {
		return Metadata{}, oidcErr
	}
	more, err := fetchMetadata(ctx, hc, second, issuer)
	switch {
	case err == nil && oidcErr != nil:
		return more, nil
	case err == nil:
		found.fill(more)
		return found, nil
	case oidcErr == nil:
		return found, nil
	case mayBeElsewhere(err):
		return Metadata{}, oidcErr
	}
	return Metadata{}, err
}

// wellKnown returns the addresses of the two documents. OpenID Connect Discovery
// section 4 appends to the issuer, RFC 8414 section 3.1 inserts before its path.
func wellKnown(issuer Issuer) (openid, oauth string, err error) {
	u, err := parseURL(string(issuer))
	if err != nil {
		return "", "", fmt.Errorf("issuer: %w", err)
	}
	if u.RawQuery != "" || u.ForceQuery {
		return "", "", errors.New("issuer: an issuer has no query")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	base := u.Scheme + "://" + u.Host
	return base + path + "/.well-known/openid-configuration", base + "/.well-known/oauth-authorization-server" + path, nil
}

// mayBeElsewhere reports whether the other document is worth asking for: this one is
// good but incomplete (nil), is not there, or is a web page (applications of one page
// answer 200 to everything). A document of another issuer is an attack or a mistake.
func mayBeElsewhere(err error) bool {
	var fault *Error
	if err == nil {
		return true
	}
	if !errors.As(err, &fault) {
		return false
	}
	return fault.Status != 0 && fault.Status < 500 && fault.Status != http.StatusTooManyRequests && !errors.Is(err, errTooLarge)
}

func fetchMetadata(ctx context.Context, hc *http.Client, place string, issuer Issuer) (Metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return Metadata{}, errors.New("issuer: not a URL")
	}
	a, err := send(hc, req, "metadata", scrubber{})
	if err != nil {
		return Metadata{}, err
	}
	if a.status != http.StatusOK {
		return Metadata{}, a.malformed(errors.New("no metadata there"))
	}
	o, err := a.object()
	if err != nil {
		return Metadata{}, err
	}
	return parseMetadata(o, issuer)
}

func parseMetadata(o object, issuer Issuer) (Metadata, error) {
	var m Metadata
	name, err := o.text("issuer")
	if err != nil {
		return m, fmt.Errorf("metadata: %w", err)
	}
	if m.TemplatedIssuer, err = sameIssuer(name, issuer); err != nil {
		return m, err
	}
	m.Issuer = Issuer(name)
	for name, to := range map[string]*string{
		"authorization_endpoint":        &m.Authorization,
		"token_endpoint":                &m.Token,
		"device_authorization_endpoint": &m.DeviceAuthorization,
		"revocation_endpoint":           &m.Revocation,
		"registration_endpoint":         &m.Registration,
		"userinfo_endpoint":             &m.UserInfo,
		"jwks_uri":                      &m.JWKS,
	} {
		if *to, err = o.endpoint(name, issuer); err != nil {
			return Metadata{}, fmt.Errorf("metadata of %s: %w", issuer, err)
		}
	}
	if m.Token == "" || m.Authorization == "" && m.DeviceAuthorization == "" {
		return Metadata{}, fmt.Errorf("metadata of %s: no token endpoint, or no way to sign in", issuer)
	}
	m.IssParameter = o.flag("authorization_response_iss_parameter_supported")
	m.ScopesSupported = o.list("scopes_supported")
	m.GrantTypesSupported = o.list("grant_types_supported")
	m.AuthMethods = o.list("token_endpoint_auth_methods_supported")
	m.PKCE = o.list("code_challenge_methods_supported")
	return m, nil
}

// sameIssuer compares the issuer a document names with the one asked for.
func sameIssuer(name string, asked Issuer) (templated bool, err error) {
	if name == string(asked) {
		return false, nil
	}
	if strings.Count(name, tenantTemplate) == 1 && strings.Contains(name, "/"+tenantTemplate+"/") {
		if _, ok := Issuer(name).matches(string(asked)); ok {
			return true, nil
		}
	}
	return false, fmt.Errorf("metadata at %s names another issuer: %q", asked, oneLine(name))
}

// endpoint reads a URL. Plain http is good only where the issuer itself is a server on
// loopback: no remote document may point a token at a port of this machine.
func (o object) endpoint(name string, issuer Issuer) (string, error) {
	text, err := o.text(name)
	if err != nil || text == "" {
		return "", err
	}
	u, err := parseURL(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	home, err := url.Parse(string(issuer))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, errors.New("issuer is not a URL"))
	}
	if u.Scheme == "http" && home.Scheme != "http" {
		return "", fmt.Errorf("%s: plain http", name)
	}
	return text, nil
}

// complete reports whether RFC 8414 metadata could add nothing that we use.
func (m Metadata) complete() bool {
	return m.DeviceAuthorization != "" && m.Revocation != "" && m.Registration != ""
}

// fill takes from other what m lacks.
func (m *Metadata) fill(other Metadata) {
	for _, pair := range []struct {
		to   *string
		from string
	}{
		{&m.Authorization, other.Authorization},
		{&m.DeviceAuthorization, other.DeviceAuthorization},
		{&m.Revocation, other.Revocation},
		{&m.Registration, other.Registration},
		{&m.UserInfo, other.UserInfo},
		{&m.JWKS, other.JWKS},
	} {
		if *pair.to == "" {
			*pair.to = pair.from
		}
	}
	for _, pair := range []struct {
		to   *[]string
		from []string
	}{
		{&m.ScopesSupported, other.ScopesSupported},
		{&m.GrantTypesSupported, other.GrantTypesSupported},
		{&m.AuthMethods, other.AuthMethods},
		{&m.PKCE, other.PKCE},
	} {
		if len(*pair.to) == 0 {
			*pair.to = pair.from
		}
	}
	m.IssParameter = m.IssParameter || other.IssParameter
}
