package authserver

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// tokenAnswer is RFC 6749 section 5.1. It is the one place where tokens leave.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope"` // always said, since it may be less than asked for
}

// token is the token endpoint: it finds the client and hands over to the grant.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	answer, fault := s.exchange(w, r)
	if fault != nil {
		if fault.Code == "invalid_grant" {
			s.count(r, ThrottleToken)
		}
		writeError(w, fault)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request) (tokenAnswer, *oauthError) {
	in, fault := form(w, r)
	if fault != nil {
		return tokenAnswer{}, fault
	}
	client, fault := s.requestClient(w, r, in)
	if fault != nil {
		return tokenAnswer{}, fault
	}
	grant := identity.GrantType(in["grant_type"])
	if s.NoDevice && grant == identity.DeviceCode {
		return tokenAnswer{}, &oauthError{http.StatusBadRequest, "unsupported_grant_type", ""}
	}
	var run func(context.Context, identity.Client, params) (tokenAnswer, *oauthError)
	switch grant {
	case identity.AuthorizationCode:
		run = s.redeemCode
	case identity.RefreshGrant:
		run = s.refresh
	case identity.DeviceCode:
		run = s.pollDevice
	case identity.ClientCredentials:
		run = s.clientCredentials
	case "":
		return tokenAnswer{}, invalidRequest("grant_type is missing")
	default:
		return tokenAnswer{}, &oauthError{http.StatusBadRequest, "unsupported_grant_type", ""}
	}
	if !client.Allows(grant) {
		return tokenAnswer{}, &oauthError{http.StatusBadRequest, "unauthorized_client", "this client may not use this grant"}
	}
	return run(r.Context(), client, in)
}

// A pair is fresh tokens and what stores keep of them.
type pair struct {
	access, refresh secret.String
	accessRecord    identity.AccessToken
	refreshRecord   identity.RefreshToken
}

func (s *Server) mintPair(grant identity.GrantID, scopes []string) (pair, error) {
	access, accessDigest, err := s.mint(accessPrefix)
	if err != nil {
		return pair{}, err
	}
	refresh, refreshDigest, err := s.mint(refreshPrefix)
	if err != nil {
		return pair{}, err
	}
	now := s.Now()
	return pair{
		access: access, refresh: refresh,
		accessRecord:  identity.AccessToken{Digest: accessDigest, Grant: grant, Scopes: scopes, Issued: now, Expires: now.Add(s.AccessLifetime)},
		refreshRecord: identity.RefreshToken{Digest: refreshDigest, Grant: grant, Issued: now, Expires: now.Add(s.RefreshLifetime)},
	}, nil
}

func (s *Server) answer(p pair) tokenAnswer {
	return tokenAnswer{
		AccessToken: p.access.Reveal(), TokenType: "Bearer", ExpiresIn: int64(s.AccessLifetime.Seconds()),
		RefreshToken: p.refresh.Reveal(), Scope: strings.Join(p.accessRecord.Scopes, " "),
	}
}

// issue keeps the first tokens of a grant and answers with them.
func (s *Server) issue(ctx context.Context, client identity.Client, grantID identity.GrantID, how signedIn) (tokenAnswer, *oauthError) {
	grant, err := s.Grants.Grant(ctx, grantID)
	if err != nil {
		return tokenAnswer{}, s.storeFault("find grant", err)
	}
	person, fault := s.personActive(ctx, grant)
	if fault != nil {
		return tokenAnswer{}, fault
	}
	id, err := s.idToken(ctx, grant, person, how)
	if err != nil {
		return tokenAnswer{}, s.storeFault("make ID token", err)
	}
	tokens, err := s.mintPair(grant.ID, grant.Scopes)
	if err != nil {
		return tokenAnswer{}, s.storeFault("mint tokens", err)
	}
	if !client.Allows(identity.RefreshGrant) {
		tokens.refresh, tokens.refreshRecord = secret.String{}, identity.RefreshToken{}
	}
	if err := s.Tokens.Issue(ctx, tokens.accessRecord, tokens.refreshRecord); err != nil {
		return tokenAnswer{}, s.storeFault("issue tokens", err)
	}
	s.Log.Info("tokens issued", "grant", grant.ID, "person", grant.Person, "client", client.ID, "scopes", grant.Scopes)
	answer := s.answer(tokens)
	answer.IDToken = id
	return answer, nil
}

// personActive refuses the grants of people who are gone or disabled.
func (s *Server) personActive(ctx context.Context, grant identity.Grant) (identity.Person, *oauthError) {
	person, err := s.People.Person(ctx, grant.Person)
	if err != nil {
		return person, s.storeFault("find person", err)
	}
	if !person.Disabled.IsZero() {
		s.Log.Info("token refused", "reason", "person disabled", "grant", grant.ID, "person", grant.Person)
		return person, invalidGrant("the grant is not in force")
	}
	return person, nil
}

// storeFault turns what a store said into an answer. Only a definite "no" may be
// invalid_grant, on which clients throw their refresh token away; a store that is out
// of order must not cost everybody their sign-in.
func (s *Server) storeFault(what string, err error) *oauthError {
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrRevoked) {
		s.Log.Info("token refused", "step", what, "reason", err.Error())
		return invalidGrant("the grant is not in force")
	}
	s.Log.Error("token endpoint", "step", what, "error", err)
	return serverError()
}

// revokeFamily ends a grant because of what was seen, and returns the answer. When that is
// impossible just now it is "later": whoever has a right to the family comes again then and
// has it ended, and would not after a "no".
func (s *Server) revokeFamily(ctx context.Context, id identity.GrantID, client identity.ClientID, reason string, no *oauthError) *oauthError {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	grant, err := s.Grants.Grant(ctx, id)
	if err == nil {
		err = s.endGrant(ctx, grant, reason, reason)
	}
	if errors.Is(err, identity.ErrNotFound) {
		return no
	}
	if err != nil {
		s.Log.Error("revoke grant", "grant", id, "error", err)
		return serverError()
	}
	s.Log.Warn("grant revoked", "grant", id, "client", client, "reason", reason)
	return no
}

// afterwards is for what has to be done though whoever asked has hung up: a replay that is
// seen must end the family all the same, and the mail servers must learn of each end.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// endGrant ends a grant in force, with the line of the audit trail by which the mail servers
// learn that sessions which it opened are over. Of any number of calls one ends it.
func (s *Server) endGrant(ctx context.Context, grant identity.Grant, reason, told string) error {
	name := s.calledBy(ctx, grant.Client)
	return s.together(ctx, func(ctx context.Context) error {
		now, err := s.Grants.Grant(ctx, grant.ID)
		if err != nil || !now.Revoked.IsZero() {
			return err
		}
		if err := s.Grants.RevokeGrant(ctx, grant.ID, s.Now(), reason); err != nil {
			return err
		}
		return s.noteEnd(ctx, grant.Person, name, told)
	})
}

// calledBy is what the audit trail calls a program.
func (s *Server) calledBy(ctx context.Context, id identity.ClientID) string {
	if client, ok := s.Named(ctx, id); ok {
		return client.Name
	}
	return "a program"
}

// noteEnd writes the end of a grant into the audit trail.
func (s *Server) noteEnd(ctx context.Context, person identity.PersonID, name, reason string) error {
	return s.note(ctx, identity.Event{Kind: "grant.revoked", Person: person, Actor: "authorization server", Detail: name + ": " + reason})
}
