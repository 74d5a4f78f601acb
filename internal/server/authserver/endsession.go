package authserver

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A farewell is a checked request of OpenID Connect RP-Initiated Logout 1.0.
type farewell struct {
	client string // name of the program, when it is known
	target string // where to go afterwards; empty: nowhere
	ours   bool   // there is a hint, of this server
	proven bool   // and it is about the person who sits there
}

var farewellPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Sign out?", `
<p>{{with .Client}}<strong>{{.}}</strong> asks to sign you out here.{{else}}A program asks to sign you out here.{{end}}
What you allowed programs stays as it is.</p>
<form method="post" action="{{.Action}}">
<input type="hidden" name="request" value="{{.Request}}"><input type="hidden" name="token" value="{{.Token}}">
<button>Sign out</button></form>`)
})

var farewellDonePage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Signed out", `<p>You are signed out here. You may close this page.</p>`)
})

// endSession signs the person out when a program proves by the ID token it holds that it
// is theirs; else the person is asked, or any site could sign people out (section 2).
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
		if err != nil {
			web.Fault(w, http.StatusBadRequest, "The program sent a malformed request.", "")
			return
		}
		query = string(body)
	}
	session, signedIn := s.SignIn.SignedIn(r)
	bye, ok := s.readFarewell(r, query, session)
	switch {
	case !ok:
		web.Fault(w, http.StatusBadRequest, "The program sent a malformed request.", "Nothing was done. You can sign out on your own page here.")
	case !signedIn && r.Method == http.MethodPost && s.crossCheck.Check(r) != nil:
		// Browsers keep our cookie from a form of another site, so that whoever is signed in
		// does not seem to be. They would read "signed out" and be signed in still. GET brings
		// the cookie along, and decides.
		s.endAgain(w, query)
	case !signedIn && bye.ours:
		s.signOut(w, r, session, bye, query) // a sign-in may be half done
	case !signedIn:
		s.leave(w, bye, query)
	case bye.proven:
		s.signOut(w, r, session, bye, query)
	default:
		targets := []string{}
		if bye.target != "" {
			targets = append(targets, bye.target)
		}
		farewellPage().Show(w, http.StatusOK, struct{ Client, Action, Request, Token string }{
			bye.client, s.path + "/end_session/confirm", query, s.formKey.Token(session.ID, "end session", query),
		}, targets...)
	}
}

// endAgain has a browser ask the same by GET.
func (s *Server) endAgain(w http.ResponseWriter, query string) {
	values, err := url.ParseQuery(query)
	if err != nil {
		web.Fault(w, http.StatusBadRequest, "The program sent a malformed request.", "")
		return
	}
	w.Header().Set("Location", s.path+"/end_session?"+values.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// sessionEnded takes the person's yes.
func (s *Server) sessionEnded(w http.ResponseWriter, r *http.Request) {
	in, ok := pageForm(w, r)
	if !ok {
		return
	}
	session, ok := s.SignIn.SignedIn(r)
	if !ok || !s.formKey.Valid(in["token"], session.ID, "end session", in["request"]) {
		web.Fault(w, http.StatusForbidden, "This form is not from your current session.", "")
		return
	}
	bye, ok := s.readFarewell(r, in["request"], session)
	if !ok {
		web.Fault(w, http.StatusBadRequest, "The program sent a malformed request.", "")
		return
	}
	s.signOut(w, r, session, bye, in["request"])
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request, session Session, bye farewell, query string) {
	detail := "asked for by a program that is not known"
	if bye.client != "" {
		detail = "asked for by " + bye.client
	}
	line := identity.Event{At: s.Now(), Kind: "signout", Person: session.Person, Actor: string(session.Person), From: s.remoteAddr(r), Detail: detail}
	if err := s.SignOut(w, r, line); err != nil {
		s.Log.Error("end session", "error", err)
		web.Later(w)
		return
	}
	s.leave(w, bye, query)
}

// leave sends the browser to where the program wants it, if that is registered for it.
func (s *Server) leave(w http.ResponseWriter, bye farewell, query string) {
	if bye.target == "" {
		farewellDonePage().Show(w, http.StatusOK, nil)
		return
	}
	back := url.Values{}
	if in, _, err := parseParams(query); err == nil && in["state"] != "" {
		back.Set("state", in["state"])
	}
	target := bye.target
	if len(back) > 0 {
		target = withQuery(target, back)
	}
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

// readFarewell checks a request. The hint may have expired: that is when people sign out.
func (s *Server) readFarewell(r *http.Request, query string, session Session) (farewell, bool) {
	var bye farewell
	in, twice, err := parseForm(query)
	if err != nil || len(twice) > 0 {
		return bye, false
	}
	id := in["client_id"]
	if hint := in["id_token_hint"]; hint != "" {
		claims, ok := s.ownIDToken(r, hint)
		if !ok || len(claims.Audience) != 1 || id != "" && id != claims.Audience[0] {
			return bye, false
		}
		id = claims.Audience[0]
		bye.ours = true
		bye.proven = claims.Subject == string(session.Person)
	}
	client, err := s.client(r.Context(), id)
	if err != nil {
		// Who is not known goes nowhere, and proves nothing.
		return farewell{}, in["post_logout_redirect_uri"] == ""
	}
	bye.client = client.Name
	if target := in["post_logout_redirect_uri"]; target != "" {
		if !slices.Contains(client.LogoutURIs, target) {
			return bye, false // section 3: never anywhere that is not registered
		}
		bye.target = target
	}
	return bye, true
}

// ownIDToken reads an ID token that this server signed.
func (s *Server) ownIDToken(r *http.Request, text string) (jwt.Claims, bool) {
	var claims jwt.Claims
	if len(text) > maxQuery || strings.Count(text, ".") != 2 {
		return claims, false
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return claims, false
	}
	keys, err := s.ids.current(r.Context())
	if err != nil {
		s.Log.Error("read signing keys", "error", err)
		return claims, false
	}
	for _, key := range keys {
		if token.Claims(key.public.Key, &claims) == nil {
			return claims, claims.Issuer == s.Issuer
		}
	}
	return claims, false
}
