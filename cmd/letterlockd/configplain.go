package main

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

// A stated is a value that goes into a file of a web server, and the flag or setting that it
// comes from.
type stated struct{ name, value string }

// plainWords refuses what Apache, nginx or a shell reads as more than one word, or as
// something else than a word. They have no one way of quoting, so that none is used.
func plainWords(all ...stated) error {
	for _, one := range all {
		if one.value == "" || strings.ContainsFunc(one.value, func(r rune) bool {
			return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("\"'`\\$;{}<>#", r)
		}) {
			return cli.Faultf(cli.Usage, "name something without blanks, quotes and any of \\ $ ; { } < > #", "%s is %q, which cannot stand in that file", one.name, cli.Line(one.value))
		}
	}
	return nil
}

// plainPlace refuses what is not the address of a host, or of a folder at it.
func plainPlace(name, address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return nil, cli.Faultf(cli.Usage, "name an address like https://host.example.org", "%s is %q", name, cli.Line(address))
	case u.Scheme != "https" && (u.Scheme != "http" || !config.IsLoopback(u.Hostname())):
		return nil, cli.Faultf(cli.Usage, "begin it with https://: plain http is for loopback hosts only", "%s is %q", name, cli.Line(address))
	}
	return u, plainWords(stated{name, address})
}

// checkApache says what of f cannot be printed.
func checkApache(f recipe.Apache) error {
	if f.PublicURL == "" || f.Issuer == "" {
		return cli.Faultf(cli.Usage, "name both: --issuer https://login.example.org --url https://webmail.example.org", "an address is missing")
	}
	if _, err := plainPlace("--issuer", f.Issuer); err != nil {
		return err
	}
	u, err := plainPlace("--url", f.PublicURL)
	if err != nil {
		return err
	}
	if strings.Trim(u.Path, "/") != "" {
		return cli.Faultf(cli.Usage, "give web mail a host of its own", "--url is %q: Apache's pages are at the top of the host", cli.Line(f.PublicURL))
	}
	if host, port, err := net.SplitHostPort(f.Renew); err != nil || !isPort(port) || !config.IsLoopback(host) || port == u.Port() {
		return cli.Faultf(cli.Usage, "name a free port of this machine: --renew-listen 127.0.0.1:8089", "%s is no address of this machine", cli.Line(f.Renew))
	}
	if f.RenewBefore < 1 || f.RenewBefore > 3600 {
		return cli.Faultf(cli.Usage, "name 1 to 3600 seconds", "--renew-before %d is out of bounds", f.RenewBefore)
	}
	for scope := range strings.SplitSeq(f.Scope, " ") {
		if err := plainWords(stated{"--scope", scope}); err != nil {
			return err
		}
	}
	return plainWords(stated{"--client", f.ClientID}, stated{"--client-secret-file", f.SecretFile}, stated{"--name-claim", f.NameClaim},
		stated{"--root", f.Root}, stated{"--fpm", f.FPM}, stated{"--cache", f.CacheDir})
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// believesNginx reports whether letterlockd believes who asks at askListen about addresses of
// browsers: that is this machine, by the family of askListen.
func believesNginx(conf *config.Daemon, askListen string) bool {
	from := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if host, _, err := net.SplitHostPort(askListen); err == nil && strings.Contains(host, ":") {
		from = netip.IPv6Loopback()
	}
	for _, network := range conf.Web.TrustedProxies {
		if network.Contains(from) {
			return true
		}
	}
	return false
}
