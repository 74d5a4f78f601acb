package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// An authRequest is a checked authorization request (RFC 6749 section 4.1.1).
type authRequest struct {
	Client      identity.Client
	RedirectURI string
	State       string
	Scopes      []string
	Challenge   string
	Nonce       string
	Prompt      string
	Hint        string // id_token_hint: who is expected at the browser
	// Since: who signed in before has to prove it once more (max_age, prompt=login);
	// zero: whoever is signed in.
	Since time.Time
}

// A pageError is a fault that must not be sent to the redirect URI, since that is
// what cannot be trusted (RFC 6749 section 4.1.2.1).
type pageError struct{ what, hint string }

func (e *pageError) Error() string { return e.what }

// A redirectError goes back to the client, see mayBounce.
type redirectError struct {
	request     authRequest
	code        string
	description string
	decided     bool // a person has seen the page and answered
}

func (e *redirectError) Error() string { return e.code + ": " + e.description }

// parseAuthRequest checks the query of an authorization request. First who asks and
// where the answer may go; only then are faults answered there.
func (s *Server) parseAuthRequest(ctx context.Context, query string) (authRequest, error) {
	var request authRequest
	if len(query) > maxQuery {
		return request, &pageError{"The request is too long.", ""}
	}
	in, twice, err := parseParams(query)
	if err != nil || slices.Contains(twice, "client_id") || slices.Contains(twice, "redirect_uri") {
		return request, &pageError{"The program sent a malformed request.", "Update the program, or tell its makers."}
	}
	client, err := s.client(ctx, in["client_id"])
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return request, fmt.Errorf("find client: %w", err)
	}
	if err != nil {
		return request, &pageError{"This server does not know the program that sent you here.", "Check the client id in its settings."}
	}
	// RFC 9700 section 2.1. Never defaulted, not even to the only one registered: the
	// code is bound to what was asked for, and a client that names nothing is confused.
	if !redirectAllowed(client, in["redirect_uri"]) {
		return request, &pageError{"The program wants the answer sent to a place that is not registered for it.", "Nothing was allowed."}
	}
	request = authRequest{Client: client, RedirectURI: in["redirect_uri"], State: in["state"], Challenge: in["code_challenge"], Nonce: in["nonce"], Prompt: in["prompt"], Hint: in["id_token_hint"]}
	if slices.Contains(twice, "state") {
		request.State = ""
	}
	fail := func(code, description string) (authRequest, error) {
		return request, &redirectError{request: request, code: code, description: description}
	}
	if len(twice) > 0 {
		return fail("invalid_request", "a parameter came twice")
	}
	if code, description := unsupported(in, client); code != "" {
		return fail(code, description)
	}
	var ok bool
	if request.Scopes, ok = s.grantScopes(in["scope"]); ok {
		request.Scopes = allowedScopes(client, request.Scopes)
	}
	if !ok || !useful(request.Scopes) {
		return fail("invalid_scope", "none of the scopes can be had here")
	}
	if request.Since, ok = s.provedSince(in); !ok {
		return fail("invalid_request", "max_age is not a number of seconds")
	}
	return request, nil
}

// redirectAllowed says whether an answer may go to uri.
func redirectAllowed(client identity.Client, uri string) bool {
	if client.ID == OpenClient {
		return ownComputer(uri)
	}
	return matchRedirect(client.RedirectURIs, uri)
}

// provedSince reads how fresh the sign-in has to be. Our own "since" stands for a demand
// that was obeyed: who has signed in since then need not do it again, or max_age=0 would
// never end. The person may change it, and lies then to themselves, for the client sees
// auth_time in the ID token.
func (s *Server) provedSince(in params) (time.Time, bool) {
	if slices.Contains(strings.Fields(in["prompt"]), "login") {
		return s.Now(), true
	}
	if seconds, err := strconv.ParseInt(in["since"], 10, 64); err == nil && !time.Unix(seconds, 0).After(s.Now()) {
		return time.Unix(seconds, 0), true
	}
	if in["max_age"] == "" {
		return time.Time{}, true
	}
	seconds, err := strconv.ParseUint(in["max_age"], 10, 31)
	return s.Now().Add(-time.Duration(seconds) * time.Second), err == nil
}

// unsupported names the first thing that this server does not do.
func unsupported(in params, client identity.Client) (code, description string) {
	switch {
	case in["request"] != "":
		return "request_not_supported", "request objects are not supported"
	case in["request_uri"] != "":
		return "request_uri_not_supported", "request objects are not supported, and pushed requests come once"
	case in["response_type"] == "":
		return "invalid_request", "response_type is missing"
	case in["response_type"] != "code":
		return "unsupported_response_type", "want response_type=code"
	case in["response_mode"] != "" && in["response_mode"] != "query":
		return "invalid_request", "want response_mode=query"
	case !client.Allows(identity.AuthorizationCode):
		return "unauthorized_client", "this client may not use authorization codes"
	case in["code_challenge"] == "" && in["code_challenge_method"] == "" && client.WithoutPKCE && client.Confidential():
	case in["code_challenge"] == "":
		return "invalid_request", "PKCE is required: code_challenge is missing"
	case in["code_challenge_method"] != "S256":
		// An absent method means plain (RFC 7636 section 4.3), which proves nothing
		// to whoever read the request.
		return "invalid_request", "want code_challenge_method=S256"
	case !validChallenge(in["code_challenge"]):
		return "invalid_request", "code_challenge is not an S256 challenge"
	}
	return "", ""
}

// authorize is the authorization endpoint. OpenID Connect Core section 3.1.2.1 wants POST
// beside GET; what comes that way from another site has no session of ours with it.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	query, err := s.authQuery(w, r)
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	request, err := s.parseAuthRequest(r.Context(), query)
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	session, ok := s.SignIn.SignedIn(r)
	stale := ok && (session.At.Before(request.Since.Truncate(time.Second)) || !s.expected(r, request, session))
	silent := request.prompts("none")
	if !ok || stale {
		if silent {
			s.answerFault(w, r, &redirectError{request: request, code: "login_required", description: "a person has to sign in"})
			return
		}
		s.signInFirst(w, r, query, request, ok)
		return
	}
	person, err := s.activePerson(r, session)
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	if s.answerAgain(w, r, session, request) {
		return
	}
	if silent {
		s.answerFault(w, r, &redirectError{request: request, code: "consent_required", description: "a person has to decide"})
		return
	}
	if session.Unproved {
		s.prove(w, r, s.path+"/authorize?"+query)
		return
	}
	consentPage().Show(w, http.StatusOK, consentView{
		Action: s.path + "/consent", Client: request.Client, Address: person.Address, Lines: scopeLines(request.Scopes),
		OfferSendOnly: canSend(request.Scopes), Target: targetOf(request.RedirectURI),
		Request: query, Token: s.formKey.Token(session.ID, "consent", query),
	}, request.RedirectURI)
}

// prove sends the browser to prove what a decision takes, and then back.
func (s *Server) prove(w http.ResponseWriter, r *http.Request, back string) {
	if s.Prove == nil {
		web.Fault(w, http.StatusForbidden, "This wants a fresh proof that it is you.", "Sign out, sign in again, and start again from the program.")
		return
	}
	s.Prove(w, r, back)
}

// expected reports whether the person is the one whose ID token the program holds (OpenID
// Connect Core section 3.1.2.1). One that we did not make says nothing.
func (s *Server) expected(r *http.Request, request authRequest, session Session) bool {
	if request.Hint == "" || s.ids == nil {
		return true
	}
	claims, ok := s.ownIDToken(r, request.Hint)
	return !ok || claims.Subject == string(session.Person)
}

// prompts reports whether the prompt parameter has a word.
func (a authRequest) prompts(word string) bool {
	return slices.Contains(strings.Fields(a.Prompt), word)
}

// answerAgain gives a program a further code when the person has allowed it as much
// already, so that a web mail's second sign-in asks nothing and leaves no second entry on
// the person's page. Only one that an administrator entered and that proves who it is by a
// secret: of all others it cannot be known who asks (RFC 8252 section 8.6), and a person
// decides each time.
func (s *Server) answerAgain(w http.ResponseWriter, r *http.Request, session Session, request authRequest) bool {
	if !request.Client.Confidential() || !request.Client.Verified || request.prompts("consent") || request.prompts("select_account") {
		return false
	}
	grants, err := s.Grants.GrantsOf(r.Context(), session.Person)
	if err != nil {
		s.answerFault(w, r, fmt.Errorf("find grants: %w", err))
		return true
	}
	for _, grant := range grants {
		if grant.Client != request.Client.ID || !grant.Revoked.IsZero() || grant.ID == request.Client.Consent || !sameScopes(grant.Scopes, request.Scopes) {
			continue
		}
		code, err := s.addCodeAgain(r, session, request, grant.ID)
		if errors.Is(err, identity.ErrRevoked) {
			return false // a moment ago
		}
		if err != nil {
			s.answerFault(w, r, err)
			return true
		}
		s.redirect(w, r, request, url.Values{"code": {code}})
		return true
	}
	return false
}

// sameScopes: a token of a grant has the grant's scopes, so that more would be more than
// is asked for now.
func sameScopes(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// signInFirst sends the browser to sign in and then back to the same request, in which
// prompt=login has become what it means: not before now.
func (s *Server) signInFirst(w http.ResponseWriter, r *http.Request, query string, request authRequest, again bool) {
	if !request.Since.IsZero() || request.Hint != "" {
		values, err := url.ParseQuery(query)
		if err != nil {
			s.answerFault(w, r, err)
			return
		}
		values.Set("prompt", strings.TrimSpace(strings.ReplaceAll(" "+request.Prompt+" ", " login ", " ")))
		if !request.Since.IsZero() {
			values.Set("since", strconv.FormatInt(s.Now().Unix(), 10))
		}
		// Who comes back as somebody else was told so by the page of sign-in; asked for
		// again and again nobody could leave.
		values.Del("id_token_hint")
		query = values.Encode()
	}
	back := s.path + "/authorize?" + query
	if again && s.Again != nil {
		s.Again(w, r, back)
		return
	}
	s.SignIn.Begin(w, r, back)
}

// authQuery is the request as it was sent: in the address, in a form, or pushed before.
func (s *Server) authQuery(w http.ResponseWriter, r *http.Request) (string, error) {
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
		if err != nil || query != "" {
			return "", &pageError{"The program sent a malformed request.", "Update the program, or tell its makers."}
		}
		query = string(body)
	}
	return s.pushed(r.Context(), query)
}

// activePerson finds the signed-in person, who may have been disabled since.
func (s *Server) activePerson(r *http.Request, session Session) (identity.Person, error) {
	person, err := s.People.Person(r.Context(), session.Person)
	switch {
	case errors.Is(err, identity.ErrNotFound) || err == nil && !person.Disabled.IsZero():
		return person, &pageError{"Your account is not active here.", "Ask your administrator."}
	case err != nil:
		s.Log.Error("find person", "error", err)
		return person, &pageError{"The server cannot look up your account now.", "Try again in a minute."}
	}
	return person, nil
}

// answerFault shows a fault to the person or sends it to the client.
func (s *Server) answerFault(w http.ResponseWriter, r *http.Request, err error) {
	var back *redirectError
	if errors.As(err, &back) {
		s.Log.Info("authorization refused", "client", back.request.Client.ID, "error", back.code, "reason", back.description)
		if !back.decided && !mayBounce(back.request) {
			web.Fault(w, http.StatusBadRequest, "The program that sent you here asked for something that cannot be: "+back.description+".", "Nothing was allowed. It answers to "+targetOf(back.request.RedirectURI)+", which nobody here has checked.")
			return
		}
		s.redirect(w, r, back.request, url.Values{"error": {back.code}, "error_description": {back.description}})
		return
	}
	var page *pageError
	if errors.As(err, &page) {
		s.Log.Info("authorization refused", "reason", page.what)
		web.Fault(w, http.StatusBadRequest, page.what, page.hint)
		return
	}
	s.Log.Error("authorization", "error", err)
	web.Fault(w, http.StatusServiceUnavailable, "The server cannot do this now.", "Try again in a minute.")
}

// mayBounce says whether a browser may be sent on before a person has looked. Anybody
// can register a web site as a program, and a link to us that leads there by itself
// would lend it our name (RFC 9700 section 4.11.2). Programs on the person's own
// computer, and clients that an administrator entered, get their errors at once.
func mayBounce(request authRequest) bool {
	scheme, _, _ := strings.Cut(request.RedirectURI, ":")
	return request.Client.Verified || !strings.EqualFold(scheme, "https")
}

// redirect sends an authorization response. 303, because after 307 the browser would
// repeat the POST, form and all, to the client (RFC 9700 section 4.12); iss always,
// errors too (RFC 9207 section 2).
func (s *Server) redirect(w http.ResponseWriter, _ *http.Request, request authRequest, answer url.Values) {
	if request.State != "" {
		answer.Set("state", request.State)
	}
	answer.Set("iss", s.Issuer)
	w.Header().Set("Location", withQuery(request.RedirectURI, answer))
	w.WriteHeader(http.StatusSeeOther)
}
