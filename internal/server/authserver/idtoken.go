package authserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

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
	Name          string           `json:"name,omitempty"`
	Username      string           `json:"preferred_username,omitempty"`
}

// idToken makes the ID token of a grant (OpenID Connect Core section 2), or none when it
// was not asked for. ID tokens tell a program who signed in; they open nothing. The
// address is verified by nature: it is a mailbox of this service.
func (s *Server) idToken(ctx context.Context, grant identity.Grant, person identity.Person, how signedIn) (string, error) {
	if s.ids == nil || !slices.Contains(grant.Scopes, ScopeOpenID) {
		return "", nil
	}
	now := s.Now()
	claims := idClaims{Claims: jwt.Claims{
		Issuer: s.Issuer, Subject: string(person.ID), Audience: jwt.Audience{string(grant.Client)},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(idLifetime)),
	}, Nonce: how.nonce}
	if !how.at.IsZero() {
		claims.AuthTime = jwt.NewNumericDate(how.at)
	}
	if slices.Contains(grant.Scopes, ScopeEmail) {
		claims.Email, claims.EmailVerified = strings.ToLower(person.Address), true
	}
	if slices.Contains(grant.Scopes, ScopeProfile) {
		claims.Name, claims.Username = person.Name, strings.ToLower(person.Address)
	}
	signer, err := s.ids.signer(ctx)
	if err != nil {
		return "", fmt.Errorf("find signing key: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign ID token: %w", err)
	}
	return token, nil
}
