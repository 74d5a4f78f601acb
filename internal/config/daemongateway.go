package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// A Gateway is one [gateway.NAME] section: web mail behind our sign-in.
type Gateway struct {
	PublicURL   string
	Title       string // what people call it
	Listen      string
	Certificate string
	Key         string
	AskListen   string // for a web server that asks before each request
	Upstream    string // http://HOST:PORT, or the path of a Unix socket
	Kind        string // roundcube, plain
	Blocked     []string
	Sieve       bool
	Networks    []netip.Prefix
	TokenLife   time.Duration
	MaxUpload   int // MiB
}

func gatewayFields() []field[Gateway] {
	type g = Gateway
	return []field[g]{
		{"public_url", "what people type to read mail: an origin of its own, not that of [web]", `"https://webmail.example.org"`, text(func(v *g) *string { return &v.PublicURL }, place, origin)},
		{"title", "what people call it; default: web mail", `"Web mail"`, text(func(v *g) *string { return &v.Title }, filled)},
		{"listen", "address of the gateway; without a certificate loopback only", `"127.0.0.1:8481"`, text(func(v *g) *string { return &v.Listen }, hostPort)},
		{"certificate", "PEM file with the certificate and its chain; read again when it changes", `"/etc/letsencrypt/live/webmail.example.org/fullchain.pem"`, text(func(v *g) *string { return &v.Certificate }, absolute)},
		{"key", "PEM file with its private key", `"/etc/letsencrypt/live/webmail.example.org/privkey.pem"`, text(func(v *g) *string { return &v.Key }, absolute)},
		{"ask_listen", "loopback address that nginx asks by auth_request, when it stands in front of the web mail itself; default: none", `"127.0.0.1:8482"`, text(func(v *g) *string { return &v.AskListen }, hostPort, loopbackOnly)},
		{"upstream", "the web mail: http://HOST:PORT, or the path of a Unix socket; nobody else may reach it. With ask_listen it may be left out", `"http://127.0.0.1:8088"`, text(func(v *g) *string { return &v.Upstream }, upstream)},
		{"kind", "roundcube, or plain for any other web mail that takes Basic authentication; default: plain", `"roundcube"`, text(func(v *g) *string { return &v.Kind }, oneOf("roundcube", "plain"))},
		{"blocked", "what nobody reaches, besides what kind knows: /PATH, ?NAME=VALUE or /PATH?NAME=VALUE", `["/admin"]`, list(func(v *g) *[]string { return &v.Blocked }, filled)},
		{"sieve", "the web mail may change mail filters too; default: false", `false`, boolean(func(v *g) *bool { return &v.Sieve })},
		{"networks", "only these networks may use it; default: all", `["192.0.2.0/24"]`, networks(func(v *g) *[]netip.Prefix { return &v.Networks })},
		{"token_life", "how long one token of the web mail is good; it is renewed unseen; default: \"10m\"", `"10m"`, duration(func(v *g) *time.Duration { return &v.TokenLife }, 3*time.Second, time.Hour)},
		{"max_upload", "MiB of one upload; default: 128", `128`, number(func(v *g) *int { return &v.MaxUpload }, 1, 1<<20)},
	}
}

// upstream is an origin, or a Unix socket.
func upstream(s string) string {
	if filepath.IsAbs(s) {
		if len(s) > 100 {
			return "is too long for a Unix socket"
		}
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "must be http://HOST:PORT, or the path of a Unix socket"
	}
	return origin(s)
}

func (d *decoder) checkGateway(path []string, one *Gateway) {
	in := inSection(path)
	if len(path[1]) > 40 || strings.ContainsFunc(path[1], notPlain) {
		d.fault(path, "the name of a section stands in an address: at most 40 of a-z, 0-9 and -")
	}
	if one.PublicURL == "" || one.Upstream == "" && one.AskListen == "" || one.Listen == "" {
		d.fault(path, "public_url, listen and upstream (or ask_listen) are all needed%s", in)
	}
	if (one.Certificate == "") != (one.Key == "") {
		d.fault(path, "certificate and key%s belong together: one is missing", in)
	}
	if one.Certificate == "" && one.Listen != "" && !loopbackAddress(one.Listen) {
		d.fault(path, "listen%s: without certificate and key only a loopback address, with a proxy in front that speaks TLS", in)
	}
	if u, err := url.Parse(one.Upstream); err == nil && u.Scheme == "http" && !IsLoopback(u.Hostname()) {
		d.fault(path, "upstream%s: tokens go there, so it must be on loopback, a Unix socket, or https", in)
	}
}

func (d *decoder) checkGateways(c *Daemon) {
	for _, one := range c.Gateways {
		switch {
		case c.Web.PublicURL == "":
			d.fault([]string{"gateway"}, "public_url in [web] is missing: people sign in there")
		case sameHost(one.PublicURL, c.Web.PublicURL):
			d.fault([]string{"gateway"}, "public_url of a gateway needs a host name of its own: web mail shows what strangers wrote, and must not stand beside the pages of [web]")
		}
	}
}

func sameHost(a, b string) bool {
	one, err := url.Parse(a)
	other, err2 := url.Parse(b)
	return err == nil && err2 == nil && one.Host != "" && strings.EqualFold(one.Hostname(), other.Hostname()) && !(IsLoopback(one.Hostname()) && one.Port() != other.Port())
}
