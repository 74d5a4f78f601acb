package main

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
	"github.com/letterlock-mail/letterlock/internal/server/portal"
)

// outside adds what people and mail programs see: DNS, settings by https, and web mail.
func outside(ctx context.Context, o *doctor.Options, conf *config.Daemon, server string) error {
	resolver := &dnsask.Client{}
	switch place, err := dnsServer(server); {
	case err != nil:
		return err
	case place != "":
		resolver.Servers = []string{place}
	default:
		resolver.Servers = dnsask.SystemServers(ctx)
	}
	for _, name := range slices.Sorted(maps.Keys(conf.Gateways)) {
		gate := conf.Gateways[name]
		one := &doctor.WebMail{Name: name, Public: gate.PublicURL, Pages: conf.Web.PublicURL, Upstream: gate.Upstream, Resolver: resolver}
		if filepath.IsAbs(gate.Upstream) {
			one.Upstream, one.Socket = "http://webmail", gate.Upstream
		}
		o.WebMail = append(o.WebMail, one)
	}
	facts, pacc, err := dnsFacts(conf)
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [portal] in "+conf.Path)
	}
	if len(facts.Faults()) > 0 {
		return nil // mail programs are told nothing
	}
	o.DNS = &doctor.DNS{Resolver: resolver, Host: facts.Host}
	for _, r := range facts.Records() {
		o.DNS.Records = append(o.DNS.Records, doctor.Record{Name: r.Name, Type: r.Type, Value: r.Value, Absent: r.Absent, Line: r.Zone()})
		switch label, _, _ := strings.Cut(r.Name, "."); label {
		case "autoconfig":
			o.DNS.Documents = append(o.DNS.Documents, doctor.Document{URL: "https://" + r.Name + autoconfigPath, Part: "<issuer>" + conf.Web.PublicURL + "</issuer>"})
		case "ua-auto-config":
			o.DNS.Documents = append(o.DNS.Documents, doctor.Document{URL: "https://" + r.Name + portal.PACCPath, Body: pacc})
		}
	}
	return nil
}

// dnsServer reads --dns-server.
func dnsServer(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil && at.Port() != 0 {
		return at.String(), nil
	}
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return "", cli.Faultf(cli.Usage, "write --dns-server 192.0.2.53 or 192.0.2.53:5353", "%q is not the address of a DNS server", cli.Line(text))
	}
	return net.JoinHostPort(ip.String(), "53"), nil
}
