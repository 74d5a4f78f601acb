package authserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An idSigner signs ID tokens (OpenID Connect Core section 2) with ES256, and shows
// the key that checks them. ID tokens tell a program who signed in; they open nothing.
type idSigner struct {
	signer jose.Signer
	keys   jose.JSONWebKeySet
}

func newIDSigner(key *ecdsa.PrivateKey) (*idSigner, error) {
	if key.Curve != elliptic.P256() {
		return nil, errors.New("ID token key: want P-256")
	}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	// The thumbprint (RFC 7638) names a key the same on every instance.
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("ID token key: %w", err)
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("ID token signer: %w", err)
	}
	return &idSigner{signer, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}}, nil
}

// jwks shows the public keys.
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Del("Pragma")
	writeJSON(w, http.StatusOK, s.ids.keys)
}

// A signedIn is what the sign-in behind a grant was.
type signedIn struct {
	nonce string    // of the authorization request; device requests have none
	at    time.Time // when the person proved who they are
}

type idClaims struct {
	jwt.Claims
	AuthTime      *jwt.NumericDate `json:"auth_time,omitempty"`
	Nonce         string           `json:"nonce,omitempty"`
	Email         string           `json:"email,omitempty"`
	EmailVerified bool             `json:"email_verified,omitempty"`
}

// idToken makes the ID token of a grant, or none when it was not asked for. The
// address is verified by nature: it is a mailbox of this service.
func (s *Server) idToken(grant identity.Grant, person identity.Person, how signedIn) (string, error) {
	if s.ids == nil || !slices.Contains(grant.Scopes, ScopeOpenID) {
		return "", nil
	}
	now := s.Now()
	claims := idClaims{Claims: jwt.Claims{
		Issuer: s.Issuer, Subject: string(person.ID), Audience: jwt.Audience{string(grant.Client)},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(10 * time.Minute)),
	}, Nonce: how.nonce}
	if !how.at.IsZero() {
		claims.AuthTime = jwt.NewNumericDate(how.at)
	}
	if slices.Contains(grant.Scopes, ScopeEmail) {
		claims.Email, claims.EmailVerified = strings.ToLower(person.Address), true
	}
	token, err := jwt.Signed(s.ids.signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign ID token: %w", err)
	}
	return token, nil
}
