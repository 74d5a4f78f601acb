package authserver

import (
	"context"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// refresh is grant_type=refresh_token (RFC 6749 section 6) with rotation (RFC 9700
// section 4.14.2).
//
// Each refresh token is spent once. When a spent one comes again, either two processes
// of one person raced, or somebody stole it. Within the grace time it gets the same
// successor, so that races end well and nobody gets a second branch of the family;
// later the family ends.
func (s *Server) refresh(ctx context.Context, client identity.Client, in params) (tokenAnswer, *oauthError) {
	if in["refresh_token"] == "" {
		return tokenAnswer{}, invalidRequest("refresh_token is missing")
	}
	oldDigest, ok := digest(in["refresh_token"], refreshPrefix)
	if !ok {
		return tokenAnswer{}, invalidGrant("the refresh token is not valid")
	}
	old, grant, err := s.Tokens.RefreshToken(ctx, oldDigest)
	if err != nil {
		return tokenAnswer{}, s.storeFault("find refresh token", err)
	}
	if fault := s.refreshAllowed(ctx, client, old, grant); fault != nil {
		return tokenAnswer{}, fault
	}
	scopes, ok := narrower(grant.Scopes, in["scope"])
	if !ok {
		return tokenAnswer{}, &oauthError{400, "invalid_scope", "more than was granted"}
	}
	return s.rotate(ctx, secret.New(in["refresh_token"]), old, grant, scopes)
}

func (s *Server) refreshAllowed(ctx context.Context, client identity.Client, old identity.RefreshToken, grant identity.Grant) *oauthError {
	reason := ""
	switch {
	case grant.Client != client.ID:
		reason = "another client's refresh token"
	case !grant.Revoked.IsZero():
		reason = "revoked"
	case !s.Now().Before(old.Expires):
		reason = "expired"
	}
	if reason != "" {
		s.Log.Info("refresh refused", "grant", grant.ID, "client", client.ID, "reason", reason)
		return invalidGrant("the refresh token is not valid")
	}
	_, fault := s.personActive(ctx, grant)
	return fault
}

// rotate spends the old token. The successor is made before and sealed for it, since
// spending and keeping have to be one transaction.
func (s *Server) rotate(ctx context.Context, presented secret.String, old identity.RefreshToken, grant identity.Grant, scopes []string) (tokenAnswer, *oauthError) {
	tokens, err := s.mintPair(grant.ID, scopes)
	if err != nil {
		return tokenAnswer{}, s.storeFault("mint tokens", err)
	}
	sealed, err := seal(presented, tokens.refresh)
	if err != nil {
		return tokenAnswer{}, s.storeFault("seal successor", err)
	}
	before, err := s.Tokens.Rotate(ctx, old.Digest, s.Now(), sealed, tokens.refreshRecord, tokens.accessRecord)
	if err != nil {
		return tokenAnswer{}, s.storeFault("rotate", err)
	}
	if before.Spent.IsZero() {
		s.Log.Info("token refreshed", "grant", grant.ID, "client", grant.Client, "scopes", scopes)
		return s.answer(tokens), nil
	}
	if s.Now().After(before.Spent.Add(s.Grace)) {
		return tokenAnswer{}, s.revokeFamily(ctx, grant.ID, grant.Client, "refresh token used twice", invalidGrant("the refresh token is not valid"))
	}
	return s.again(ctx, presented, before, tokens)
}

// again answers a race: a fresh access token beside the successor there is. The clock
// of the grace time starts once, when the token was spent, and no answer renews it.
func (s *Server) again(ctx context.Context, presented secret.String, spent identity.RefreshToken, tokens pair) (tokenAnswer, *oauthError) {
	successor, err := unseal(presented, spent.Successor)
	if err != nil {
		return tokenAnswer{}, s.storeFault("unseal successor", err)
	}
	if err := s.Tokens.Issue(ctx, tokens.accessRecord, identity.RefreshToken{}); err != nil {
		return tokenAnswer{}, s.storeFault("issue access token", err)
	}
	tokens.refresh = successor
	s.Log.Info("token refreshed", "grant", tokens.accessRecord.Grant, "again", true, "after", s.Now().Sub(spent.Spent).Round(time.Millisecond))
	return s.answer(tokens), nil
}
