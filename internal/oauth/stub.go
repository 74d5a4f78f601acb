package oauth

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

var errStub = errors.New("not written yet")

// HTTPOptions shape NewHTTPClient.
type HTTPOptions struct {
	// Roots adds authorities to the system's (a company's own); nil adds none. The
	// system pool is read at the first TLS connection and not before.
	Roots   *x509.CertPool
	Timeout time.Duration // whole request; 0 means 30 s
	// Trace receives one line per request and answer, without secrets; nil: none.
	Trace io.Writer
}

// NewHTTPClient returns a client that follows no redirect, reads at most 1 MiB of an
// answer, needs TLS 1.2, honours HTTPS_PROXY, and refuses http URLs but for loopback.
func NewHTTPClient(HTTPOptions) *http.Client { return nil }

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
func Discover(ctx context.Context, hc *http.Client, issuer Issuer) (Metadata, error) {
	return Metadata{}, errStub
}

// ParseIssuer checks an issuer as typed by a person or found in a file.
func ParseIssuer(text string) (Issuer, error) { return "", errStub }

// NewVerifier makes a PKCE code verifier (RFC 7636), NewState 256 random bits.
func NewVerifier() secret.String { return secret.String{} }

// NewState returns a fresh state or nonce.
func NewState() string { return "" }

// AuthCodeURL is where to send the browser.
func (c *Conn) AuthCodeURL(AuthRequest) (string, error) { return "", errStub }

// A Callback is a parsed authorization response (query of the redirect URI).
type Callback struct {
	Code  secret.String
	State string
	Iss   string
	Err   *Error // error, error_description, error_uri
}

// ParseCallback reads the query of an authorization response; duplicates are refused.
func ParseCallback(query string) (Callback, error) { return Callback{}, errStub }

// CheckCallback compares state in constant time and iss by RFC 9207.
func (c *Conn) CheckCallback(cb Callback, state string) error { return errStub }

// ExchangeCode trades a code for tokens (RFC 6749 section 4.1.3).
func (c *Conn) ExchangeCode(ctx context.Context, code secret.String, redirectURI string, verifier secret.String, extra url.Values) (Token, error) {
	return Token{}, errStub
}

// Refresh trades a refresh token for a new access token (RFC 6749 section 6). scopes
// may be empty; extra carries the provider's own parameters, `resource` among them.
func (c *Conn) Refresh(ctx context.Context, refresh secret.String, scopes []string, extra url.Values) (Token, error) {
	return Token{}, errStub
}

// StartDevice and PollDevice are RFC 8628. PollDevice returns when the person has
// decided, the code ran out, or ctx ended; wait is how it sleeps (a test passes its own).
func (c *Conn) StartDevice(ctx context.Context, scopes []string, extra url.Values) (DeviceAuth, error) {
	return DeviceAuth{}, errStub
}

// PollDevice asks until the person has decided.
func (c *Conn) PollDevice(ctx context.Context, auth DeviceAuth, wait func(context.Context, time.Duration) error) (Token, error) {
	return Token{}, errStub
}

// Revoke is RFC 7009. hint is "refresh_token" or "access_token".
func (c *Conn) Revoke(ctx context.Context, token secret.String, hint string) error { return errStub }

// A Registered is our dynamic registration (RFC 7591, 7592).
type Registered struct {
	ClientURI   string // registration_client_uri
	AccessToken secret.String
}

// A RegisterRequest asks for a client of our own.
type RegisterRequest struct {
	RedirectURIs []string
	Scopes       []string
	GrantTypes   []string
}

// Register and Unregister are RFC 7591 and RFC 7592.
func Register(ctx context.Context, hc *http.Client, endpoint string, req RegisterRequest) (Client, error) {
	return Client{}, errStub
}

// Unregister removes our registration.
func Unregister(ctx context.Context, hc *http.Client, reg Registered) error { return errStub }

// IDClaims are the claims of an ID token that we use.
type IDClaims struct {
	Issuer, Subject, Email, PreferredUsername, TenantID, Nonce string
	EmailVerified                                              bool
}

// VerifyID checks an ID token: signature by the issuer's keys, issuer, audience,
// expiry and nonce (OpenID Connect Core section 3.1.3.7).
func (c *Conn) VerifyID(ctx context.Context, id secret.String, nonce string, templated bool) (IDClaims, error) {
	return IDClaims{}, errStub
}

// An Error is an answer that is not a token: an OAuth error (RFC 6749 section 5.2,
// RFC 8628 section 3.5), or an HTTP answer that is none. It holds no secret.
type Error struct {
	Endpoint      string // "token", "device authorization", "revocation" ...
	Status        int    // HTTP status; 0 for authorization responses
	Code          string // "invalid_grant"; empty when the answer was no OAuth error
	Description   string
	URI           string
	CorrelationID string // Microsoft's, for administrators
	RetryAfter    time.Duration
	Err           error // transport fault
}

// Error returns one line without secrets.
func (e *Error) Error() string { return e.Code }

// Unwrap returns the transport fault.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same request may succeed later: transport faults,
// 5xx, 429, malformed answers, temporarily_unavailable, slow_down. Never invalid_grant.
func (e *Error) Temporary() bool { return false }
