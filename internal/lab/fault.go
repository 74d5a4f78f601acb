package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// Fault is what an HTTPFault does to a request instead of passing it on.
// The zero value passes it on.
type Fault struct {
	// Path the fault applies to, by its end: "/token". Empty: every path.
	Path string
	// Times it happens; 0: until Clear. Then the next fault of the list, or none.
	Times int

	// Reset closes the connection with a TCP reset without an answer.
	Reset bool
	// Hang gives no answer until the client goes away or Stop.
	Hang bool
	// LoseAnswer passes the request on and resets the connection instead of
	// giving the answer: the provider has acted, the client does not know.
	LoseAnswer bool
	// DropAfter passes the request on, gives this many octets of the answer's
	// body, and resets the connection. 0: no.
	DropAfter int
	// Status and what goes with it answer at once. 0: no.
	Status int
	Header http.Header
	Body   string
	// Flood makes the answered body this many octets longer, of spaces.
	Flood int64
}

// HTTPFaultOptions describe an HTTPFault.
type HTTPFaultOptions struct {
	// Target is the address the requests go to, scheme and host: an OP's
	// "http://" + Address. It may be set later with SetTarget.
	Target string
	// CA makes the injector speak https and trusts what Target shows; nil:
	// http on both sides.
	CA *CA
	// Names in its certificate besides loopback's.
	Names []string
	// Before is called before a request goes on, After when its answer has
	// come and before the first octet of it is given to the client: the two
	// moments between which a rotating provider's grant hangs in the air.
	// They may block.
	Before func(*http.Request)
	After  func(*http.Request, *http.Response)
}

// HTTPFault stands in front of an HTTP server and breaks what it is told to.
// Start it first and give its URL to OPOptions.Issuer, so that all the
// provider says leads through it.
type HTTPFault struct {
	URL string // without a slash at the end

	options HTTPFaultOptions
	server  *http.Server
	proxy   *httputil.ReverseProxy
	addr    string
	stop    chan struct{}
	served  sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	target   *url.URL
	faults   []Fault
	requests map[string]int
}

// StartHTTPFault starts the injector on a free loopback port.
func StartHTTPFault(o HTTPFaultOptions) (*HTTPFault, error) {
	f := &HTTPFault{options: o, stop: make(chan struct{}), requests: map[string]int{}}
	if o.Target != "" {
		if err := f.SetTarget(o.Target); err != nil {
			return nil, err
		}
	}
	f.server = &http.Server{Handler: f, ErrorLog: log.New(io.Discard, "", 0)}
	transport := &http.Transport{}
	if o.CA != nil {
		var err error
		if f.server.TLSConfig, err = o.CA.Server(o.Names...); err != nil {
			return nil, err
		}
		transport.TLSClientConfig = o.CA.Client()
	}
	f.proxy = &httputil.ReverseProxy{
		Transport: transport, Rewrite: f.rewrite, ModifyResponse: f.modify, ErrorLog: f.server.ErrorLog,
	}
	if _, err := startRetry(func() (*HTTPFault, error) {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		f.addr = loopback(ports[0])
		return f, taken(f.Open())
	}); err != nil {
		return nil, err
	}
	scheme := "http"
	if o.CA != nil {
		scheme = "https"
	}
	f.URL = scheme + "://" + f.addr
	return f, nil
}

// SetTarget changes where requests go.
func (f *HTTPFault) SetTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("read fault target: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = u
	return nil
}

// Set replaces the list of faults.
func (f *HTTPFault) Set(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append([]Fault(nil), faults...)
}

// Clear lets everything pass again.
func (f *HTTPFault) Clear() { f.Set() }

// Requests says how many requests came for paths that end so, whatever became
// of them. An empty end counts all.
func (f *HTTPFault) Requests(pathEnd string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for path, count := range f.requests {
		if strings.HasSuffix(path, pathEnd) {
			n += count
		}
	}
	return n
}

// Close makes the port refuse connections; Open brings it back.
func (f *HTTPFault) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
}

// Open listens, again on the same port after Close.
func (f *HTTPFault) Open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp4", f.addr)
	if err != nil {
		return fmt.Errorf("open fault injector: %w", err)
	}
	f.listener = l
	f.served.Go(func() {
		// Not by TLSConfig: Serve fills that in, also without TLS.
		if f.options.CA != nil {
			_ = f.server.ServeTLS(l, "", "") // ends with its listener
			return
		}
		_ = f.server.Serve(l)
	})
	return nil
}

// Stop closes the port and every connection.
func (f *HTTPFault) Stop() {
	close(f.stop)
	f.Close()
	f.server.Close()
	f.served.Wait()
	f.proxy.Transport.(*http.Transport).CloseIdleConnections()
}

// take counts a request and says what to do with it.
func (f *HTTPFault) take(path string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[path]++
	for i := range f.faults {
		fault := f.faults[i]
		if !strings.HasSuffix(path, fault.Path) {
			continue
		}
		if fault.Times == 1 {
			f.faults = append(f.faults[:i:i], f.faults[i+1:]...)
		} else if fault.Times > 1 {
			f.faults[i].Times--
		}
		return fault
	}
	return Fault{}
}

// ServeHTTP implements http.Handler.
func (f *HTTPFault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := f.take(r.URL.Path)
	switch {
	case fault.Reset:
		reset(w)
	case fault.Hang:
		select {
		case <-r.Context().Done():
		case <-f.stop:
		}
		reset(w)
	case fault.Status != 0:
		answer(w, fault)
	case fault.LoseAnswer:
		f.forward(&breaking{header: http.Header{}, limit: 0}, r)
		reset(w)
	case fault.DropAfter > 0:
		f.dropped(w, r, fault.DropAfter)
	default:
		f.forward(w, r)
	}
}

func (f *HTTPFault) forward(w http.ResponseWriter, r *http.Request) {
	if f.options.Before != nil {
		f.options.Before(r)
	}
	f.proxy.ServeHTTP(w, r)
}

func (f *HTTPFault) rewrite(p *httputil.ProxyRequest) {
	f.mu.Lock()
	target := f.target
	f.mu.Unlock()
	if target != nil {
		p.SetURL(target)
	}
	// The Host stays as the client sent it: a provider behind us must speak of
	// our address in what it answers.
	p.Out.Host = p.In.Host
	p.SetXForwarded()
}

func (f *HTTPFault) modify(r *http.Response) error {
	if f.options.After != nil {
		f.options.After(r.Request, r)
	}
	return nil
}

// dropped gives a part of the real answer with the length of the whole, then
// ends the connection.
func (f *HTTPFault) dropped(w http.ResponseWriter, r *http.Request, limit int) {
	b := &breaking{header: http.Header{}, limit: limit, status: http.StatusOK}
	f.forward(b, r)
	for name, values := range b.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(b.size))
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body)
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	reset(w)
}

// breaking collects the first octets of an answer.
type breaking struct {
	header http.Header
	status int
	body   []byte
	size   int
	limit  int
}

func (b *breaking) Header() http.Header    { return b.header }
func (b *breaking) WriteHeader(status int) { b.status = status }
func (b *breaking) Write(p []byte) (int, error) {
	b.size += len(p)
	b.body = append(b.body, p[:min(len(p), b.limit-len(b.body))]...)
	return len(p), nil
}

func answer(w http.ResponseWriter, fault Fault) {
	for name, values := range fault.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(fault.Status)
	_, _ = io.WriteString(w, fault.Body)
	spaces := []byte(strings.Repeat(" ", 64<<10))
	for left := fault.Flood; left > 0; left -= int64(len(spaces)) {
		if _, err := w.Write(spaces[:min(left, int64(len(spaces)))]); err != nil {
			return // the client has had enough
		}
	}
}

// reset ends the connection with RST, so that the client sees an error and not
// a short answer. Where the connection cannot be had it is aborted.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrHijacked) {
		return
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	hardClose(conn)
}

func hardClose(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	conn.Close()
}
