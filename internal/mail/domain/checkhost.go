package domain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

func (c *Checker) checkMX(ctx context.Context, s Sender) []Finding {
	hosts, err := c.Resolver.MX(ctx, s.Domain)
	f := Finding{Level: OK, Check: "mx", Subject: s.Domain}
	if errors.Is(err, dnsask.ErrNoName) {
		found, err := both(ctx, c.Resolver, s.Domain)
		switch {
		case err == nil:
			f.Level, f.Published = Warning, join(found)
			f.Problem, f.Remedy = "no MX: bounces and replies go to the domain's own address", "publish an MX"
		case errors.Is(err, dnsask.ErrNoName):
			f.Level, f.Problem, f.Remedy = Wrong, "the domain takes no mail: many receivers refuse senders that cannot be answered", "publish an MX, and take mail for postmaster"
		default:
			f = unknown("mx", s.Domain, err)
		}
		return []Finding{f}
	}
	if err != nil {
		return []Finding{unknown("mx", s.Domain, err)}
	}
	var names []string
	for _, mx := range hosts {
		names = append(names, fmt.Sprintf("%d %s.", mx.Preference, mx.Host))
	}
	f.Published = strings.Join(names, ", ")
	if slices.ContainsFunc(hosts, func(m MX) bool { return m.Host == "" }) {
		// RFC 7505 section 4.2: a domain that sends must not have one.
		f.Level, f.Problem, f.Remedy = Wrong, "the null MX says that the domain takes no mail; receivers refuse mail from it", "publish an MX, or send as another domain"
		return []Finding{f}
	}
	f.Problem = "bounces and replies arrive there"
	out := []Finding{f}
	for _, mx := range hosts[:min(len(hosts), 10)] {
		_, err := both(ctx, c.Resolver, mx.Host)
		if errors.Is(err, dnsask.ErrNoName) {
			out = append(out, Finding{Level: Wrong, Check: "mx", Subject: mx.Host, Problem: "this mail exchanger has no address", Remedy: "publish its A or AAAA record, or take it out of the MX"})
		} else if err != nil {
			out = append(out, unknown("mx", mx.Host, err))
		}
	}
	return out
}

func join(addresses []netip.Addr) string {
	var out []string
	for _, ip := range addresses {
		out = append(out, ip.String())
	}
	return strings.Join(out, " ")
}

// checkPTR wants reverse DNS that leads back (RFC 8601 section 3 calls it iprev), and to
// the name that EHLO says.
func (c *Checker) checkPTR(ctx context.Context, s Sender, ip netip.Addr) []Finding {
	f := Finding{Level: Wrong, Check: "ptr", Subject: ip.String()}
	names, err := c.Resolver.PTR(ctx, Reverse(ip))
	want := s.Host
	if want == "" {
		want = "the name that the machine says in EHLO"
	}
	if errors.Is(err, dnsask.ErrNoName) {
		f.Problem, f.Remedy = "no reverse DNS: large receivers refuse the mail", "have whoever owns the address set its PTR to "+want
		return []Finding{f}
	}
	if err != nil {
		return []Finding{unknown("ptr", ip.String(), err)}
	}
	f.Published = strings.Join(names, " ")
	var confirmed []string
	for _, name := range names[:min(len(names), 10)] {
		found, err := c.Resolver.Addresses(ctx, name, ip.Is4())
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			return []Finding{unknown("ptr", name, err)}
		}
		if slices.Contains(found, ip) {
			confirmed = append(confirmed, name)
		}
	}
	switch {
	case len(confirmed) == 0:
		f.Problem, f.Remedy = "the name does not lead back to the address", fmt.Sprintf("publish an address record %s for %s, or set the PTR to %s", ip, names[0], want)
	case s.Host != "" && !slices.Contains(confirmed, strings.ToLower(s.Host)):
		f.Level, f.Problem, f.Remedy = Warning, "leads back to the address, but EHLO says "+s.Host, "set the PTR to "+s.Host+", or say "+confirmed[0]+" in EHLO"
	case looksGeneric(confirmed, ip):
		f.Level, f.Problem, f.Remedy = Warning, "the name looks like one of a pool of end users, which many receivers distrust", "have it set to a name of your own"
	default:
		f.Level, f.Problem = OK, "leads back to the address"
	}
	return []Finding{f}
}

// looksGeneric: providers write the octets of an address into its default name.
func looksGeneric(names []string, ip netip.Addr) bool {
	if !ip.Is4() {
		return false
	}
	b := ip.As4()
	for _, name := range names {
		words := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' })
		hits := 0
		for _, octet := range b {
			if slices.Contains(words, fmt.Sprint(octet)) || slices.Contains(words, fmt.Sprintf("%03d", octet)) {
				hits++
			}
		}
		if hits == 4 {
			return true
		}
	}
	return false
}

// checkPort25 connects to somebody else's mail exchanger: whether a provider blocks port
// 25 cannot be told from within. Nothing is sent but QUIT.
func (c *Checker) checkPort25(ctx context.Context) []Finding {
	if c.Probe == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Probe)
	if err != nil {
		host, port = c.Probe, "25"
	}
	targets, err := c.probeTargets(ctx, host)
	if errors.Is(err, dnsask.ErrNoName) {
		return []Finding{{Level: Unknown, Check: "port25", Subject: c.Probe, Problem: "has no mail exchanger and no address", Remedy: "name another with --probe"}}
	}
	if err != nil {
		return []Finding{unknown("port25", c.Probe, err)}
	}
	var out []Finding
	for _, ip := range targets {
		address := net.JoinHostPort(ip.String(), port)
		f := Finding{Level: OK, Check: "port25", Subject: address}
		f.Published, err = c.greeting(ctx, address)
		switch {
		case err != nil && ctx.Err() != nil:
			f = unknown("port25", address, ctx.Err())
		case err != nil && !ip.Is4():
			f.Level, f.Problem, f.Remedy = Warning, "no connection: "+err.Error(), "IPv4 is tried after it; if this machine has IPv6, ask its provider to open port 25"
		case err != nil:
			f.Level, f.Problem, f.Remedy = Wrong, "no connection: "+err.Error(), "most providers block port 25 until asked; or send by submission"
		case !strings.HasPrefix(f.Published, "220"):
			f.Level, f.Problem, f.Remedy = Warning, "port 25 is open, but the server does not want mail from here", "see what it says"
		default:
			f.Problem = "port 25 is open"
		}
		out = append(out, f)
	}
	return out
}

// probeTargets is one IPv6 and one IPv4 address of the best mail exchanger.
func (c *Checker) probeTargets(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if hosts, err := c.Resolver.MX(ctx, host); err == nil && hosts[0].Host != "" {
		host = hosts[0].Host
	} else if err != nil && !errors.Is(err, dnsask.ErrNoName) {
		return nil, err
	}
	found, err := both(ctx, c.Resolver, host)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, v4 := range []bool{false, true} {
		if i := slices.IndexFunc(found, func(ip netip.Addr) bool { return ip.Is4() == v4 }); i >= 0 {
			out = append(out, found[i])
		}
	}
	return out, nil
}

func (c *Checker) greeting(ctx context.Context, address string) (string, error) {
	const patience = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	line, err := bufio.NewReaderSize(io.LimitReader(conn, 4096), 4096).ReadString('\n')
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("no greeting: %w", err)
	}
	_, _ = io.WriteString(conn, "QUIT\r\n")
	return strings.TrimRight(line, "\r\n"), nil
}
