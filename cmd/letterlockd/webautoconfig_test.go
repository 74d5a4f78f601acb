package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestConfigHosts: at autoconfig.DOMAIN and ua-auto-config.DOMAIN there are the settings and
// nothing else.
func TestConfigHosts(t *testing.T) {
	says := func(status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	h := configHosts(says(http.StatusOK), says(http.StatusMisdirectedRequest), []string{"example.org"})
	for _, c := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", "autoconfig.example.org", "/mail/config-v1.1.xml?emailaddress=a%40example.org", 200},
		{"GET", "AUTOCONFIG.Example.Org", "/mail/config-v1.1.xml", 200},
		{"POST", "autoconfig.example.org", "/mail/config-v1.1.xml", 421},
		{"GET", "autoconfig.example.org", "/", 421},
		{"GET", "autoconfig.example.org", "/authorize", 421},
		{"GET", "autoconfig.mallory.example", "/mail/config-v1.1.xml", 421},
		{"GET", "example.org", "/mail/config-v1.1.xml", 421},
		{"GET", "ua-auto-config.example.org", "/.well-known/user-agent-configuration.json", 200},
		{"HEAD", "UA-Auto-Config.example.org", "/.well-known/user-agent-configuration.json", 200},
		{"GET", "ua-auto-config.example.org", "/mail/config-v1.1.xml", 421},
		{"GET", "autoconfig.example.org", "/.well-known/user-agent-configuration.json", 421},
		{"POST", "ua-auto-config.example.org", "/.well-known/user-agent-configuration.json", 421},
		{"GET", "ua-auto-config.mallory.example", "/.well-known/user-agent-configuration.json", 421},
		{"GET", "ua-auto-config.", "/.well-known/user-agent-configuration.json", 421},
	} {
		r := httptest.NewRequest(c.method, "https://"+c.host+c.path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s%s: %d, want %d", c.method, c.host, c.path, w.Code, c.want)
		}
	}
}
