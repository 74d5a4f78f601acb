package authserver

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

var errRedirect = errors.New("not a redirect URI that programs may have")

// matchRedirect finds the requested URI among the registered ones: byte for byte, but
// that the port of a loopback IP literal is free (RFC 8252 section 7.3). It compares
// text and parses nothing, so that no two parsers can disagree about it.
func matchRedirect(registered []string, requested string) bool {
	for _, uri := range registered {
		if uri == requested || anyPort(uri, requested) {
			return true
		}
	}
	return false
}

// ownComputer says whether uri leads to a program on the person's own computer: a loopback
// literal or a private-use scheme. That is all that the client id "open" may have.
func ownComputer(uri string) bool {
	if checkRedirectURI(uri) != nil {
		return false
	}
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "https":
		return false
	case "http":
		return u.Hostname() == "127.0.0.1" || u.Hostname() == "::1"
	}
	return true
}

func anyPort(registered, requested string) bool {
	for _, origin := range []string{"http://127.0.0.1", "http://[::1]"} {
		have, ok := afterPort(registered, origin)
		if !ok {
			continue
		}
		want, ok := afterPort(requested, origin)
		if ok && want == have {
			return true
		}
	}
	return false
}

// afterPort returns what follows origin and an optional port.
func afterPort(uri, origin string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(uri, origin)
	if !ok {
		return "", false
	}
	if port, found := strings.CutPrefix(rest, ":"); found {
		digits := 0
		for digits < len(port) && port[digits] >= '0' && port[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits > 5 {
			return "", false
		}
		rest = port[digits:]
	}
	// What follows an origin is a path, a query, or nothing; "127.0.0.1.evil.test"
	// and "127.0.0.1@evil.test" are other hosts.
	return rest, rest == "" || rest[0] == '/' || rest[0] == '?'
}

// CheckRedirectURI says whether a client may have uri as a place for answers.
func CheckRedirectURI(uri string) error { return checkRedirectURI(uri) }

// checkRedirectURI says whether a client may register uri: https, http on a loopback
// literal (RFC 8252 section 7.3), localhost for clients that are fixed to it, or a
// private-use scheme that is a reversed domain name (section 7.1).
func checkRedirectURI(uri string) error {
	for _, r := range uri {
		if r <= 0x20 || r >= 0x7f || strings.ContainsRune("\\\"<>^`{|}#*", r) {
			return errRedirect
		}
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Opaque != "" || len(uri) > 1024 || strings.Contains(uri, "@") {
		return errRedirect
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errRedirect
		}
	}
	switch {
	case u.Scheme == "https":
		if u.Hostname() == "" || strings.ContainsFunc(u.Hostname(), oddInHost) {
			return errRedirect
		}
	case u.Scheme == "http":
		if host := u.Hostname(); host != "127.0.0.1" && host != "::1" && host != "localhost" {
			return errRedirect
		}
	case !strings.Contains(u.Scheme, ".") || u.Host != "":
		return errRedirect
	}
	return nil
}

// oddInHost is what net/url takes in a host and no host name has: ; and , among it,
// which mean something in the headers that a redirect URI is written into.
func oddInHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-:", r))
}

// withQuery adds parameters to a redirect URI, keeping the query it has (RFC 6749
// section 3.1.2).
func withQuery(uri string, add url.Values) string {
	if strings.Contains(uri, "?") {
		return uri + "&" + add.Encode()
	}
	return uri + "?" + add.Encode()
}
