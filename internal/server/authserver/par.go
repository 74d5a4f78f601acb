package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	pushedPrefix   = "urn:ietf:params:oauth:request_uri:llpr_"
	pushedKind     = "pushed authorization request"
	pushedLifetime = time.Minute
)

type pushedAnswer struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// pushRequest is RFC 9126: a client leaves its request here and sends the browser with a
// reference, so that nothing of it passes through the browser on the way here.
func (s *Server) pushRequest(w http.ResponseWriter, r *http.Request) {
	in, fault := form(w, r)
	if fault == nil {
		var client identity.Client
		if client, fault = s.requestClient(w, r, in); fault == nil {
			var answer pushedAnswer
			if answer, fault = s.keepRequest(r, client, in); fault == nil {
				writeJSON(w, http.StatusCreated, answer)
				return
			}
		}
	}
	writeError(w, fault)
}

func (s *Server) keepRequest(r *http.Request, client identity.Client, in params) (pushedAnswer, *oauthError) {
	if in["request_uri"] != "" {
		return pushedAnswer{}, invalidRequest("request_uri in a pushed request") // RFC 9126 section 2.1
	}
	query := url.Values{}
	for name, value := range in {
		if name != "client_secret" && name != "client_assertion" && name != "client_assertion_type" {
			query.Set(name, value)
		}
	}
	query.Set("client_id", string(client.ID))
	text := query.Encode()
	if _, err := s.parseAuthRequest(r.Context(), text); err != nil {
		return pushedAnswer{}, s.pushedFault(err)
	}
	reference, digest, err := s.mint(pushedPrefix)
	if err == nil {
		err = s.Once.PutOnce(r.Context(), digest, pushedKind, []byte(text), s.Now().Add(pushedLifetime))
	}
	if err != nil {
		return pushedAnswer{}, s.storeFault("keep pushed request", err)
	}
	return pushedAnswer{reference.Reveal(), int64(pushedLifetime / time.Second)}, nil
}

// pushedFault says to the client what the page would have said to the person.
func (s *Server) pushedFault(err error) *oauthError {
	var back *redirectError
	var page *pageError
	switch {
	case errors.As(err, &back):
		return &oauthError{http.StatusBadRequest, back.code, back.description}
	case errors.As(err, &page):
		return invalidRequest(page.what)
	}
	return s.storeFault("check pushed request", err)
}

// pushed puts the request in place of its reference. It is taken once (RFC 9126 section
// 7.3), and is the same client's (section 4).
func (s *Server) pushed(ctx context.Context, query string) (string, error) {
	if s.Once == nil || !strings.Contains(query, "request_uri=") || len(query) > maxQuery {
		return query, nil
	}
	in, twice, err := parseParams(query)
	if err != nil || len(twice) > 0 || !strings.HasPrefix(in["request_uri"], pushedPrefix) {
		return query, nil // refused later, with the rest
	}
	over := &pageError{"What the program asked for is not known here, or no longer.", "Start again from the program that sent you here."}
	digest, ok := digest(in["request_uri"], pushedPrefix)
	if !ok {
		return "", over
	}
	kept, err := s.Once.TakeOnce(ctx, digest, pushedKind, s.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return "", over
	}
	if err != nil {
		return "", err
	}
	values, err := url.ParseQuery(string(kept))
	if err != nil || values.Get("client_id") != in["client_id"] {
		return "", over
	}
	return string(kept), nil
}
