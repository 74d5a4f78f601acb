package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// handed is what the proxy needs to know of one request.
type handed struct {
	e       *entry
	t       *ticket
	cookies []*http.Cookie // that the browser sent
	remote  string         // where it comes from
	browser http.Header    // of the answer
}

type handedKey struct{}

// hand gives the request to the web mail.
func (g *Gateway) hand(w http.ResponseWriter, r *http.Request, h handed) {
	open := upgrades(r)
	if !open {
		delete(r.Header, "Upgrade") // h2c, TLS: the web mail is spoken to in one way only
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &patient{ReadCloser: http.MaxBytesReader(w, r.Body, g.o.MaxBody), control: http.NewResponseController(w), stall: g.o.Stall, now: g.o.Now}
	}
	ctx := context.WithValue(r.Context(), handedKey{}, h)
	if open {
		var done func()
		ctx, done = g.whileSignedIn(ctx, h.e)
		defer done()
	}
	g.proxy.ServeHTTP(final{w, g}, r.WithContext(ctx))
}

// A final browser hears no answer before the answer (RFC 9110 section 15.2). ReverseProxy
// hands those on as the web mail wrote them, past received, and empties the headers behind
// them: ours would be gone.
type final struct {
	http.ResponseWriter
	g *Gateway
}

// WriteHeader implements http.ResponseWriter.
func (f final) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	f.g.strict(f.Header())
	f.ResponseWriter.WriteHeader(status)
}

// Unwrap has http.ResponseController find what it flushes, and the connection of a WebSocket.
func (f final) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// whileSignedIn ends a connection that stays open once its session has ended.
func (g *Gateway) whileSignedIn(ctx context.Context, e *entry) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(g.o.Recheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// An error is that nobody could be asked and what was known is too old.
			if still, err := g.sessions.ask(ctx, e); err != nil || still == nil {
				cancel()
				return
			}
		}
	})
	return ctx, func() { cancel(); wg.Wait() }
}

// patient gives a body time as long as it moves: an upload may take an hour, a body that
// stands still holds a connection for nothing.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	now     func() time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.stall)) // not every writer has a connection
	n, err := p.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		// Only then: the rest of a body that is refused is still drained.
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// upgrades reports whether the request opens a WebSocket (RFC 6455 section 4.2.1).
func upgrades(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && len(r.Header["Upgrade"]) == 1
}

func (g *Gateway) reverse() *httputil.ReverseProxy {
	transport := g.o.Transport
	if transport == nil {
		transport = g.transport()
	}
	return &httputil.ReverseProxy{
		Rewrite: g.rewrite, ModifyResponse: g.received, ErrorHandler: g.failed, Transport: transport,
		BufferPool: &buffers{}, ErrorLog: slog.NewLogLogger(g.o.Log.Handler(), slog.LevelDebug),
	}
}

// transport keeps enough connections open: Go's own keeps two a host, and opens one for
// each further request.
func (g *Gateway) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if g.o.Socket != "" {
				return dialer.DialContext(ctx, "unix", g.o.Socket)
			}
			return dialer.DialContext(ctx, network, address)
		},
		MaxIdleConns: 512, MaxIdleConnsPerHost: 512, IdleConnTimeout: 55 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 5 * time.Minute,
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
		ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10,
	}
}

// rewrite makes the request that the web mail sees. ReverseProxy has taken out hop-by-hop
// headers before, also those that Connection names, so that nobody can have ours taken out.
func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	h := p.In.Context().Value(handedKey{}).(handed)
	out := p.Out
	strip(out.Header)
	out.URL.Scheme, out.URL.Host = g.o.Upstream.Scheme, g.o.Upstream.Host
	out.Host = p.In.Host
	out.Trailer = nil // what comes behind a body is a header too
	// Names are written as net/http keeps them: Set would look at each letter of them again.
	head := out.Header
	head["X-Forwarded-For"] = []string{h.remote}
	head["X-Forwarded-Proto"] = []string{g.origin.Scheme}
	head["X-Forwarded-Host"] = []string{g.origin.Host}
	if cookies := g.cookiesFor(h.cookies, h.e.bind); cookies != "" {
		head["Cookie"] = []string{cookies}
	}
	if len(head["User-Agent"]) == 0 {
		head["User-Agent"] = []string{""} // or net/http writes its own
	}
	head["Authorization"] = []string{h.t.basic.Reveal()}
}

// errNoEntry: the web mail did not take the token, which is its mail server's word.
var errNoEntry = errors.New("the web mail refused the sign-in")

// received looks at the web mail's answer.
func (g *Gateway) received(resp *http.Response) error {
	h := resp.Request.Context().Value(handedKey{}).(handed)
	head := resp.Header
	g.takeCookies(head, h.e.bind)
	for name := range head {
		if !g.returns(name) {
			delete(head, name)
		}
	}
	if resp.StatusCode == http.StatusUnauthorized && !background(resp.Request) {
		// A browser would ask for a password, and Roundcube shows a form for one.
		return errNoEntry
	}
	if head.Get("X-Frame-Options") == "" && !strings.Contains(head.Get("Content-Security-Policy"), "frame-ancestors") {
		h.say(head, "X-Frame-Options", "SAMEORIGIN")
	}
	for _, one := range [...][2]string{{"X-Content-Type-Options", "nosniff"}, {"Referrer-Policy", "same-origin"}, {"Cache-Control", "private"}} {
		if values := head[one[0]]; len(values) == 0 || values[0] == "" {
			h.say(head, one[0], one[1])
		}
	}
	return nil
}

// say puts our word in place of the web mail's. It goes to the browser at once: what stays in
// head is copied there behind it, which costs more.
func (h handed) say(head http.Header, name, value string) {
	delete(head, name)
	h.browser[name] = []string{value}
}

// returns reports whether a browser may see a header of the web mail's answer; Set-Cookie is
// seen to before.
func (g *Gateway) returns(name string) bool {
	switch name {
	case "Www-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Clear-Site-Data", "Alt-Svc", "X-Powered-By", "Public-Key-Pins", "X-Accel-Redirect", "Authorization":
		return false
	case "Strict-Transport-Security":
		return !g.secure // ours stands already
	}
	return true
}

// failed answers in the web mail's place.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errBlocked):
		g.fault(w, r, http.StatusForbidden, "There is no such form.", "Nobody signs in with a password here.")
	case errors.As(err, &large):
		w.Header().Set("Connection", "close")
		g.fault(w, r, http.StatusRequestEntityTooLarge, "That is too large.", "Send a smaller file.")
	case r.Context().Err() != nil:
		// The browser has gone, or its session has ended.
		w.WriteHeader(http.StatusBadGateway)
	case errors.Is(err, errNoEntry):
		g.o.Log.Warn("the web mail refused the sign-in: does its mail server take tokens?", "gateway", g.o.Name)
		g.fault(w, r, http.StatusBadGateway, "The mail server did not let the "+g.o.Title+" in.", "Try again in a minute. If it stays so, tell your administrator; they find the reason in the mail server's log.")
	default:
		g.o.Log.Error("the web mail does not answer", "gateway", g.o.Name, "error", err)
		g.fault(w, r, http.StatusBadGateway, "The "+g.o.Title+" does not answer.", "Try again in a minute.")
	}
}

// buffers are reused between answers.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buf[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(buf []byte) {
	if len(buf) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buf))
	}
}
