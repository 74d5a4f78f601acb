package authserver

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// introspection is an active answer. Names and forms are those that Dovecot 2.3 and
// 2.4 read: aud is one string, username lower case, token_type Bearer.
type introspection struct {
	Active    bool   `json:"active"`
	Username  string `json:"username"`
	Subject   string `json:"sub"`
	Scope     string `json:"scope"`
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	ClientID  string `json:"client_id"`
	Expires   int64  `json:"exp"`
	Issued    int64  `json:"iat"`
	TokenType string `json:"token_type"`
}

// inactive is every no (RFC 7662 section 2.2): without reason and without a user.
// Dovecot takes a user name for a yes, whatever the status says.
type inactive struct {
	Active bool `json:"active"`
}

// introspect is RFC 7662, for mail servers that prove who they are: without that it
// would be an oracle for guessed tokens (section 4).
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	in, fault := form(w, r)
	server, ok, err := s.resourceServer(r, in)
	switch {
	case err != nil:
		s.Log.Error("introspect", "error", err)
		fault = serverError()
	case !ok:
		s.count(r, ThrottleToken)
		w.Header().Set("WWW-Authenticate", `Basic realm="letterlock introspection"`)
		fault = &oauthError{http.StatusUnauthorized, "invalid_client", "introspection is for known resource servers"}
	}
	if fault != nil {
		writeError(w, fault)
		return
	}
	tokenDigest, ok := digest(in["token"], accessPrefix)
	if !ok {
		writeJSON(w, http.StatusOK, inactive{})
		return
	}
	answer, reason, err := s.lookUp(r, server, tokenDigest)
	switch {
	case err != nil:
		// 5xx is read as "try again" by all of them, and holds no user.
		s.Log.Error("introspect", "server", server.ID, "error", err)
		writeError(w, serverError())
	case reason != "":
		s.Log.Info("token inactive", "server", server.ID, "reason", reason)
		writeJSON(w, http.StatusOK, inactive{})
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

// A bearer is a token in force and whose it is.
type bearer struct {
	token  identity.AccessToken
	grant  identity.Grant
	person identity.Person
}

// bearer finds a token in force; reason is why there is none.
func (s *Server) bearer(r *http.Request, tokenDigest identity.Digest) (found bearer, reason string, err error) {
	if s.Bearers != nil {
		found.token, found.grant, found.person, err = s.Bearers.Bearer(r.Context(), tokenDigest)
	} else {
		found.token, found.grant, err = s.Tokens.AccessToken(r.Context(), tokenDigest)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return found, "unknown", nil
	case errors.Is(err, identity.ErrRevoked):
		return found, "revoked", nil
	case err != nil:
		return found, "", err
	case !found.token.Revoked.IsZero() || !found.grant.Revoked.IsZero():
		return found, "revoked", nil
	case !s.Now().Before(found.token.Expires):
		return found, "expired", nil
	}
	if s.Bearers == nil {
		found.person, err = s.People.Person(r.Context(), found.grant.Person)
	}
	if errors.Is(err, identity.ErrNotFound) || err == nil && !found.person.Disabled.IsZero() {
		return found, "person disabled", nil
	}
	return found, "", err
}

// lookUp is a token in force as a mail server is told of it; reason is why there is none.
func (s *Server) lookUp(r *http.Request, server identity.ResourceServer, tokenDigest identity.Digest) (answer introspection, reason string, err error) {
	found, reason, err := s.bearer(r, tokenDigest)
	if err != nil || reason != "" {
		return answer, reason, err
	}
	scopes := effectiveScopes(found.token.Scopes)
	if !accepts(server, scopes) {
		return answer, "not for this server", nil
	}
	return introspection{
		Active: true, Username: strings.ToLower(found.person.Address), Subject: string(found.person.ID), Scope: strings.Join(scopes, " "),
		Audience: s.Audience, Issuer: s.Issuer, ClientID: string(found.grant.Client),
		Expires: found.token.Expires.Unix(), Issued: found.token.Issued.Unix(), TokenType: "Bearer",
	}, "", nil
}

func accepts(server identity.ResourceServer, scopes []string) bool {
	if len(server.Accepts) == 0 {
		return len(scopes) > 0
	}
	return slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(server.Accepts, scope) })
}

// resourceServer finds who asks, by HTTP Basic or by a secret in the body: Dovecot 2.3
// does the latter, or the former beside an empty pair in the body, which is no second
// method. Two methods at once are refused (RFC 6749 section 2.3).
//
// What an administrator entered as a client may ask too, when that was said of it.
func (s *Server) resourceServer(r *http.Request, in params) (identity.ResourceServer, bool, error) {
	said, ok := presentedClient(r, in)
	if !ok || said.secret == "" && said.assertion == "" || len(said.secret) > maxValue {
		return identity.ResourceServer{}, false, nil
	}
	for _, server := range s.ResourceServers {
		if server.ID == said.id {
			return server, said.secret != "" && server.Secret.Equal(identity.DigestOf(said.secret)), nil
		}
	}
	client, reason, err := s.proveClient(r, said)
	good := err == nil && reason == "" && client.Introspects && client.Confidential()
	return identity.ResourceServer{ID: said.id, Accepts: effectiveScopes(client.Scopes)}, good, err
}
