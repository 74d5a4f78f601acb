package recipe

import (
	"strings"
	"testing"
)

// TestNginx: what a forgotten line would open stands in both sites. That they work is shown with a
// real nginx by cmd/letterlockd.
func TestNginx(t *testing.T) {
	plain := Nginx{Listen: "/run/webmail.sock", Root: "/srv/webmail", FPM: "/run/fpm.sock", MaxUpload: 7}
	asking := Nginx{Listen: "443", Root: "/srv/webmail", FPM: "/run/fpm.sock", MaxUpload: 7, Name: "webmail", Host: "mail.example.org:8443", ServerName: "mail.example.org",
		Certificate: "/c.pem", Key: "/k.pem", Ask: "127.0.0.1:8482", Gate: "127.0.0.1:8481"}
	both := []string{`fastcgi_param HTTP_PROXY "";`, "client_max_body_size 7m;", "location ~ \\.php(/|$) { return 404; }", "fastcgi_pass unix:/run/fpm.sock;"}
	for _, c := range []struct {
		name  string
		site  string
		wants []string
	}{
		{"plain", plain.Site(), append([]string{"listen unix:/run/webmail.sock;", "HTTP_HOST $http_host;"}, both...)},
		{"asking", asking.Site(), append([]string{
			"listen 443 ssl;", "listen [::]:443 ssl;", "server_name mail.example.org;", "HTTP_HOST mail.example.org:8443;", "fastcgi_pass_request_headers off;",
			"upstream letterlock_webmail { server 127.0.0.1:8481 ", "upstream letterlock_webmail_ask { server 127.0.0.1:8482 ", "max-age=31536000",
		}, both...)},
	} {
		for _, want := range c.wants {
			if !strings.Contains(c.site, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, c.site)
			}
		}
		if strings.Contains(c.site, "%!") || strings.Count(c.site, "{") != strings.Count(c.site, "}") {
			t.Errorf("%s:\n%s", c.name, c.site)
		}
	}
	// Over plain http, for a proxy that speaks TLS in front, nobody is told to come by TLS only.
	asking.Certificate = ""
	if site := asking.Site(); strings.Contains(site, "ssl") || strings.Contains(site, "Strict-Transport") {
		t.Error(site)
	}
}
