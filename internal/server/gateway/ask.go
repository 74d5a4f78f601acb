package gateway

import (
	"errors"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Asked answers a web server that asks before each request (nginx auth_request) and hands it
// on itself. It listens on an address of its own that only that server reaches: its answer
// holds the token.
//
//	200  X-Letterlock-Authorization  for the Authorization header
//	     X-Letterlock-Cookie         for the Cookie header: ours are not in it
//	     X-Letterlock-User
//	     X-Letterlock-Session        a word for this session, by which the web mail can
//	                                 tell its own cookies from those of other sessions
//	401  send the request to the gateway's own address, which leads to the sign-in or says
//	     why not; if the server cannot do that, nobody comes through
//
// The request comes with the browser's headers, and with X-Original-URI, which the server
// must set and not hand through. There is no other answer, since auth_request makes of all
// others a bare page without a word.
func (g *Gateway) Asked() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		uri := r.Header.Get("X-Original-URI")
		path, query, ok := queryOf(uri)
		if !ok || g.refused(r.Context(), g.o.Proxies.Client(r)) || g.askedByOthers(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		watches := g.rules.watches(path)
		if g.rules.paths(path) || formOf(watches, query) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		e, err := g.sessions.find(r.Context(), g.cookie(r, sessionCookie))
		var t *ticket
		if err == nil && e != nil {
			t, err = g.sessions.provide(r.Context(), e)
		}
		switch {
		case errors.Is(err, identity.ErrNotFound), err == nil && e == nil:
			w.WriteHeader(http.StatusUnauthorized)
		case err != nil: // the gateway asks again, and says "later"
			g.o.Log.Error("web mail session not looked up", "gateway", g.o.Name, "error", err)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			head.Set("X-Letterlock-Authorization", t.basic.Reveal())
			head.Set("X-Letterlock-Cookie", plainCookies(r, watches))
			head.Set("X-Letterlock-User", e.state.Load().person.Address)
			head.Set("X-Letterlock-Session", newBinder(e.bind).seal(sessionCookie, ""))
			w.WriteHeader(http.StatusOK)
		}
	})
}

// askedByOthers reports whether another site made the browser send what is asked about: a
// form, a WebSocket, a script's request. The server in front asks by GET whatever came, but
// browsers name the Origin of all but plain requests. Sites beside ours of the same domain
// get our cookie sent along, SameSite or not.
func (g *Gateway) askedByOthers(r *http.Request) bool {
	if r.Header.Get("Origin") == "" {
		return false
	}
	form := r.Clone(r.Context())
	form.Method = http.MethodPost
	return g.own.Check(form) != nil
}

// plainCookies are the web mail's cookies where another server sets them: not bound. PHP
// takes parameters from cookies too, so that what the rules name is no cookie either.
func plainCookies(r *http.Request, watches []Rule) string {
	kept := http.Request{Header: http.Header{}}
	for _, c := range r.Cookies() {
		if !isOwn(c.Name) && !formOf(watches, c.Name+"="+c.Value) {
			kept.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	return kept.Header.Get("Cookie")
}

// elsewhere answers what the server in front should have handed on itself: the browser has a
// session, no rule names the request, and there is no upstream here. The server says in
// X-Letterlock-Asked what it was answered; the header changes the words and nothing else.
func (g *Gateway) elsewhere(w http.ResponseWriter, r *http.Request) {
	switch {
	case g.askedByOthers(r): // a WebSocket, of which no sign is left
		g.foreignFault(w, r)
	case r.Header.Get("X-Letterlock-Asked") == "200":
		g.failed(w, r, errNoEntry)
	default:
		g.later(w, r)
	}
}
