package discovery

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/zone"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// patience is how long anything may take on a machine under load.
const patience = time.Minute

// A page is what a web server of the test says at one address.
type page struct {
	status   int // 0: 200
	body     string
	location string
	drip     bool // sends its header, and then one byte now and then for ever
}

func redirect(to string) page { return page{status: 302, location: to} }

// A world is DNS and the web as one test wants them. Pages are by "host/path".
type world struct {
	t     *testing.T
	pages map[string]page
	wrong []string // hosts whose certificate is for another name

	mu    sync.Mutex
	asked []string // "host/path" in order

	listener, other net.Listener
}

// newWorld serves pages under the names in them, each with a certificate of the lab's
// authority, and DNS from z.
func newWorld(t *testing.T, z zone.Zone, pages map[string]page, wrong ...string) (*world, *Finder) {
	t.Helper()
	w := &world{t: t, pages: pages, wrong: wrong}
	ca := lab.RunCA(t)
	hosts := []string{"nobody.example"}
	for place := range pages {
		host, _, _ := strings.Cut(place, "/")
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	w.listener = w.serve(ca, hosts...)
	w.other = w.serve(ca, "mallory.example")
	roots := ca.Client().RootCAs
	f := &Finder{DNS: &dnsask.Client{Servers: []string{z.Serve(t)}, Timeout: patience}, Timeout: patience,
		HTTP:  oauth.NewHTTPClient(oauth.HTTPOptions{Roots: roots, Dial: w.dial, ShowRedirects: true, Timeout: patience}),
		OAuth: oauth.NewHTTPClient(oauth.HTTPOptions{Roots: roots, Dial: w.dial, Timeout: patience})}
	return w, f
}

func (w *world) serve(ca *lab.CA, hosts ...string) net.Listener {
	w.t.Helper()
	config, err := ca.Server(hosts...)
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(w)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // bad handshakes are the point
	server.TLS = config
	server.Listener = tls.NewListener(server.Listener, config)
	server.Start()
	w.t.Cleanup(server.Close)
	return server.Listener
}

// dial leads to the test's servers by name. There is nothing else in this world.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "443" {
		return nil, fmt.Errorf("dial %s: not a place of this test", address)
	}
	to := w.listener
	if slices.Contains(w.wrong, host) {
		to = w.other
	} else if !w.has(host) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to.Addr().String())
}

func (w *world) has(host string) bool {
	for place := range w.pages {
		if strings.HasPrefix(place, host+"/") {
			return true
		}
	}
	return false
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	place := r.Host + r.URL.Path
	w.mu.Lock()
	w.asked = append(w.asked, place)
	w.mu.Unlock()
	p, ok := w.pages[place]
	switch {
	case !ok:
		http.NotFound(rw, r)
		return
	case p.location != "":
		rw.Header().Set("Location", p.location)
	}
	if p.status == 0 {
		p.status = 200
	}
	rw.WriteHeader(p.status)
	if p.drip {
		for range 1 << 20 {
			if _, err := rw.Write([]byte(" ")); err != nil {
				return
			}
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	_, _ = rw.Write([]byte(p.body))
}

// metadata is what an honest authorization server for mail says of itself.
func metadata(issuer string, change ...func(map[string]any)) page {
	m := map[string]any{
		"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
		"device_authorization_endpoint": issuer + "/device", "revocation_endpoint": issuer + "/revoke", "registration_endpoint": issuer + "/register",
		"scopes_supported":                      []string{"urn:ietf:params:oauth:scope:mail", "offline_access"},
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"none"},
	}
	for _, c := range change {
		c(m)
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return page{body: string(body)}
}

// describe writes a result as lines.
func describe(r *Result) []string {
	var lines []string
	line := func(what string, from Origin) {
		text := fmt.Sprintf("%s %s %s", what, from.Source, from.Proof)
		if from.Doubt != "" {
			text += " in doubt"
		}
		lines = append(lines, text)
	}
	if r.Provider != "" {
		line("provider "+r.Provider, r.ProviderOrigin)
	}
	if r.Issuer != nil {
		line("issuer "+string(r.Issuer.Metadata.Issuer), r.Issuer.Origin)
	}
	for _, service := range Services() {
		if s, ok := r.Servers[service]; ok {
			line(fmt.Sprintf("%s %s:%d %s", service, s.Host, s.Port, s.Security), s.Origin)
		}
	}
	return lines
}

// complaints are what went wrong, without what was simply not there.
func complaints(r *Result) string {
	var b strings.Builder
	for _, a := range r.Tried {
		if !a.Absent() {
			fmt.Fprintf(&b, "%s %s: %v\n", a.Source, a.Place, a.Err)
		}
	}
	return b.String()
}
