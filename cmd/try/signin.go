package main

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A signin stands for how people prove who they are. Here whoever sits at this
// computer may be you@try.test; package signin of letterlockd asks for proof.
type signin struct {
	mu       sync.Mutex
	sessions map[string]authserver.Session
}

func newSignin() *signin { return &signin{sessions: map[string]authserver.Session{}} }

const cookieName = "try_session"

// SignedIn finds the session of the browser's cookie.
func (s *signin) SignedIn(r *http.Request) (authserver.Session, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return authserver.Session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.sessions[cookie.Value]
	return session, ok
}

// Begin sends the browser to the sign-in page.
func (s *signin) Begin(w http.ResponseWriter, r *http.Request, back string) {
	http.Redirect(w, r, "/signin?back="+url.QueryEscape(back), http.StatusSeeOther)
}

var signinPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Sign in at try.test", `
<p>This is a mail provider on your own computer, made for this trial. A real one would ask for your second factor now.</p>
<form method="post" action="/signin"><input type="hidden" name="back" value="{{.Back}}">
<button name="who" value="{{.Address}}">I am {{.Address}}</button></form>`)
})

func (s *signin) page(w http.ResponseWriter, r *http.Request) {
	back := r.URL.Query().Get("back")
	if !web.LocalPath(back) {
		web.Fault(w, http.StatusBadRequest, "This link is not one of ours.", "Start again with make try.")
		return
	}
	signinPage().Show(w, http.StatusOK, struct{ Back, Address string }{back, address})
}

// submit makes a session with a new id and goes back to where the person came from.
func (s *signin) submit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	back := r.PostFormValue("back")
	if !web.LocalPath(back) || r.PostFormValue("who") != address {
		web.Fault(w, http.StatusBadRequest, "The form arrived damaged.", "Start again with make try.")
		return
	}
	id := rand.Text()
	s.mu.Lock()
	s.sessions[id] = authserver.Session{ID: id, Person: personID, At: time.Now()}
	s.mu.Unlock()
	// Without Secure: this is http on loopback, where some browsers would drop it.
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, back, http.StatusSeeOther)
}
