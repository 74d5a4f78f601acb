package authserver

import (
	"context"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// clientCredentials is the grant of machines (RFC 6749 section 4.4). A machine acts as the
// mailbox that an administrator named when it was entered, by one grant that stands on
// that person's page like any other and can be revoked there. There is no refresh token
// (section 4.4.3): the machine has its secret.
func (s *Server) clientCredentials(ctx context.Context, client identity.Client, in params) (tokenAnswer, *oauthError) {
	if !client.Confidential() || client.Consent == "" {
		return tokenAnswer{}, &oauthError{400, "unauthorized_client", "this client may not use this grant"}
	}
	grant, err := s.Grants.Grant(ctx, client.Consent)
	if err != nil {
		return tokenAnswer{}, s.storeFault("find the machine's grant", err)
	}
	if grant.Client != client.ID || !grant.Revoked.IsZero() {
		s.Log.Info("token refused", "client", client.ID, "grant", grant.ID, "reason", "the machine's grant is not in force")
		return tokenAnswer{}, invalidGrant("the grant is not in force")
	}
	if _, fault := s.personActive(ctx, grant); fault != nil {
		return tokenAnswer{}, fault
	}
	scopes, ok := narrower(grant.Scopes, in["scope"])
	if !ok {
		return tokenAnswer{}, &oauthError{400, "invalid_scope", "more than was granted"}
	}
	tokens, err := s.mintPair(grant.ID, scopes)
	if err != nil {
		return tokenAnswer{}, s.storeFault("mint token", err)
	}
	tokens.refresh, tokens.refreshRecord = secret.String{}, identity.RefreshToken{}
	if err := s.Tokens.Issue(ctx, tokens.accessRecord, tokens.refreshRecord); err != nil {
		return tokenAnswer{}, s.storeFault("issue token", err)
	}
	s.Log.Info("tokens issued", "grant", grant.ID, "person", grant.Person, "client", client.ID, "scopes", scopes)
	return s.answer(tokens), nil
}
