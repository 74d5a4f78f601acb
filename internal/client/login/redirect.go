package login

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// NewRedirect returns a redirect for a client that we register ourselves: the
// loopback literal and a path nobody can guess. It has to be made before the
// registration, since the provider compares the path (RFC 8252 section 7.3 frees
// the port only).
func NewRedirect() provider.Redirect {
	return provider.Redirect{URI: "http://127.0.0.1/" + randomPath(), AnyPort: true}
}

func randomPath() string { return strings.ToLower(rand.Text()) }

// A target is a registered redirect URI, taken apart.
type target struct {
	uri  *url.URL
	port int  // to listen on; 0: any free one
	free bool // the provider ignores the port
}

// parseTarget reads what the client is registered with. No URI means the loopback
// literal, which RFC 8252 section 8.3 prefers to "localhost".
func parseTarget(redirect provider.Redirect) (target, error) {
	text := redirect.URI
	if text == "" {
		text = "http://127.0.0.1"
	}
	uri, err := url.Parse(text)
	if err != nil || uri.Scheme == "" || uri.User != nil || strings.ContainsAny(text, "?#") {
		return target{}, cli.Faultf(cli.Config,
			"give the redirect URI exactly as the client is registered with, for example http://localhost/",
			"the redirect URI %q cannot be used", cli.Line(text))
	}
	to := target{uri: uri, free: redirect.AnyPort && !redirect.Fixed}
	if redirect.Fixed || !redirect.AnyPort && uri.Port() != "" {
		to.port, err = registeredPort(uri)
		if err != nil {
			return target{}, err
		}
	}
	if redirect.AnyPath && !redirect.Fixed && strings.Trim(uri.Path, "/") == "" {
		uri.Path, uri.RawPath = "/"+randomPath(), ""
	}
	return to, nil
}

func registeredPort(uri *url.URL) (int, error) {
	switch {
	case uri.Port() != "":
		port, err := strconv.Atoi(uri.Port())
		if err != nil || port < 1 || port > 65535 {
			return 0, cli.Faultf(cli.Config, "ports go from 1 to 65535", "the redirect URI %q has no valid port", cli.Line(uri.String()))
		}
		return port, nil
	case uri.Scheme == "https":
		return 443, nil
	}
	return 80, nil
}

// unlistenable says why a listener of ours cannot receive this redirect; empty when
// it can.
func (t target) unlistenable() string {
	switch {
	case !isLoopback(t.uri.Hostname()):
		return fmt.Sprintf("this client's sign-in ends at %s, which is not on this computer", cli.Line(t.uri.String()))
	case t.uri.Scheme == "https":
		return fmt.Sprintf("this client's sign-in ends at %s: nobody can have a certificate for that name, so the browser will show an error page there", cli.Line(t.uri.String()))
	case t.uri.Scheme != "http":
		return fmt.Sprintf("this client's sign-in ends at %s, which no listener can receive", cli.Line(t.uri.String()))
	}
	return ""
}

// at returns the redirect URI with port in it. All else stays as registered: an
// empty path stays empty, since providers compare bytes (RFC 9700 section 2.1).
func (t target) at(port int) string {
	uri := *t.uri
	if t.port == 0 {
		uri.Host = hostPort(uri.Hostname(), port)
	}
	return uri.String()
}

// unheard is the redirect URI for a sign-in that nobody listens for. Where the port
// is free it is one that is most likely closed: at port 80 of the computer with the
// browser a web server might get the code.
func (t target) unheard() string {
	if !t.free || t.uri.Scheme != "http" || !isLoopback(t.uri.Hostname()) {
		return t.uri.String()
	}
	const first, count = 49152, 16384                     // RFC 6335 section 6: never assigned
	offset, _ := rand.Int(rand.Reader, big.NewInt(count)) // crypto/rand does not fail
	return t.at(first + int(offset.Int64()))
}

// host is the Host header of a browser that follows the redirect to port.
func (t target) host(port int) string {
	if port == 80 {
		return strings.ToLower(bracketed(t.uri.Hostname()))
	}
	return strings.ToLower(hostPort(t.uri.Hostname(), port))
}

// path is what the browser asks for.
func (t target) path() string {
	if path := t.uri.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// isLoopback knows the three names that RFC 8252 section 7.3 and its practice have.
func isLoopback(host string) bool {
	switch strings.ToLower(host) {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}
