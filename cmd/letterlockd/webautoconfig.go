package main

import (
	"net/http"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/portal"
)

// autoconfigPath is where mail programs ask a host named autoconfig.
const autoconfigPath = "/mail/config-v1.1.xml"

// configHosts lets mail programs fetch their settings at autoconfig.DOMAIN and at
// ua-auto-config.DOMAIN of our own domains, where they look first. Nothing else is
// answered there: pages, forms and tokens have one address.
func configHosts(settings, next http.Handler, domains []string) http.Handler {
	documents := map[string]string{"autoconfig": autoconfigPath, "ua-auto-config": portal.PACCPath}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		label, domain, _ := strings.Cut(strings.ToLower(r.Host), ".")
		path, ok := documents[label]
		if ok && slices.Contains(domains, domain) && r.URL.Path == path && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			settings.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
