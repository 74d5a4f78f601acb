package web

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A SessionStore keeps the browsers that are signed in; it sees digests of ids only.
type SessionStore interface {
	// AddSession gives identity.ErrRevoked for a disabled person.
	AddSession(ctx context.Context, s identity.Session) error
	Session(ctx context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error)
	TouchSession(ctx context.Context, id identity.SessionID, at time.Time) error
	EndSession(ctx context.Context, id identity.SessionID) error
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// An Along is done in the transaction that starts or ends a session, with the context that
// it is given; its error undoes that. It may be called more than once.
type Along func(ctx context.Context) error

// SessionOptions shape Sessions. Lifetimes that are zero get the default named.
type SessionOptions struct {
	Store SessionStore
	// PublicURL is the origin people type. Its scheme decides on the cookie: http, which
	// is for loopback, cannot have a Secure one.
	PublicURL string
	Proxies   Proxies
	FormKey   FormKey

	Idle time.Duration // 12 h without a request
	Life time.Duration // 7 days since the sign-in

	Now    func() time.Time
	Random io.Reader // crypto/rand.Reader
	Log    *slog.Logger
}

// Sessions knows which browser is whose. Sessions live at the server and end there, at
// once; a browser holds nothing but 256 random bits, and the store nothing but their
// digest.
type Sessions struct {
	o      SessionOptions
	secure bool
}

const (
	defaultIdle = 12 * time.Hour
	defaultLife = 7 * 24 * time.Hour
	// touchPause keeps a busy page from writing at each request.
	touchPause = time.Minute
)

// NewSessions checks the options.
func NewSessions(o SessionOptions) (*Sessions, error) {
	u, err := url.Parse(o.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("sessions: public URL %q: want https://HOST", o.PublicURL)
	}
	if o.Store == nil || o.Now == nil || o.Random == nil || o.Log == nil || len(o.FormKey) < 16 {
		return nil, errors.New("sessions: a store, clock, randomness, log or form key is missing")
	}
	if o.Idle <= 0 {
		o.Idle = defaultIdle
	}
	if o.Life <= 0 {
		o.Life = defaultLife
	}
	return &Sessions{o: o, secure: u.Scheme == "https"}, nil
}

// sessionCookie is the name of the cookie before its prefix.
const sessionCookie = "letterlock"

// Cookie makes a cookie as all of ours are: for this host alone, whatever another host
// of the same domain says (the __Host- prefix, RFC 6265bis section 4.1.3.2), out of
// reach of scripts, and not sent along with other sites' forms. A lifetime of zero ends
// with the browser, a negative one at once.
func (s *Sessions) Cookie(name, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(name), Value: value, Path: "/", Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	switch {
	case life < 0:
		c.MaxAge = -1
	case life > 0:
		c.MaxAge = int(life / time.Second)
	}
	return c
}

func (s *Sessions) cookieName(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

// Value reads a cookie made by Cookie. Of two with one name neither is believed: one of
// them is somebody else's.
func (s *Sessions) Value(r *http.Request, name string) string {
	cookies := r.CookiesNamed(s.cookieName(name))
	if len(cookies) != 1 || len(cookies[0].Value) > 4<<10 {
		return ""
	}
	return cookies[0].Value
}

// NewSecret is 256 random bits as text.
func NewSecret(random io.Reader) (string, error) {
	var bits [32]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(bits[:]), nil
}

type contextKey struct{}

// found is what one request knows of its session.
type found struct {
	session identity.Session
	person  identity.Person
	signed  bool
}

// Handler looks the session up once for all that follow. While the store cannot be asked
// it answers "later": to ask for a sign-in would be a lie, and a loop.
func (s *Sessions) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := s.find(r)
		if err != nil {
			s.o.Log.Error("session not looked up", "error", err)
			Later(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, f)))
	})
}

// Current tells who sits at the browser; false: nobody who is signed in.
func (s *Sessions) Current(r *http.Request) (identity.Session, identity.Person, bool) {
	f, known := r.Context().Value(contextKey{}).(found)
	if !known {
		var err error
		if f, err = s.find(r); err != nil {
			s.o.Log.Error("session not looked up", "error", err)
			return identity.Session{}, identity.Person{}, false
		}
	}
	return f.session, f.person, f.signed
}

// find returns an error only when the store could not be asked.
func (s *Sessions) find(r *http.Request) (found, error) {
	value := s.Value(r, sessionCookie)
	if value == "" {
		return found{}, nil
	}
	now := s.o.Now()
	session, person, err := s.o.Store.Session(r.Context(), identity.DigestOf(value), now)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return found{}, nil
	case err != nil:
		return found{}, fmt.Errorf("find session: %w", err)
	case !person.Disabled.IsZero():
		return found{}, nil
	case !now.Before(session.Expires) || now.Sub(session.Seen) >= s.o.Idle:
		if err := s.o.Store.EndSession(r.Context(), session.ID); err != nil {
			s.o.Log.Warn("idle session not ended", "error", err)
		}
		return found{}, nil
	}
	if now.Sub(session.Seen) >= touchPause {
		// Not to know when a browser was seen is no reason to send it away.
		if err := s.o.Store.TouchSession(r.Context(), session.ID, now); err != nil {
			s.o.Log.Warn("session not touched", "error", err)
		}
		session.Seen = now
	}
	return found{session: session, person: person, signed: true}, nil
}

// Start signs the browser in. session says who, how, since when and by which session
// upstream; the rest is filled in. The id is always new, and the session that the browser
// had ends: an id that somebody planted before is worth nothing after (session fixation).
// All of it is one transaction, with what goes along: its line of the audit trail.
func (s *Sessions) Start(w http.ResponseWriter, r *http.Request, session identity.Session, along ...Along) (identity.Session, error) {
	now := s.o.Now()
	session.Created, session.Expires = now, now.Add(s.o.Life)
	if session.Proved.IsZero() {
		session.Proved = now
	}
	return s.replace(w, r, session, along)
}

// Renew gives the browser's session a new id with other rights, after a second factor or
// a step back from it. It lives no longer than it would have.
func (s *Sessions) Renew(w http.ResponseWriter, r *http.Request, change func(*identity.Session)) (identity.Session, error) {
	session, _, ok := s.Current(r)
	if !ok {
		return identity.Session{}, fmt.Errorf("renew session: %w", identity.ErrNotFound)
	}
	change(&session)
	return s.replace(w, r, session, nil)
}

func (s *Sessions) replace(w http.ResponseWriter, r *http.Request, session identity.Session, along []Along) (identity.Session, error) {
	value, err := NewSecret(s.o.Random)
	if err != nil {
		return session, err
	}
	session.ID = identity.DigestOf(value)
	session.Seen = s.o.Now()
	session.Agent = Agent(r.UserAgent())
	session.From = s.o.Proxies.Client(r)
	err = s.o.Store.Together(r.Context(), func(ctx context.Context) error {
		if err := s.o.Store.AddSession(ctx, session); err != nil {
			return fmt.Errorf("start session: %w", err)
		}
		return s.endOld(ctx, r, along)
	})
	if err != nil {
		return session, err
	}
	http.SetCookie(w, s.Cookie(sessionCookie, value, session.Expires.Sub(session.Seen)))
	return session, nil
}

// End signs the browser out, in one transaction with what goes along. The cookie goes even
// when the store could not be asked; the error says that the session itself may still be there.
func (s *Sessions) End(w http.ResponseWriter, r *http.Request, along ...Along) error {
	http.SetCookie(w, s.Cookie(sessionCookie, "", -1))
	if s.Value(r, sessionCookie) == "" && len(along) == 0 {
		return nil
	}
	return s.o.Store.Together(r.Context(), func(ctx context.Context) error { return s.endOld(ctx, r, along) })
}

// Abandon ends a session that this answer has started, also when its asker has gone.
func (s *Sessions) Abandon(w http.ResponseWriter, r *http.Request, started identity.Session) error {
	http.SetCookie(w, s.Cookie(sessionCookie, "", -1))
	if err := s.o.Store.EndSession(context.WithoutCancel(r.Context()), started.ID); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// endOld ends the session that the browser came with, and then does what goes along.
func (s *Sessions) endOld(ctx context.Context, r *http.Request, along []Along) error {
	if old := s.Value(r, sessionCookie); old != "" {
		if err := s.o.Store.EndSession(ctx, identity.DigestOf(old)); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
	}
	for _, do := range along {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// FormToken goes into a form as "token": it holds for this session, purpose and text
// only. Without a session it is the empty string, which is never valid.
func (s *Sessions) FormToken(r *http.Request, purpose, text string) string {
	session, _, ok := s.Current(r)
	if !ok {
		return ""
	}
	return s.o.FormKey.Token(string(session.ID[:]), purpose, text)
}

// ValidForm reports whether token is FormToken of the same session, purpose and text.
func (s *Sessions) ValidForm(r *http.Request, token, purpose, text string) bool {
	session, _, ok := s.Current(r)
	return ok && s.o.FormKey.Valid(token, string(session.ID[:]), purpose, text)
}

// Client is the address of the person at the browser.
func (s *Sessions) Client(r *http.Request) netip.Addr { return s.o.Proxies.Client(r) }

// OwnForms refuses what another site makes a browser send (net/http.CrossOriginProtection:
// Sec-Fetch-Site, and Origin where that is missing).
func (s *Sessions) OwnForms(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	// A proxy may have changed the Host; the origin people type is ours in any case.
	if err := protection.AddTrustedOrigin(s.o.PublicURL); err != nil {
		s.o.Log.Warn("origin not known to the form check", "error", err)
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		Fault(w, http.StatusForbidden, "This form came from another site.", "Open the page here and fill it in again.")
	}))
	return protection.Handler(next)
}

// Later answers a person while the database is away.
func Later(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "10")
	Fault(w, http.StatusServiceUnavailable, "Letterlock cannot answer just now.", "Nothing was changed. Try again in a minute; you are still signed in.")
}

// SignInPath is where a browser proves who sits at it; package signin answers there.
const SignInPath = "/signin"

// Begin sends the browser to sign in and then back to a path of ours.
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request, back string) {
	target := SignInPath
	if LocalPath(back) && back != "/" {
		target += "?back=" + url.QueryEscape(back)
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// SignedIn lets only signed-in browsers through, and sends others to sign in. A form of
// theirs is lost: it was another session's.
func (s *Sessions) SignedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := s.Current(r); ok {
			next.ServeHTTP(w, r)
			return
		}
		back := "/"
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			back = r.URL.RequestURI()
		}
		s.Begin(w, r, back)
	})
}

// OnlyHosts answers for our own names only: another name that leads here is a mistake, or
// somebody's attempt to have a browser treat our pages as theirs (DNS rebinding).
func OnlyHosts(next http.Handler, hosts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.ContainsFunc(hosts, func(host string) bool { return strings.EqualFold(host, r.Host) }) {
			Fault(w, http.StatusMisdirectedRequest, "These pages have another address.", "Use the address that your administrator gave you.")
			return
		}
		next.ServeHTTP(w, r)
	})
}
