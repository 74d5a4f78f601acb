package authserver

import (
	"errors"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// revoke is RFC 7009. A refresh token takes its whole family along, an access token
// only itself. An unknown token is a success (section 2.2): it is not valid, which is
// what was wanted. token_type_hint is not needed, the prefix says it.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	if fault := s.revokeToken(w, r); fault != nil {
		writeError(w, fault)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) *oauthError {
	in, fault := form(w, r)
	if fault != nil {
		return fault
	}
	client, fault := s.requestClient(w, r, in)
	if fault != nil {
		return fault
	}
	if in["token"] == "" {
		return invalidRequest("token is missing")
	}
	ctx := r.Context()
	if refreshDigest, ok := digest(in["token"], refreshPrefix); ok {
		_, grant, err := s.Tokens.RefreshToken(ctx, refreshDigest)
		if err == nil && grant.Client == client.ID {
			err = s.endGrant(ctx, grant, "revoked by the client", "revoked by the program itself")
		}
		return s.revoked(client, grant, err)
	}
	if accessDigest, ok := digest(in["token"], accessPrefix); ok {
		_, grant, err := s.Tokens.AccessToken(ctx, accessDigest)
		if err == nil && grant.Client == client.ID {
			err = s.Grants.RevokeAccess(ctx, accessDigest, s.Now())
		}
		return s.revoked(client, grant, err)
	}
	return nil
}

func (s *Server) revoked(client identity.Client, grant identity.Grant, err error) *oauthError {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil
	case err != nil:
		s.Log.Error("revoke", "client", client.ID, "error", err)
		return serverError()
	case grant.Client != client.ID:
		// RFC 7009 section 2.1: refused, and the client is told.
		s.Log.Warn("revocation refused", "grant", grant.ID, "client", client.ID, "reason", "another client's token")
		return invalidGrant("the token was not issued to this client")
	}
	s.Log.Info("token revoked", "grant", grant.ID, "client", client.ID)
	return nil
}
