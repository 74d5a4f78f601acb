package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

const (
	maxIDToken = 64 << 10
	clockSkew  = 2 * time.Minute
)

// IDClaims are the claims of an ID token that we use.
type IDClaims struct {
	Issuer, Subject, Email, PreferredUsername, TenantID, Nonce string
	EmailVerified                                              bool
}

// VerifyID checks an ID token: signature by the issuer's keys, issuer, audience,
// expiry and nonce (OpenID Connect Core section 3.1.3.7). An empty nonce means that
// none was sent. With templated, Endpoints.Issuer holds {tenantid}, and the token's
// own tid takes its place in the comparison. A key set that cannot be had is an *Error.
func (c *Conn) VerifyID(ctx context.Context, id secret.String, nonce string, templated bool) (IDClaims, error) {
	raw := id.Reveal()
	switch {
	case raw == "" || len(raw) > maxIDToken:
		return IDClaims{}, errors.New("check ID token: none, or one too long")
	case c.Client.ID == "" || c.Endpoints.Issuer == "":
		return IDClaims{}, errors.New("check ID token: client id or issuer is not known")
	}
	keys, err := c.publicKeys(ctx)
	if err != nil {
		return IDClaims{}, err
	}
	verifier := oidc.NewVerifier(string(c.Endpoints.Issuer), &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{
		ClientID:             c.Client.ID,
		SupportedSigningAlgs: signingAlgorithms(),
		SkipIssuerCheck:      templated, // done below with the tenant
		Now:                  func() time.Time { return c.now().Add(-clockSkew) },
	})
	token, err := verifier.Verify(ctx, raw)
	if err != nil {
		return IDClaims{}, fmt.Errorf("check ID token: %w", scrubSecrets(id).err(err))
	}
	var payload json.RawMessage
	if err := token.Claims(&payload); err != nil {
		return IDClaims{}, errors.New("check ID token: no claims")
	}
	o, err := parseObject(payload)
	if err != nil {
		return IDClaims{}, fmt.Errorf("check ID token: claims: %w", err)
	}
	return c.claims(o, nonce, templated)
}

// signingAlgorithms are the asymmetric ones. HS256 would let anybody who knows a public
// key or the client secret sign, and "none" anybody at all.
func signingAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
		oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
}

// claims reads and compares what go-oidc leaves to its caller.
func (c *Conn) claims(o object, nonce string, templated bool) (IDClaims, error) {
	claims := IDClaims{
		Issuer:            o.lenient("iss"),
		Subject:           o.lenient("sub"),
		Email:             o.lenient("email"),
		EmailVerified:     o.flag("email_verified"),
		PreferredUsername: o.lenient("preferred_username"),
		TenantID:          o.lenient("tid"),
		Nonce:             o.lenient("nonce"),
	}
	azp := o.lenient("azp")
	switch {
	case claims.Subject == "":
		return IDClaims{}, errors.New("check ID token: no subject")
	case azp != "" && azp != c.Client.ID:
		return IDClaims{}, errors.New("check ID token: issued to another client")
	case nonce != "" && subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(nonce)) != 1:
		return IDClaims{}, errors.New("check ID token: wrong nonce: not the answer to this request")
	}
	if templated {
		tenant, ok := c.Endpoints.Issuer.matches(claims.Issuer)
		if !ok || tenant == "" || tenant != claims.TenantID {
			return IDClaims{}, fmt.Errorf("check ID token: issuer %s is not that of tenant %s",
				oneLine(claims.Issuer), oneLine(claims.TenantID))
		}
	}
	return claims, nil
}

// publicKeys fetches the issuer's keys. They are not kept: an ID token is checked once
// in the life of a grant.
func (c *Conn) publicKeys(ctx context.Context) ([]crypto.PublicKey, error) {
	if c.Endpoints.JWKS == "" {
		return nil, fmt.Errorf("keys endpoint: %w", ErrNoEndpoint)
	}
	if _, err := parseURL(c.Endpoints.JWKS); err != nil {
		return nil, fmt.Errorf("keys endpoint: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoints.JWKS, nil)
	if err != nil {
		return nil, errors.New("keys endpoint: not a URL")
	}
	a, err := send(c.HTTP, req, "keys", scrubber{})
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, a.malformed(errors.New("no keys there"))
	}
	keys, err := parseKeys(a.body)
	if err != nil {
		return nil, a.malformed(err)
	}
	return keys, nil
}

// parseKeys reads a key set (RFC 7517) and skips keys it cannot use: one odd key must
// not lock everybody out, as it would with jose.JSONWebKeySet.
func parseKeys(body []byte) ([]crypto.PublicKey, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(o["keys"], &raw); err != nil {
		return nil, errors.New("no key set")
	}
	var keys []crypto.PublicKey
	for _, text := range raw[:min(len(raw), 100)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || key.Use != "" && key.Use != "sig" {
			continue
		}
		switch key.Key.(type) { // public ones only
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			keys = append(keys, key.Key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no usable key")
	}
	return keys, nil
}
