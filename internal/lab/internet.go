package lab

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Internet is an HTTP proxy that knows only the hosts it was told of. With
// HTTPS_PROXY set to URL, a program reaches a server on loopback under the name
// of a real one, with a certificate of the lab's CA, and nothing else.
type Internet struct {
	URL string

	server *http.Server
	served chan struct{}
	work   sync.WaitGroup

	mu    sync.Mutex
	hosts map[string]string
	open  map[net.Conn]bool
	asked []string
}

// StartInternet starts the proxy with no hosts in it.
func StartInternet() (*Internet, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start internet: %w", err)
	}
	n := &Internet{
		URL: "http://" + l.Addr().String(), served: make(chan struct{}),
		hosts: map[string]string{}, open: map[net.Conn]bool{},
	}
	n.server = &http.Server{Handler: n, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(n.served)
		_ = n.server.Serve(l) // ends with Stop
	}()
	return n, nil
}

// Map sends connections for host ("accounts.google.com": any port;
// "imap.gmail.com:993": that one) to addr, a host:port on loopback.
func (n *Internet) Map(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[strings.ToLower(host)] = addr
}

// Asked returns the host:port of every connection that was wanted, in order,
// the unknown ones too: nothing may leave unseen.
func (n *Internet) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// Env is what a child process needs to use the proxy. Go programs never proxy
// loopback hosts.
func (n *Internet) Env() []string {
	return []string{"HTTPS_PROXY=" + n.URL, "HTTP_PROXY=" + n.URL, "https_proxy=" + n.URL, "http_proxy=" + n.URL, "NO_PROXY=", "no_proxy="}
}

// Dial connects to host:port as the proxy would: for servers and tests in this
// process.
func (n *Internet) Dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	addr, ok := n.lookUp(hostport)
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "not in the lab's internet", Name: hostport, IsNotFound: true}}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (n *Internet) lookUp(hostport string) (string, bool) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, hostport)
	for _, key := range []string{strings.ToLower(hostport), strings.ToLower(host)} {
		if addr, ok := n.hosts[key]; ok {
			return addr, true
		}
	}
	return "", false
}

// ServeHTTP implements http.Handler.
func (n *Internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		n.plain(w, r)
		return
	}
	server, err := n.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		server.Close()
		return
	}
	defer n.keep(client)()
	defer n.keep(server)()
	// RFC 9110 section 9.3.6: an answer without content, then the tunnel.
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	if early := buffered.Reader.Buffered(); early > 0 {
		if _, err := io.CopyN(server, buffered, int64(early)); err != nil {
			return
		}
	}
	relay(client, server, 0)
}

// plain passes an http:// request on.
func (n *Internet) plain(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Header.Del("Proxy-Connection")
	hostport := r.URL.Host
	if r.URL.Port() == "" {
		hostport = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.Dial(ctx, network, hostport)
		},
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func (n *Internet) keep(conn net.Conn) func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[conn] = true
	n.work.Add(1)
	return func() {
		n.mu.Lock()
		delete(n.open, conn)
		n.mu.Unlock()
		conn.Close()
		n.work.Done()
	}
}

// Stop closes the proxy and every tunnel through it.
func (n *Internet) Stop() {
	n.server.Close()
	<-n.served
	n.mu.Lock()
	for conn := range n.open {
		conn.Close()
	}
	n.mu.Unlock()
	n.work.Wait()
}
