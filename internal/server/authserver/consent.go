package authserver

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// consent takes the answer of the consent page. The form carries the whole request
// and a token over it: nothing is kept between page and answer, so that two instances
// need share no more than the key. The request is checked again from the start.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) {
	in, ok := pageForm(w, r)
	if !ok {
		return
	}
	session, ok := s.SignIn.SignedIn(r)
	if !ok || !s.formKey.Valid(in["token"], session.ID, "consent", in["request"]) {
		web.Fault(w, http.StatusForbidden, "This form is not from your current session.", "Start again from the program that sent you here.")
		return
	}
	request, err := s.parseAuthRequest(r.Context(), in["request"])
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	if _, err := s.activePerson(r, session); err != nil {
		s.answerFault(w, r, err)
		return
	}
	if in["decision"] != "allow" {
		s.answerFault(w, r, &redirectError{request: request, code: "access_denied", description: "the person said no", decided: true})
		return
	}
	if session.Unproved { // the page was open for longer than a proof is fresh
		s.prove(w, r, s.path+"/authorize?"+in["request"])
		return
	}
	if in["limit"] == ScopeSendOnly && canSend(request.Scopes) {
		request.Scopes = onlySend(request.Scopes)
	}
	code, err := s.addCode(r, session, request)
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	s.redirect(w, r, request, url.Values{"code": {code}})
}

// addCode keeps the consent, with its line of the audit trail, and returns the code that
// stands for it.
func (s *Server) addCode(r *http.Request, session Session, request authRequest) (string, error) {
	grant, err := s.newGrant(session, request.Client, request.Scopes)
	if err != nil {
		return "", err
	}
	code, record, err := s.newCode(session, request, grant.ID)
	if err != nil {
		return "", err
	}
	err = s.together(r.Context(), func(ctx context.Context) error {
		if err := s.Codes.AddCode(ctx, grant, record); err != nil {
			return err
		}
		return s.noteGrant(ctx, r, grant, request.Client)
	})
	if err != nil {
		return "", err
	}
	s.Log.Info("consent given", "grant", grant.ID, "person", grant.Person, "client", grant.Client, "scopes", grant.Scopes)
	return code.Reveal(), nil
}

// addCodeAgain returns a further code of a grant.
func (s *Server) addCodeAgain(r *http.Request, session Session, request authRequest, grant identity.GrantID) (string, error) {
	code, record, err := s.newCode(session, request, grant)
	if err != nil {
		return "", err
	}
	if err := s.Codes.AddCodeAgain(r.Context(), record); err != nil {
		return "", err
	}
	s.Log.Info("allowed before", "grant", grant, "person", session.Person, "client", request.Client.ID)
	return code.Reveal(), nil
}

func (s *Server) newCode(session Session, request authRequest, grant identity.GrantID) (secret.String, identity.Code, error) {
	code, codeDigest, err := s.mint(codePrefix)
	return code, identity.Code{
		Digest: codeDigest, Grant: grant, Client: request.Client.ID, RedirectURI: request.RedirectURI,
		Challenge: request.Challenge, Nonce: request.Nonce, AuthTime: session.At, Expires: s.Now().Add(s.CodeLifetime),
	}, err
}

func (s *Server) newGrant(session Session, client identity.Client, scopes []string) (identity.Grant, error) {
	id, err := s.newID()
	return identity.Grant{
		ID: identity.GrantID(id), Person: session.Person, Client: client.ID, Scopes: scopes, Created: s.Now(),
	}, err
}

// noteGrant writes a consent into the audit trail. A registered client's id is as long as
// its registration: its name stands for it.
func (s *Server) noteGrant(ctx context.Context, r *http.Request, grant identity.Grant, client identity.Client) error {
	return s.note(ctx, identity.Event{Kind: "grant.given", Person: grant.Person, Actor: string(grant.Person), From: s.remoteAddr(r),
		Detail: client.Name + ": " + strings.Join(grant.Scopes, " ")})
}

// pageForm reads a form of one of our pages.
func pageForm(w http.ResponseWriter, r *http.Request) (params, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		in, twice, err := parseForm(string(body))
		if err == nil && len(twice) == 0 {
			return in, true
		}
	}
	web.Fault(w, http.StatusBadRequest, "The form arrived damaged.", "Start again from the program that sent you here.")
	return nil, false
}
