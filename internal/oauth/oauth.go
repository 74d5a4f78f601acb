// Package oauth is OAuth 2.0 and OpenID Connect as a client: metadata discovery,
// authorization requests with PKCE, the grants, refresh, revocation, dynamic
// registration, and the errors of all of them. It keeps nothing and decides nothing
// about files or people: account owns the refresh rule, login the flows.
//
// golang.org/x/oauth2 supplies PKCE and nothing else at run time: its token calls
// guess the authentication style by posting twice, its refresh takes neither scope
// nor resource and cannot be told from outside when the request leaves, and its
// errors print response bodies. go-oidc checks ID tokens.
package oauth

import (
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// An Issuer identifies an authorization server (RFC 8414 section 2): an https URL
// without query and fragment. Plain http is allowed for loopback hosts only. It is
// compared byte for byte.
type Issuer string

// Endpoints are the places of one authorization server.
type Endpoints struct {
	Issuer              Issuer `json:"issuer,omitempty"`
	Authorization       string `json:"authorization_endpoint,omitempty"`
	Token               string `json:"token_endpoint,omitempty"`
	DeviceAuthorization string `json:"device_authorization_endpoint,omitempty"`
	Revocation          string `json:"revocation_endpoint,omitempty"`
	Registration        string `json:"registration_endpoint,omitempty"`
	UserInfo            string `json:"userinfo_endpoint,omitempty"`
	JWKS                string `json:"jwks_uri,omitempty"`
	// IssParameter says that authorization responses carry iss (RFC 9207): then its
	// absence is an error. A wrong iss always is one.
	IssParameter bool `json:"authorization_response_iss_parameter_supported,omitempty"`
}

// An AuthStyle is how a client proves itself at the token endpoint. It is always
// set, never tried out: a second try burns one-time codes and trips reuse detection.
type AuthStyle string

// The authentication styles of RFC 6749 section 2.3 and RFC 7523.
const (
	AuthNone   AuthStyle = "none"                // client_id in the body, no secret
	AuthPost   AuthStyle = "client_secret_post"  // client_id and client_secret in the body
	AuthBasic  AuthStyle = "client_secret_basic" // HTTP Basic, both form-encoded
	AuthKeyJWT AuthStyle = "private_key_jwt"     // an assertion signed with Conn.Key
	// AuthOmitted sends nothing about the client: the grant is an assertion that says
	// itself who asks (RFC 7523 section 2.1), as Google's service accounts do.
	AuthOmitted AuthStyle = "omitted"
)

// A Client is what the authorization server knows us as.
type Client struct {
	ID     string
	Secret secret.String
	Auth   AuthStyle
	// Registration is set when we registered ourselves (RFC 7591), so that logout
	// can remove the registration (RFC 7592).
	Registration *Registered
}

// A Conn speaks for one client to one authorization server. HTTP comes from
// NewHTTPClient: no redirects, bounded bodies, time-outs.
type Conn struct {
	HTTP      *http.Client
	Endpoints Endpoints
	Client    Client
	Key       *Key // for AuthKeyJWT and assertions
	Now       func() time.Time
}

// A Token is a successful answer of the token endpoint (RFC 6749 section 5.1).
type Token struct {
	Access  secret.String
	Refresh secret.String // empty when the server sent none: keep the old one
	ID      secret.String // OpenID Connect ID token, not yet checked
	// Expiry is when the access token ends by our clock; zero when the server did
	// not say.
	Expiry time.Time
	// RefreshExpiry is when the refresh token ends, for servers that say so
	// (refresh_token_expires_in, Keycloak's refresh_expires_in); zero when unknown.
	RefreshExpiry time.Time
	// Scopes are the granted scopes; nil when the server did not repeat them, which
	// means those asked for (RFC 6749 section 5.1).
	Scopes []string
}

// An AuthRequest is what a browser is sent to the authorization endpoint with.
type AuthRequest struct {
	RedirectURI string
	State       string
	Verifier    secret.String // PKCE; the URL carries its S256 challenge
	Nonce       string        // OpenID Connect; empty leaves it out
	Scopes      []string
	LoginHint   string
	Extra       url.Values // the provider's own: access_type, prompt, resource ...
}

// A DeviceAuth is an answer of the device authorization endpoint (RFC 8628
// section 3.2).
type DeviceAuth struct {
	DeviceCode              secret.String
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string
	Expiry                  time.Time
	Interval                time.Duration
}
