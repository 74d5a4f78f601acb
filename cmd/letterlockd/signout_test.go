package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// twin is a visitor with the same cookies, of whoever took them before a log-out.
func (v *visitor) twin() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		v.h.t.Fatal(err)
	}
	at, err := url.Parse(v.h.public)
	if err != nil {
		v.h.t.Fatal(err)
	}
	jar.SetCookies(at, v.client.Jar.Cookies(at))
	return &visitor{h: v.h, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

func (v *visitor) post(path string, form url.Values) *visitor {
	v.h.t.Helper()
	return v.take(v.client.PostForm(v.h.public+path, form))
}

// A sign-in whose second factor is awaited does not outlive a log-out of the browser, nor the
// end of what it stands on at the provider: who sits there next has the code, perhaps, and
// would need nothing else.
func TestHalfSignInEnds(t *testing.T) {
	h := newHall(t, "")
	v := h.visitor()
	v.github().want(200, "/")
	seed := v.app()
	half := func() *visitor {
		t.Helper()
		h.later += time.Minute // codes are good once
		v := h.visitor()
		v.github().want(200, "/signin/factor", "One step more")
		return v
	}
	closed := func(what string, v *visitor) {
		t.Helper()
		t.Log(what)
		v.get("/signin/factor").want(403, "/signin/factor").post("/signin/factor", url.Values{"code": {h.code(seed)}}).want(403, "/signin/factor")
		v.get("/addresses").want(200, "/signin")
	}

	// The page of the portal.
	v = half()
	thief := v.twin()
	v.post("/signout", url.Values{}).want(200, "/signout")
	closed("after the log-out", v)
	closed("after the log-out, with the cookies of before", thief)

	// A program's log-out, while a session is there and a second sign-in is half done.
	v = half()
	v.send("/signin/factor", "code", h.code(seed)).want(200, "/")
	h.later += time.Minute
	v.get("/signin/github").want(200, "/signin/factor")
	thief = v.twin()
	v.get("/end_session").want(200, "/end_session", "asks to sign you out")
	v.send("/end_session/confirm").want(200, "/end_session/confirm", "You are signed out")
	closed("after a program's log-out", v)
	closed("after a program's log-out, with the cookies of before", thief)
	if trail := h.trail("signout"); !strings.Contains(trail, "ann@example.org") || !strings.Contains(trail, "asked for by") {
		t.Errorf("the trail says\n%s", trail)
	}

	// The provider's word, for the account; and a sign-in after it.
	_, _, bindings := h.person("ann@example.org")
	db, err := h.p.store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end := func(session, subject string) {
		t.Helper()
		if err := signin.EndHalves(t.Context(), db, bindings[0].Issuer, session, subject, h.p.now()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second logout counts too
		v = half()
		end("", "8")
		end("another", "7") // a session by which nobody came
		v.get("/signin/factor").want(200, "/signin/factor")
		end("", "7")
		closed("after the provider's word", v)
	}
	half().send("/signin/factor", "code", h.code(seed)).want(200, "/")
}
