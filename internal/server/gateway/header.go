package gateway

import (
	"net/http"
	"strings"
	"sync"
)

// strip takes out of a request's headers all by which a browser could claim to be somebody,
// somewhere or something else. CGI makes one variable of X-Remote-User, X_Remote_User and
// x.remote.user, so that names are compared as it would, and names that are not plain are
// dropped whole.
func strip(head http.Header) {
	for name := range head {
		if !passes(name) {
			delete(head, name)
		}
	}
}

// passes reports whether the web mail may see a request header. Cookie does not pass as it
// is: cookiesFor writes it anew.
func passes(name string) bool {
	switch name {
	// What every request has. None of them stands in claims: see TestEverydayHeaders.
	case "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Length", "Content-Type", "Origin", "Pragma", "Priority", "Referer",
		"Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Upgrade-Insecure-Requests", "User-Agent", "X-Requested-With", "X-Roundcube-Request":
		return true
	case "":
		return false
	}
	if len(name) > 100 {
		return false
	}
	return !claimed(name)
}

// claimed reports whether a name is not plain, or one of claims.
func claimed(name string) bool {
	lower := make([]byte, len(name))
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		default:
			return true
		}
		lower[i] = c
	}
	plain, known := string(lower), claimTable()
	if known.whole[plain] || strings.HasPrefix(plain, "x-forwarded") {
		return true
	}
	for _, word := range known.begin {
		if strings.HasPrefix(plain, word) {
			return true
		}
	}
	return false
}

type claimWords struct {
	whole map[string]bool
	begin []string
}

var claimTable = sync.OnceValue(func() claimWords {
	known := claimWords{whole: map[string]bool{}}
	for _, word := range claims() {
		if strings.HasSuffix(word, "-") {
			known.begin = append(known.begin, word)
		} else {
			known.whole[word] = true
		}
	}
	return known
})

// claims are the headers by which proxies and gateways tell servers who comes, from where,
// over what, and for which address. A word that ends with a dash is the beginning of many.
func claims() []string {
	return []string{
		// who
		"authorization", "proxy-", "php-auth-", "remote-", "x-remote-", "x-auth-", "x-authenticated-", "x-authentik-", "x-webauth-", "x-user", "x-user-",
		"x-username", "x-email", "x-groups", "x-groups-", "x-access-token", "x-id-token", "x-token", "x-webmail-", "x-letterlock-", "letterlock-",
		"oidc-", "x-oidc-", "x-goog-", "x-amzn-", "x-ms-", "x-pomerium-", "x-vouch-", "cf-access-", "tailscale-", "x-ssl-", "ssl-", "x-client-", "client-",
		"sm-", "iv-", "x-iv-", "x-jwt-", "x-session-", "redirect-", "user", "username",
		// from where, over what
		"forwarded", "forwarded-", "x-forward-", "via", "x-real-", "true-client-ip", "x-cluster-client-ip", "cf-", "fastly-",
		"x-originating-ip", "x-host", "x-http-host-override", "front-end-https", "x-url-scheme", "x-scheme",
		// for which address or by which method, whatever the first line says
		"x-original-", "x-rewrite-", "x-http-method", "x-http-method-override", "x-method-override", "x-override-",
		"x-accel-", "x-sendfile", "x-sendfile-", "x-proxy-", "proxy",
		// spoken by the gateway itself, between it and the browser or it and the web mail
		"cookie", "cookie2", "expect", "te", "trailer", "http2-settings",
	}
}
