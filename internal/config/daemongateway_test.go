package config

import (
	"strings"
	"testing"
)

// What would put web mail where it must not be is a fault of the file.
func TestGatewaySection(t *testing.T) {
	const pages = "domains = [\"example.org\"]\n[web]\npublic_url = \"https://id.example.org\"\n"
	good := map[string]string{"public_url": `"https://webmail.example.org"`, "listen": `"127.0.0.1:8481"`, "upstream": `"http://127.0.0.1:8088"`}
	for _, c := range []struct{ name, key, value, want string }{
		{"good", "title", `"Mail"`, ""},
		{"a Unix socket", "upstream", `"/run/webmail.sock"`, ""},
		{"an upstream with TLS", "upstream", `"https://mail.internal"`, ""},
		{"tokens in the clear", "upstream", `"http://192.0.2.1"`, "tokens go there"},
		{"no upstream", "upstream", "", "are all needed"},
		{"the pages' own host", "public_url", `"https://id.example.org"`, "a host name of its own"},
		{"the same host at another port", "public_url", `"https://id.example.org:8443"`, "a host name of its own"},
		{"open to the world without TLS", "listen", `"0.0.0.0:80"`, "only a loopback address"},
		{"half a certificate", "certificate", `"/etc/x.pem"`, "belong together"},
		{"asked from elsewhere", "ask_listen", `"0.0.0.0:81"`, "loopback"},
		{"a long token", "token_life", `"24h"`, "token_life"},
		{"an unknown kind", "kind", `"horde"`, "kind"},
	} {
		section := map[string]string{}
		for key, value := range good {
			section[key] = value
		}
		section[c.key] = c.value
		text := pages + "[gateway.webmail]\n"
		for key, value := range section {
			if value != "" {
				text += key + " = " + value + "\n"
			}
		}
		_, err := ParseDaemon("x.toml", []byte(text))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := ParseDaemon("x.toml", []byte("[gateway.webmail]\npublic_url = \"https://w.example.org\"\nlisten = \"127.0.0.1:1\"\nupstream = \"http://127.0.0.1:2\"\n")); err == nil {
		t.Error("a gateway without pages was taken")
	}
	// The web server that asks has the web mail itself.
	alone := pages + "[gateway.webmail]\npublic_url = \"https://w.example.org\"\nlisten = \"127.0.0.1:1\"\nask_listen = \"127.0.0.1:2\"\n"
	if _, err := ParseDaemon("x.toml", []byte(alone)); err != nil {
		t.Error(err)
	}
}
