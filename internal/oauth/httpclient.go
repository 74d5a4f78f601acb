package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/trust"
)

// maxBody is the most we read of an answer. The largest honest ones, metadata and
// key sets, have some 20 KB.
const maxBody = 1 << 20

var errTooLarge = fmt.Errorf("answer of more than %d bytes", maxBody)

// HTTPOptions shape NewHTTPClient.
type HTTPOptions struct {
	// Roots adds authorities to the system's (a company's own); nil adds none. The
	// system pool is read at the first TLS connection and not before.
	Roots   *x509.CertPool
	Timeout time.Duration // whole request; 0 means 30 s
	// Dial connects; nil: as the system does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ShowRedirects hands answers of 300 to 399 to the caller, who follows them by rules
	// of its own, instead of making them errors. Not for requests that hold a secret.
	ShowRedirects bool
	// Trace receives one line per request and answer, without secrets; nil: none.
	Trace io.Writer
}

// NewHTTPClient returns a client that follows no redirect, reads at most 1 MiB of an
// answer, needs TLS 1.2, honours HTTPS_PROXY, and refuses http URLs but for loopback.
//
// Each request has a connection of its own: programs that ask once gain nothing from
// keeping one, and net/http sends a POST again when a kept connection turns out to be
// closed, which would spend a one-time code twice.
func NewHTTPClient(opts HTTPOptions) *http.Client {
	if opts.Timeout <= 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{Timeout: opts.Timeout}).DialContext
	}
	base := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            opts.Dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    opts.Timeout,
		DisableKeepAlives:      true,
		DisableCompression:     true, // nothing to gain, and no bombs
		MaxResponseHeaderBytes: 64 << 10,
	}
	if opts.Roots == nil {
		base.DialTLSContext = dialTLS(base)
	}
	return &http.Client{
		Transport: &guard{base: base, extra: opts.Roots, trace: opts.Trace, showRedirects: opts.ShowRedirects},
		Timeout:   opts.Timeout, // covers reading the body: a server that drips ends here
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // guard has refused it before
		},
	}
}

// dialTLS connects to a server without a proxy in between, and reads no more of the
// system's authorities than its certificate needs. Through a proxy crypto/tls reads all.
func dialTLS(base *http.Transport) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := base.DialContext
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, base.TLSHandshakeTimeout)
		defer cancel()
		config := base.TLSClientConfig.Clone()
		config.ServerName = host
		conn := tls.Client(raw, trust.Config(config))
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return conn, nil
	}
}

// trusting returns the transport for one request to host, which trusts the extra
// authorities too. Two pools cannot be merged without reading both, so a connection is
// verified against one after the other. InsecureSkipVerify only moves the verification
// to VerifyConnection, which runs for every connection, resumed ones too.
func trusting(base *http.Transport, extra *x509.CertPool, host string) *http.Transport {
	if extra == nil {
		return base
	}
	one := base.Clone()
	one.TLSClientConfig.InsecureSkipVerify = true
	one.TLSClientConfig.VerifyConnection = func(state tls.ConnectionState) error {
		name := state.ServerName // a proxy's, when the proxy itself speaks TLS
		if name == "" {
			name = host // crypto/tls leaves it empty for IP addresses
		}
		if err := trust.Verify(state.PeerCertificates, name, extra, time.Time{}); err == nil {
			return nil
		}
		return trust.Verify(state.PeerCertificates, name, nil, time.Time{})
	}
	return one
}

// A guard keeps the rules that http.Client and http.Transport have no setting for.
type guard struct {
	base  *http.Transport
	extra *x509.CertPool
	mu    sync.Mutex // lines of trace stay whole
	trace io.Writer

	showRedirects bool
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := checkScheme(req.URL); err != nil {
		return nil, err
	}
	place := oneLine(req.URL.Host + req.URL.EscapedPath()) // the query may hold a secret
	begin := time.Now()
	g.tracef("> %s %s\n", req.Method, place)
	res, err := trusting(g.base, g.extra, req.URL.Hostname()).RoundTrip(req)
	took := time.Since(begin).Round(time.Millisecond)
	if err != nil {
		g.tracef("< %s %s: no answer (%s)\n", req.Method, place, took)
		return nil, err
	}
	g.tracef("< %s %s: %d (%s)\n", req.Method, place, res.StatusCode, took)
	if res.StatusCode >= 300 && res.StatusCode < 400 && !g.showRedirects {
		_ = res.Body.Close()
		// Following would hand codes and refresh tokens to whoever can set a header.
		return nil, fmt.Errorf("%s answers with a redirect (%d), which is not followed", place, res.StatusCode)
	}
	res.Body = &cappedBody{ReadCloser: res.Body, left: maxBody}
	return res, nil
}

func (g *guard) tracef(format string, args ...any) {
	if g.trace == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.trace, format, args...)
}

// A cappedBody fails after maxBody bytes; io.LimitReader would pass off the beginning
// of a document as the whole.
type cappedBody struct {
	io.ReadCloser
	left int
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if n > b.left {
		return b.left, errTooLarge
	}
	b.left -= n
	return n, err
}
