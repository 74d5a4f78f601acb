package main

import (
	"net/http"
	"slices"
	"strings"
)

// configHosts lets mail programs fetch their settings at autoconfig.DOMAIN of our own
// domains, where they look first. Nothing else is answered there: pages, forms and
// tokens have one address.
func configHosts(settings, next http.Handler, domains []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		domain, ok := strings.CutPrefix(strings.ToLower(r.Host), "autoconfig.")
		if ok && slices.Contains(domains, domain) && r.URL.Path == "/mail/config-v1.1.xml" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			settings.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
