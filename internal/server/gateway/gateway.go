// Package gateway is an OpenID Connect reverse proxy in front of any web mail. Who opens the
// web mail signs in at our own pages, and the web mail is handed a token that is good for
// mail only, for minutes only, with each request: it never sees a password, has no login
// form, and holds nothing that outlives it.
//
//	browser ----> gateway host ----------------------------------> web mail -> IMAP, SMTP
//	   |            | no session: off to the pages                   (Authorization: Basic
//	   |            v                                                 user:"Bearer llat_…")
//	   +---> public_url/gateway/NAME: sign-in, then a one-time code
//	            and back to gateway host/__letterlock/in, which makes the session
//
// A session here stands on a session of the pages and on a grant that the portal shows. It
// ends with either, and with the log-out of the web mail; what it knows is asked again
// every few seconds.
//
// What the web mail gets is cut down to what a browser may say: identity headers of every
// spelling are dropped, ours is put in, and cookies of the web mail are bound to the session
// in which they were made. Nobody opens another's mailbox with a cookie that was left behind.
//
// The proxy itself is net/http/httputil.ReverseProxy. oauth2-proxy and vouch were looked
// at: they hand on identity headers and keep tokens of the provider in cookies, but mint
// none for mail, and bind no cookie of the upstream.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// MailStore keeps browsers at a gateway and the tokens they got; database has it.
type MailStore interface {
	OpenMailSession(ctx context.Context, m identity.MailSession, grant identity.Grant) (identity.MailSession, error)
	MailSession(ctx context.Context, id identity.Digest, now time.Time) (identity.MailSession, identity.Person, error)
	TouchMailSession(ctx context.Context, id identity.Digest, at time.Time) error
	// EndMailSession ends its tokens, and with signIn the sign-in that it stands on.
	EndMailSession(ctx context.Context, id identity.Digest, at time.Time, signIn bool) error
}

// TokenStore keeps the short tokens of web mail, each for a mail session that may go on.
type TokenStore interface {
	IssueMail(ctx context.Context, session identity.Digest, access identity.AccessToken) error
	GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error)
}

// Once keeps what is taken once.
type Once interface {
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
}

// Trail is the audit trail.
type Trail interface {
	AddEvent(ctx context.Context, e identity.Event) error
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Store is all of them. An error that wraps identity.ErrUnavailable says that the store
// could not be asked: the answer is "later" then.
type Store interface {
	MailStore
	TokenStore
	Once
	Trail
}

// Browser tells who sits at a browser of the pages; web.Sessions is one.
type Browser interface {
	Current(r *http.Request) (identity.Session, identity.Person, bool)
}

// Gate refuses networks.
type Gate interface {
	// Refused is asked at each request, and only looks.
	Refused(ctx context.Context, remote netip.Addr) bool
	// Ask is asked when a browser begins to sign in, and counts.
	Ask(ctx context.Context, remote netip.Addr) (refuse bool)
}

// Options are what a Gateway needs. Zero values get the default in brackets.
type Options struct {
	Name      string // a-z, 0-9 and -
	Title     string // what people call it ("web mail")
	PublicURL string // origin of the gateway's own host
	PagesURL  string // origin of the pages
	// Upstream is the web mail; nil: a server in front hands requests on itself, see Asked.
	Upstream *url.URL
	// Socket is a Unix socket at which the upstream listens; empty: by TCP at Upstream.
	Socket    string
	Transport http.RoundTripper // nil: one that is made for it

	Preset  Preset
	Blocked []Rule         // besides those of the preset
	Sieve   bool           // the web mail may change filters too
	Inside  []netip.Prefix // only these networks may come; empty: all
	Proxies web.Proxies

	Store   Store
	Browser Browser
	// SignIn sends a browser of the pages to sign in and back to a path there; again wants
	// a fresh proof of somebody who is signed in already.
	SignIn func(w http.ResponseWriter, r *http.Request, back string, again bool)
	Gate   Gate // nil: nobody is refused

	TokenLife time.Duration // (10 min)
	Idle      time.Duration // (12 h without a request)
	Life      time.Duration // (7 days since the sign-in)
	Recheck   time.Duration // how long a session is believed without asking (3 s)
	Stall     time.Duration // how long a body may stand still (60 s)
	MaxBody   int64         // of one upload (128 MiB)

	Now    func() time.Time
	Random io.Reader
	Log    *slog.Logger
}

// A Gateway serves one web mail.
type Gateway struct {
	o        Options
	origin   *url.URL
	secure   bool
	rules    rules
	sessions *sessions
	proxy    *httputil.ReverseProxy
	own      *http.CrossOriginProtection
	pages    http.Handler // below ownPath
}

// ownPath is where the gateway's own pages are; nothing below it reaches the web mail.
const ownPath = "/__letterlock/"

// New checks the options.
func New(o Options) (*Gateway, error) {
	if o.Store == nil || o.Browser == nil || o.SignIn == nil || o.Now == nil || o.Random == nil || o.Log == nil {
		return nil, errors.New("gateway: a store, browser, sign-in, clock, randomness or log is missing")
	}
	origin, err := url.Parse(o.PublicURL)
	if err != nil || origin.Host == "" || origin.Scheme != "https" && origin.Scheme != "http" {
		return nil, fmt.Errorf("gateway %s: public URL %q: want https://HOST", o.Name, o.PublicURL)
	}
	if pages, err := url.Parse(o.PagesURL); err != nil || pages.Host == "" || strings.EqualFold(pages.Host, origin.Host) {
		return nil, fmt.Errorf("gateway %s: it needs a host of its own, apart from the pages at %q: web mail shows what strangers wrote", o.Name, o.PagesURL)
	}
	o.fill()
	g := &Gateway{o: o, origin: origin, secure: origin.Scheme == "https", sessions: newSessions(o), own: http.NewCrossOriginProtection()}
	if g.rules, err = newRules(append(append(commonBlocked(), o.Preset.Blocked...), o.Blocked...)); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", o.Name, err)
	}
	if err := g.own.AddTrustedOrigin(o.PublicURL); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", o.Name, err)
	}
	g.proxy = g.reverse()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ownPath+"in", g.arrive)
	mux.HandleFunc(ownPath+"out", g.leave)
	g.pages = web.Headers(mux)
	return g, nil
}

func (o *Options) fill() {
	if o.Title == "" {
		o.Title = "web mail"
	}
	for _, d := range []struct {
		at       *time.Duration
		standard time.Duration
	}{
		{&o.TokenLife, 10 * time.Minute}, {&o.Idle, 12 * time.Hour}, {&o.Life, 7 * 24 * time.Hour},
		{&o.Recheck, 3 * time.Second}, {&o.Stall, time.Minute},
	} {
		if *d.at <= 0 {
			*d.at = d.standard
		}
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 128 << 20
	}
}

// Scopes are what the web mail's tokens can do.
func (o Options) scopes() []string {
	scopes := []string{"imap", "smtp"}
	if o.Sieve {
		scopes = append(scopes, "sieve")
	}
	return scopes
}

// Client is how grants of this gateway show on the portal's page.
func (g *Gateway) Client() identity.Client {
	return identity.Client{ID: identity.GatewayClient(g.o.Name), Name: g.o.Title, Verified: true}
}

// ServeHTTP answers at the gateway's own host.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.strict(w.Header())
	if r.Body != nil && r.Body != http.NoBody {
		// What nobody reads is drained after the answer: who is refused could otherwise send
		// the body they announced never, and hold the connection. patient moves this on.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.o.Stall))
	}
	remote := g.o.Proxies.Client(r)
	switch {
	case !strings.EqualFold(r.Host, g.origin.Host):
		web.Headers(http.HandlerFunc(misdirected)).ServeHTTP(w, r)
	case !soundRequest(r):
		g.fault(w, r, http.StatusBadRequest, "This address is not understood.", "Go back to the start page.")
	case g.refused(r.Context(), remote):
		g.fault(w, r, http.StatusForbidden, "The "+g.o.Title+" is not open to your network.", "Use it from a network that your administrator has named.")
	case strings.HasPrefix(r.URL.Path, ownPath):
		g.pages.ServeHTTP(w, r)
	case g.foreign(r):
		g.foreignFault(w, r)
	default:
		g.forward(w, r, remote)
	}
}

// strict has browsers come by https only.
func (g *Gateway) strict(head http.Header) {
	if g.secure {
		head["Strict-Transport-Security"] = []string{"max-age=31536000"}
	}
}

func misdirected(w http.ResponseWriter, _ *http.Request) {
	web.Fault(w, http.StatusMisdirectedRequest, "These pages have another address.", "Use the address that your administrator gave you.")
}

func (g *Gateway) refused(ctx context.Context, remote netip.Addr) bool {
	if len(g.o.Inside) > 0 {
		inside := false
		for _, network := range g.o.Inside {
			inside = inside || network.Contains(remote)
		}
		if !inside {
			return true
		}
	}
	return g.o.Gate != nil && g.o.Gate.Refused(ctx, remote)
}

// foreign is what another site makes a browser send: a form, or a WebSocket, for which
// browsers ask no leave (RFC 6455 section 10.2).
func (g *Gateway) foreign(r *http.Request) bool {
	if upgrades(r) {
		return r.Header.Get("Origin") != g.o.PublicURL
	}
	return g.own.Check(r) != nil
}

func (g *Gateway) foreignFault(w http.ResponseWriter, r *http.Request) {
	g.fault(w, r, http.StatusForbidden, "This form came from another site.", "Open the page here and fill it in again.")
}

// soundRequest refuses what two readers could read differently, and TRACE, which has a server
// say back what it was sent: the token among it (RFC 9110 section 9.3.8).
func soundRequest(r *http.Request) bool {
	if strings.EqualFold(r.Method, http.MethodTrace) || strings.EqualFold(r.Method, "TRACK") {
		return false
	}
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") || len(r.URL.Path) > 8<<10 || strings.ContainsAny(r.URL.Path, "\\\x00\r\n") {
		return false
	}
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		// A semicolon starts parameters for some servers: /..;/ is /../ to them.
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return false
		}
	}
	return len(r.Header["Content-Type"]) <= 1
}

// fault answers a person, or a script, which would show no page.
func (g *Gateway) fault(w http.ResponseWriter, r *http.Request, status int, what, hint string) {
	if background(r) {
		http.Error(w, what, status)
		return
	}
	web.Headers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { web.Fault(w, status, what, hint) })).ServeHTTP(w, r)
}

// forward finds the session, and hands the request on.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, remote netip.Addr) {
	cookies := r.Cookies()
	e, err := g.sessions.find(r.Context(), g.among(cookies, sessionCookie))
	var t *ticket
	if err == nil && e != nil {
		t, err = g.sessions.provide(r.Context(), e)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound), err == nil && e == nil:
		g.ended(w, r)
		return
	case err != nil:
		g.o.Log.Error("web mail session not looked up", "gateway", g.o.Name, "error", err)
		g.later(w, r)
		return
	}
	if answered := g.blocked(w, r); answered {
		return
	}
	if g.o.Upstream == nil {
		g.elsewhere(w, r)
		return
	}
	from := "unknown"
	if remote.IsValid() {
		from = remote.String()
	}
	g.hand(w, r, handed{e, t, cookies, from, w.Header()})
}

func (g *Gateway) later(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "10")
	g.fault(w, r, http.StatusServiceUnavailable, "The "+g.o.Title+" cannot be opened just now.", "Nothing was changed. Try again in a minute; you are still signed in.")
}
