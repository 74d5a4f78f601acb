package island

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Policies is a web server for mta-sts.DOMAIN hosts.
type Policies struct {
	server *http.Server

	mu      sync.Mutex
	text    map[string]string // by host
	fetched map[string]int
}

// ServePolicies listens on address, port 443, with the certificate of config.
func ServePolicies(t *testing.T, address string, config *tls.Config) *Policies {
	t.Helper()
	p := &Policies{text: map[string]string{}, fetched: map[string]int{}}
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	p.server = &http.Server{Handler: p, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = p.server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		p.Stop()
		<-served
	})
	return p
}

// Set changes a host's policy. "" is no such page; "redirect" leads to another.
func (p *Policies) Set(host, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text[host] = text
}

// Fetched is how often a host's policy was asked for.
func (p *Policies) Fetched(host string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched[host]
}

// Stop ends the server: its port refuses from now on.
func (p *Policies) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.server.Shutdown(ctx) != nil {
		p.server.Close()
	}
}

// ServeHTTP implements http.Handler.
func (p *Policies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	text := p.text[r.Host]
	p.fetched[r.Host]++
	p.mu.Unlock()
	switch {
	case r.URL.Path != "/.well-known/mta-sts.txt" || text == "":
		http.NotFound(w, r)
	case text == "redirect":
		http.Redirect(w, r, "https://mta-sts.good.test/.well-known/mta-sts.txt", http.StatusFound)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text)
	}
}
