package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// sender is the machine as flags and keys describe it.
func (p *program) sender(name string, f dnsFlags) (domain.Sender, []string, error) {
	var none domain.Sender
	ascii, err := domain.Name(name)
	if err != nil {
		return none, nil, keyFault(name, err)
	}
	folder, err := p.dkimFolder()
	if err != nil {
		return none, nil, err
	}
	s := domain.Sender{Domain: ascii, Host: strings.ToLower(f.host), Reports: f.reports, DMARC: f.policy}
	if s.Keys, err = domain.List(folder, ascii); err != nil {
		return none, nil, keyFault(name, err)
	}
	if s.Host == "" {
		s.Host = strings.ToLower(hostName())
	}
	if _, err := domain.Name(s.Host); err != nil {
		if f.host != "" {
			return none, nil, cli.Wrap(cli.Usage, err, "--host takes a full name, as mail.example.org")
		}
		p.term.Sayf("this machine calls itself %s, which is no full name: name the EHLO name with --host", s.Host)
		s.Host = ""
	}
	for _, text := range f.addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return none, nil, cli.Faultf(cli.Usage, "write it as 192.0.2.25 or 2001:db8::25", "--address %q is no address", cli.Line(text))
		}
		s.Addresses = append(s.Addresses, ip.Unmap())
	}
	if !slices.Contains([]string{"none", "quarantine", "reject"}, f.policy) {
		return none, nil, cli.Faultf(cli.Usage, "take none, quarantine or reject", "there is no DMARC policy %q", cli.Line(f.policy))
	}
	if f.reports != "" {
		if err := checkAddress(f.reports); err != nil {
			return none, nil, err
		}
	}
	lists := f.blocklists
	if len(lists) == 0 {
		lists = domain.Blocklists()
	} else if slices.Equal(lists, []string{"none"}) {
		lists = nil
	}
	for i := range lists {
		if lists[i], err = domain.Name(lists[i]); err != nil {
			return none, nil, cli.Wrap(cli.Usage, err, "--blocklist takes the name of a list, as zen.spamhaus.org, or none")
		}
	}
	return s, lists, nil
}

func serverAddress(text string) (string, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(ip.String(), "53"), nil
	}
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return "", cli.Faultf(cli.Usage, "write it as 192.0.2.53 or 192.0.2.53:5353", "--server %q is no address", cli.Line(text))
	}
	return text, nil
}

// ownAddresses are those that this machine would send from: the source of a connection
// to the outside, where it is public, else what the EHLO name has in DNS (NAT). A
// connected UDP socket sends nothing.
func ownAddresses(ctx context.Context, client *dnsask.Client, host string) []netip.Addr {
	var out []netip.Addr
	for _, target := range []string{"[2001:db8::25]:25", "192.0.2.25:25"} {
		conn, err := net.Dial("udp", target)
		if err != nil {
			continue
		}
		if from, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
			if ip := from.Addr().Unmap(); ip.IsGlobalUnicast() && !ip.IsPrivate() {
				out = append(out, ip)
			}
		}
		conn.Close()
	}
	if len(out) > 0 || host == "" {
		return out
	}
	for _, v4 := range []bool{false, true} {
		found, err := client.Addresses(ctx, host, v4)
		if err == nil {
			out = append(out, found...)
		}
	}
	return out
}
