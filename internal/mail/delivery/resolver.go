package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrNoName means that DNS has no such name, or no such record for it: an answer, not
// an outage.
var ErrNoName = errors.New("not found in DNS")

// An MX is one mail exchanger of a domain.
type MX struct {
	Host       string // without the final dot; "" is the null MX (RFC 7505)
	Preference uint16
}

// Resolver asks DNS what direct delivery needs to know. Names come without a final dot
// and in ASCII; errors wrap ErrNoName where the answer is that there is none.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]MX, error)
	Addresses(ctx context.Context, host string) ([]netip.Addr, error)
	TXT(ctx context.Context, name string) ([]string, error)
}

// SystemResolver asks the system's DNS servers, or dns where it is not nil.
func SystemResolver(dns *net.Resolver) Resolver {
	if dns == nil {
		dns = net.DefaultResolver
	}
	return systemResolver{dns}
}

type systemResolver struct{ dns *net.Resolver }

// MX implements Resolver. The final dot keeps resolv.conf's search list away: mail for
// example.com must not go to example.com.our.domain.
func (s systemResolver) MX(ctx context.Context, domain string) ([]MX, error) {
	records, err := s.dns.LookupMX(ctx, domain+".")
	if len(records) == 0 {
		return nil, lookupError(err)
	}
	out := make([]MX, 0, len(records))
	for _, record := range records {
		out = append(out, MX{Host: strings.ToLower(strings.TrimSuffix(record.Host, ".")), Preference: record.Pref})
	}
	return out, nil
}

// Addresses implements Resolver: IPv6 before IPv4.
func (s systemResolver) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := s.dns.LookupNetIP(ctx, "ip", host+".")
	if len(found) == 0 {
		return nil, lookupError(err)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return b.BitLen() - a.BitLen() })
	return found, nil
}

// TXT implements Resolver.
func (s systemResolver) TXT(ctx context.Context, name string) ([]string, error) {
	found, err := s.dns.LookupTXT(ctx, name+".")
	if err != nil {
		return nil, lookupError(err)
	}
	return found, nil
}

// Records asks r for TXT records as mtasts wants it: none is no error.
func Records(r Resolver) func(ctx context.Context, name string) ([]string, error) {
	return func(ctx context.Context, name string) ([]string, error) {
		found, err := r.TXT(ctx, name)
		if errors.Is(err, ErrNoName) {
			return nil, nil
		}
		return found, err
	}
}

func lookupError(err error) error {
	if dns := (*net.DNSError)(nil); err == nil || errors.As(err, &dns) && dns.IsNotFound {
		return errors.Join(ErrNoName, err)
	}
	return err
}

// isPrivate says which addresses mail from outside must not be sent to: an MX record
// is written by a stranger and could name anything that listens in our network.
func isPrivate(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsInterfaceLocalMulticast() {
		return true
	}
	for _, block := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fec0::/10",
	} {
		if netip.MustParsePrefix(block).Contains(ip) {
			return true
		}
	}
	// Transition forms that carry an IPv4 address within: 6to4 and NAT64.
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return isPrivate(netip.AddrFrom4([4]byte(b[2:6])))
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip):
		return isPrivate(netip.AddrFrom4([4]byte(b[12:16])))
	}
	return false
}
