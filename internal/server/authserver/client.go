package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// OpenClient is the client id of programs that have none, without registration and
// without a secret: what the mailmaint drafts let a mail program use where registration
// is not offered.
const OpenClient = "open"

func openClient() identity.Client {
	return identity.Client{
		ID: OpenClient, Name: "A mail program that does not say its name",
		Grants: []identity.GrantType{identity.AuthorizationCode, identity.RefreshGrant, identity.DeviceCode},
	}
}

// client finds a client that may be used now; else identity.ErrNotFound. Any other error
// says nothing about the client.
func (s *Server) client(ctx context.Context, id string) (identity.Client, error) {
	unknown := fmt.Errorf("client: %w", identity.ErrNotFound)
	if client, ok := s.clients[identity.ClientID(id)]; ok {
		return client, nil
	}
	switch {
	case id == "":
		return identity.Client{}, unknown
	case id == OpenClient:
		if s.Open {
			return openClient(), nil
		}
		return identity.Client{}, unknown
	case strings.HasPrefix(id, dynamicPrefix):
		return s.registeredClient(ctx, id)
	case s.ClientStore == nil || !plainText(id, 100):
		return identity.Client{}, unknown
	}
	client, err := s.ClientStore.Client(ctx, identity.ClientID(id))
	if err == nil && !client.Disabled.IsZero() {
		return identity.Client{}, unknown
	}
	return client, err
}

// registeredClient finds a client that registered itself, unless it has deleted that.
func (s *Server) registeredClient(ctx context.Context, id string) (identity.Client, error) {
	client, ok := s.openClientID(id)
	if !ok || !s.Registration {
		return identity.Client{}, fmt.Errorf("client: %w", identity.ErrNotFound)
	}
	if s.ClientStore == nil {
		return client, nil
	}
	ended, err := s.ClientStore.RegistrationEnded(ctx, client.ID)
	if err == nil && ended {
		err = fmt.Errorf("client: %w", identity.ErrNotFound)
	}
	return client, err
}

// Named tells what a client is called, for pages: also of one that may not be used any
// more.
func (s *Server) Named(ctx context.Context, id identity.ClientID) (identity.Client, bool) {
	if client, ok := s.clients[id]; ok {
		return client, true
	}
	if id == OpenClient {
		return openClient(), true
	}
	if client, ok := s.openClientID(string(id)); ok {
		return client, true
	}
	if s.ClientStore == nil {
		return identity.Client{}, false
	}
	client, err := s.ClientStore.Client(ctx, id)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		s.Log.Error("find client", "client", id, "error", err)
	}
	return client, err == nil
}

// requestClient is the client that sent a request to an endpoint for programs.
func (s *Server) requestClient(w http.ResponseWriter, r *http.Request, in params) (identity.Client, *oauthError) {
	said, ok := presentedClient(r, in)
	if !ok {
		return identity.Client{}, s.refuseClient(w, r, said.id, "client authentication in two ways, or in one that is not known")
	}
	client, reason, err := s.proveClient(r, said)
	switch {
	case err != nil:
		return identity.Client{}, s.storeFault("find client", err)
	case reason != "":
		return identity.Client{}, s.refuseClient(w, r, said.id, reason)
	}
	return client, nil
}

// proveClient finds the client that is presented and holds it to its one way of proving
// itself; reason is why it is not believed. A public one that proves itself is somebody
// else's, and to wave it through would let it believe that the proof counts.
func (s *Server) proveClient(r *http.Request, said presented) (client identity.Client, reason string, err error) {
	client, err = s.client(r.Context(), said.id)
	if errors.Is(err, identity.ErrNotFound) {
		return client, "unknown client", nil
	}
	if err != nil {
		return client, "", err
	}
	byKey := client.Keys != ""
	switch {
	case byKey != (said.assertion != "") || byKey && s.Once == nil:
		return client, "an assertion where there is no key, or none where there is one", nil
	case byKey:
		reason, err = s.checkAssertion(r, client, said.assertion)
		return client, reason, err
	case client.Confidential() != (said.secret != ""), !client.Confidential() && r.Header.Get("Authorization") != "":
		return client, "a secret where there is none, or none where there is one", nil
	case client.Confidential() && !client.Secret.Equal(identity.DigestOf(said.secret)):
		return client, "wrong client secret", nil
	}
	return client, "", nil
}

func (s *Server) refuseClient(w http.ResponseWriter, r *http.Request, id, reason string) *oauthError {
	s.Log.Info("client refused", "client", id, "reason", reason, "from", s.remote(r))
	s.count(r, ThrottleToken)
	return invalidClient(w, r)
}

// presented is who a client says it is, and by what it would prove that: a secret, an
// assertion, or nothing.
type presented struct{ id, secret, assertion string }

// presentedClient reads it: by HTTP Basic or by the body (RFC 6749 section 2.3.1), or by an
// assertion, whose subject is the client (RFC 7523 section 3). Basic holds id and secret
// form-encoded; ours mean the same either way. False: two ways at once, or one that is not
// done here.
func presentedClient(r *http.Request, in params) (presented, bool) {
	header := r.Header.Get("Authorization")
	if in["client_assertion"] != "" || in["client_assertion_type"] != "" {
		if header != "" || in["client_secret"] != "" || in["client_assertion_type"] != assertionType {
			return presented{id: in["client_id"]}, false
		}
		return assertedClient(in)
	}
	if header == "" {
		return presented{id: in["client_id"], secret: in["client_secret"]}, true
	}
	user, pass, basic := r.BasicAuth()
	if !basic || len(user) > maxClientID || len(pass) > maxValue {
		return presented{}, false
	}
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(pass)
	if err1 != nil || err2 != nil || !plainText(id, maxClientID) {
		return presented{}, false
	}
	other := in["client_id"]
	return presented{id: id, secret: secret}, in["client_secret"] == "" && (other == "" || other == id)
}

// assertedClient takes the client from an assertion; a client_id beside it must be the same
// (RFC 7521 section 4.2).
func assertedClient(in params) (presented, bool) {
	text, other := in["client_assertion"], in["client_id"]
	a, err := readAssertion(text)
	if err != nil || other != "" && other != a.claims.Subject {
		return presented{id: other}, false
	}
	return presented{id: a.claims.Subject, assertion: text}, true
}

// allowedScopes holds what a client asks for to the most that it may have.
func allowedScopes(client identity.Client, scopes []string) []string {
	if len(client.Scopes) == 0 {
		return scopes
	}
	have := append(append([]string{}, client.Scopes...), effectiveScopes(client.Scopes)...)
	var allowed []string
	for _, scope := range scopes {
		switch {
		case slices.Contains(have, scope):
			allowed = append(allowed, scope)
		case scope == ScopeMail:
			// Less than everything, where everything is asked for.
			for _, one := range effectiveScopes(client.Scopes) {
				if !slices.Contains(allowed, one) && !slices.Contains(scopes, one) {
					allowed = append(allowed, one)
				}
			}
		}
	}
	return allowed
}
