package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A sign-in goes over two hosts:
//
//	gateway  /anything        sets a secret of this browser, and goes to
//	pages    /gateway/NAME    with the digest of it; who is signed in gets a code for
//	                          exactly that digest, and goes to
//	gateway  /__letterlock/in which takes the code from the browser that has the secret
//
// A code that is stolen or planted is worth nothing in another browser, and is taken once.

const (
	beginLife    = 15 * time.Minute
	codeLife     = time.Minute
	handoverKind = "gateway.handover"
)

// pagesPath is where the pages hand over.
const pagesPath = "/gateway/"

// A handover is what stands behind a code.
type handover struct {
	Person identity.PersonID `json:"person"`
	Began  time.Time         `json:"began"`
	Back   string            `json:"back"`
}

func commitment(begin string) string {
	sum := sha256.Sum256([]byte("letterlock gateway\n" + begin))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (g *Gateway) codeKey(commit, code string) identity.Digest {
	return identity.DigestOf(strings.Join([]string{"gateway", g.o.Name, commit, code}, "\n"))
}

// depart sends the browser to sign in at the pages and back to a path here.
func (g *Gateway) depart(w http.ResponseWriter, r *http.Request, back string) {
	begin := g.cookie(r, beginCookie)
	if begin == "" { // several tabs begin with one
		var err error
		if begin, err = web.NewSecret(g.o.Random); err != nil {
			g.o.Log.Error("sign-in not begun", "error", err)
			g.later(w, r)
			return
		}
	}
	g.setCookie(w, beginCookie, begin, beginLife)
	query := url.Values{"state": {commitment(begin)}}
	if web.LocalPath(back) && back != "/" && len(back) < 4<<10 {
		query.Set("back", back)
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, g.o.PagesURL+pagesPath+g.o.Name+"?"+query.Encode(), http.StatusSeeOther)
}

// Register adds the hand-over to the pages. It stands behind web.Sessions.Handler.
func (g *Gateway) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pagesPath+g.o.Name, g.handOver)
}

// handOver answers at the pages.
func (g *Gateway) handOver(w http.ResponseWriter, r *http.Request) {
	remote := g.o.Proxies.Client(r)
	if g.refused(r.Context(), remote) {
		web.Fault(w, http.StatusForbidden, "The "+g.o.Title+" is not open to your network.", "Use it from a network that your administrator has named.")
		return
	}
	if g.o.Gate != nil && g.o.Gate.Ask(r.Context(), remote) {
		w.Header().Set("Retry-After", "60")
		web.Fault(w, http.StatusTooManyRequests, "Too many tries from your network.", "Wait some minutes and begin again.")
		return
	}
	commit, back, ok := readBegin(r.URL.RawQuery)
	if !ok {
		http.Redirect(w, r, g.o.PublicURL+"/", http.StatusSeeOther) // begin there
		return
	}
	here := pagesPath + g.o.Name + "?" + url.Values{"state": {commit}, "back": {back}}.Encode()
	session, person, ok := g.o.Browser.Current(r)
	if !ok {
		g.o.SignIn(w, r, here, false)
		return
	}
	closed, err := g.closedSince(r, session)
	if err != nil {
		g.o.Log.Error("grants not looked up", "error", err)
		web.Later(w)
		return
	}
	if closed {
		// The person closed this web mail on their page. Who has the browser must prove
		// anew who they are, or a revocation would last as long as one click.
		g.o.SignIn(w, r, here, true)
		return
	}
	code, err := g.makeCode(r, commit, handover{Person: person.ID, Began: session.Created, Back: back})
	if err != nil {
		g.o.Log.Error("web mail not handed over", "error", err)
		web.Later(w)
		return
	}
	http.Redirect(w, r, g.o.PublicURL+ownPath+"in?code="+code, http.StatusSeeOther)
}

// readBegin reads what depart wrote.
func readBegin(raw string) (commit, back string, ok bool) {
	if len(raw) > 16<<10 {
		return "", "", false
	}
	query, err := url.ParseQuery(raw)
	if err != nil || len(query["state"]) != 1 || len(query["back"]) > 1 {
		return "", "", false
	}
	commit, back = query.Get("state"), query.Get("back")
	if digest, err := base64.RawURLEncoding.Strict().DecodeString(commit); err != nil || len(digest) != sha256.Size {
		return "", "", false
	}
	if !web.LocalPath(back) || strings.HasPrefix(back, ownPath) {
		back = "/"
	}
	return commit, back, true
}

// closedSince reports whether the person revoked this web mail after they last proved who
// they are.
func (g *Gateway) closedSince(r *http.Request, session identity.Session) (bool, error) {
	grants, err := g.o.Store.GrantsOf(r.Context(), session.Person)
	if err != nil {
		return false, err
	}
	for _, grant := range grants {
		if grant.Client == identity.GatewayClient(g.o.Name) && grant.Revoked.After(session.Proved) {
			return true, nil
		}
	}
	return false, nil
}

func (g *Gateway) makeCode(r *http.Request, commit string, h handover) (string, error) {
	code, err := web.NewSecret(g.o.Random)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("keep hand-over: %w", err)
	}
	if err := g.o.Store.PutOnce(r.Context(), g.codeKey(commit, code), handoverKind, data, g.o.Now().Add(codeLife)); err != nil {
		return "", fmt.Errorf("keep hand-over: %w", err)
	}
	return code, nil
}

// arrive takes the code at the gateway's host.
func (g *Gateway) arrive(w http.ResponseWriter, r *http.Request) {
	code, begin := r.URL.Query().Get("code"), g.cookie(r, beginCookie)
	if len(code) != secretLength || begin == "" {
		g.again(w)
		return
	}
	err := g.open(w, r, g.codeKey(commitment(begin), code))
	switch {
	case errors.Is(err, errNoCode):
		// Pressing "back", or a second tab. Who has a session simply goes on.
		if e, err := g.sessions.find(r.Context(), g.cookie(r, sessionCookie)); err == nil && e != nil {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		g.again(w)
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrRevoked):
		g.again(w)
	case err != nil:
		g.o.Log.Error("web mail session not opened", "gateway", g.o.Name, "error", err)
		g.later(w, r)
	}
}

// errNoCode: there is no such code, or there was.
var errNoCode = errors.New("no hand-over")

// open takes the code and makes the session of this host. Its id is always new.
func (g *Gateway) open(w http.ResponseWriter, r *http.Request, key identity.Digest) error {
	value, err := web.NewSecret(g.o.Random)
	if err != nil {
		return err
	}
	id, err := web.NewSecret(g.o.Random)
	if err != nil {
		return err
	}
	var h handover
	var m identity.MailSession
	err = g.o.Store.Together(r.Context(), func(ctx context.Context) (err error) {
		if h, err = g.takeCode(ctx, key); err != nil {
			return err
		}
		m, err = g.admit(ctx, r, h, identity.DigestOf(value), identity.GrantID(id[:22]))
		return err
	})
	if old := g.cookie(r, sessionCookie); old != "" {
		g.sessions.drop(identity.DigestOf(old))
	}
	if err != nil {
		return err
	}
	// What the web mail left in this browser was another session's.
	g.clearCookies(w, r)
	g.setCookie(w, beginCookie, "", -1)
	g.setCookie(w, sessionCookie, value, m.Expires.Sub(m.Created))
	http.Redirect(w, r, h.Back, http.StatusSeeOther)
	return nil
}

func (g *Gateway) takeCode(ctx context.Context, key identity.Digest) (h handover, err error) {
	data, err := g.o.Store.TakeOnce(ctx, key, handoverKind, g.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return h, errNoCode
	}
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return h, fmt.Errorf("take hand-over: %w", err)
	}
	return h, nil
}

// admit keeps the session, with its line of the audit trail: nobody comes in unseen. The one
// that the browser had here ends.
func (g *Gateway) admit(ctx context.Context, r *http.Request, h handover, id identity.Digest, grantID identity.GrantID) (identity.MailSession, error) {
	now := g.o.Now()
	m := identity.MailSession{ID: id, Gateway: g.o.Name, Person: h.Person, Began: h.Began, Created: now, Seen: now, Expires: h.Began.Add(g.o.Life)}
	if err := g.endOld(ctx, r); err != nil {
		return m, err
	}
	grant := identity.Grant{ID: grantID, Person: h.Person, Client: identity.GatewayClient(g.o.Name), Scopes: g.o.scopes(), Created: now}
	m, err := g.o.Store.OpenMailSession(ctx, m, grant)
	if err != nil {
		return m, fmt.Errorf("open mail session: %w", err)
	}
	return m, g.event(ctx, r, "webmail.opened", h.Person)
}

// endOld ends the session that the browser had here: an id that somebody planted is worth
// nothing afterwards.
func (g *Gateway) endOld(ctx context.Context, r *http.Request) error {
	old := g.cookie(r, sessionCookie)
	if old == "" {
		return nil
	}
	if err := g.o.Store.EndMailSession(ctx, identity.DigestOf(old), g.o.Now(), false); err != nil {
		return fmt.Errorf("end the session before: %w", err)
	}
	return nil
}

// event adds to the audit trail, in the transaction that does what it tells.
func (g *Gateway) event(ctx context.Context, r *http.Request, kind string, person identity.PersonID) error {
	err := g.o.Store.AddEvent(ctx, identity.Event{
		At: g.o.Now(), Kind: kind, Person: person, Actor: string(person), From: g.o.Proxies.Client(r), Detail: g.o.Name,
	})
	if err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}

var againPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("The sign-in was not finished", `<p>It took too long, was finished before, or began in another browser.</p><p><a href="/">Begin again</a></p>`)
})

func (g *Gateway) again(w http.ResponseWriter) { againPage().Show(w, http.StatusForbidden, nil) }

var outPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Signed out", `<p>This browser is signed out of {{.Title}} and of the pages of your account. At the place where you proved who you are you may still be signed in.</p>
<p><a href="/">Sign in again</a></p>`)
})

var askOutPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Sign out?", `<p>Another site has sent you here. Sign out of {{.Title}} only if you wanted to.</p>
<form method="post" action="`+ownPath+`out"><button>Sign out</button></form>`)
})

// leave ends the mail session, its tokens and the sign-in it stood on. The web mail's own
// log-out leads here.
func (g *Gateway) leave(w http.ResponseWriter, r *http.Request) {
	data := struct{ Title string }{g.o.Title}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		web.Fault(w, http.StatusMethodNotAllowed, "This address takes a click only.", "")
		return
	case r.Method == http.MethodPost && g.own.Check(r) != nil, site == "cross-site", site == "same-site":
		askOutPage().Show(w, http.StatusOK, data) // an image on another site must not do it
		return
	}
	value := g.cookie(r, sessionCookie)
	g.clearCookies(w, r)
	g.setCookie(w, sessionCookie, "", -1)
	g.setCookie(w, beginCookie, "", -1)
	if value != "" {
		if err := g.end(r, identity.DigestOf(value)); err != nil {
			g.o.Log.Error("web mail session not ended", "gateway", g.o.Name, "error", err)
			web.Fault(w, http.StatusServiceUnavailable, "The session could not be ended just now.", "This browser has forgotten it. Sign out again in a minute, to be sure.")
			return
		}
	}
	outPage().Show(w, http.StatusOK, data)
}

// end is one transaction with its line of the audit trail. A session that is not there has
// ended already, and what it stood on may have not.
func (g *Gateway) end(r *http.Request, id identity.Digest) error {
	// Afterwards, whatever came of it: who asked meanwhile was told that it goes on.
	defer g.sessions.drop(id)
	return g.o.Store.Together(r.Context(), func(ctx context.Context) error {
		session, _, err := g.o.Store.MailSession(ctx, id, g.o.Now())
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		there := err == nil
		if err := g.o.Store.EndMailSession(ctx, id, g.o.Now(), true); err != nil || !there {
			return err
		}
		return g.event(ctx, r, "webmail.closed", session.Person)
	})
}
