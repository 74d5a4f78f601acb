package identity

import (
	"slices"
	"time"
)

// A Client is a program that asks for rights. Most are public: they can keep no secret,
// so PKCE is what binds code and client. One that an administrator entered may be
// confidential: a service that has a secret of its own.
type Client struct {
	ID           ClientID
	Name         string
	RedirectURIs []string
	LogoutURIs   []string // where a browser may go after it has signed out
	Grants       []GrantType
	// Scopes are the most that it may ask for. Empty: all.
	Scopes []string
	// Secret is the digest of a confidential client's secret; zero: public.
	Secret Digest
	// Keys are the public keys of a confidential client that proves itself by a signature, a
	// JWK set (RFC 7517); empty: it has a secret, or is public.
	Keys string
	// WithoutPKCE: a confidential client that cannot do it. What it was sent in answer is
	// then protected by its secret and its exact redirect alone.
	WithoutPKCE bool
	// Introspects: it may ask whether tokens are good, as mail servers do.
	Introspects bool
	// Consent is the grant that a machine acts by (client credentials); empty: none.
	Consent GrantID
	// Verified: an administrator entered it. A client that registered itself chose
	// its name, and pages say so.
	Verified bool
	Created  time.Time
	Disabled time.Time // zero: in use
	Reason   string    // why disabled
}

// A GrantType is a way to tokens (RFC 6749 section 4, RFC 8628).
type GrantType string

// The grant types that clients may be allowed.
const (
	AuthorizationCode GrantType = "authorization_code"
	RefreshGrant      GrantType = "refresh_token"
	DeviceCode        GrantType = "urn:ietf:params:oauth:grant-type:device_code"
	ClientCredentials GrantType = "client_credentials"
)

// Allows reports whether the client may use the grant type.
func (c Client) Allows(want GrantType) bool { return slices.Contains(c.Grants, want) }

// Confidential reports whether the client proves itself, by a secret or a signature.
func (c Client) Confidential() bool { return c.Secret != Digest{} || c.Keys != "" }

// A SigningKey signs ID tokens. The private key is sealed: a stolen database signs
// nothing.
type SigningKey struct {
	ID      string // RFC 7638 thumbprint
	Sealed  []byte
	Created time.Time // published from then on
	Active  time.Time // signs from then on, until the next key does
}
