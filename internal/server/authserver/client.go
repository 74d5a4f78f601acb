package authserver

import (
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// client finds a static or a registered client.
func (s *Server) client(id string) (identity.Client, bool) {
	if client, ok := s.clients[identity.ClientID(id)]; ok {
		return client, true
	}
	if s.Registration {
		return s.openClientID(id)
	}
	return identity.Client{}, false
}

// requestClient is the client that sent a request to an endpoint for programs. All
// clients are public: one that proves itself with a secret is somebody else's, and
// to wave it through would let it believe that the secret counts.
func (s *Server) requestClient(w http.ResponseWriter, r *http.Request, in params) (identity.Client, *oauthError) {
	if r.Header.Get("Authorization") != "" || in["client_secret"] != "" || in["client_assertion"] != "" {
		return identity.Client{}, invalidClient(w, r)
	}
	client, ok := s.client(in["client_id"])
	if !ok {
		return identity.Client{}, invalidClient(w, r)
	}
	return client, nil
}
