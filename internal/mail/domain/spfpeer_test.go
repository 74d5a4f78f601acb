package domain

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"blitiri.com.ar/go/spf"
	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// peerDNS is a zone as blitiri.com.ar/go/spf asks it.
type peerDNS struct{ zone zone }

func peerError(err error) error {
	if errors.Is(err, dnsask.ErrNoName) {
		return &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	if err != nil {
		return &net.DNSError{Err: err.Error(), IsTemporary: true}
	}
	return nil
}

func (p peerDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	found, err := p.zone.TXT(ctx, name)
	return found, peerError(err)
}

func (p peerDNS) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	found, err := p.zone.MX(ctx, name)
	var out []*net.MX
	for _, mx := range found {
		out = append(out, &net.MX{Host: mx.Host + ".", Pref: mx.Preference})
	}
	return out, peerError(err)
}

func (p peerDNS) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	found, err := both(ctx, p.zone, name)
	var out []net.IPAddr
	for _, ip := range found {
		out = append(out, net.IPAddr{IP: ip.AsSlice()})
	}
	return out, peerError(err)
}

func (p peerDNS) LookupAddr(ctx context.Context, address string) ([]string, error) {
	found, err := p.zone.PTR(ctx, Reverse(netip.MustParseAddr(address)))
	for i := range found {
		found[i] += "."
	}
	return found, peerError(err)
}

// TestSPFAsThePeer evaluates records made at random, nested into each other, with both
// libraries.
func TestSPFAsThePeer(t *testing.T) {
	names := []string{"a.example.org", "b.example.org", "c.example.org", "d.example.net"}
	addresses := []string{"192.0.2.1", "192.0.2.130", "198.51.100.7"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(append(names, "nobody.example.net", "%{d}", "%{o}", "x.%{d2}", "%{h}", "%{l}.b.example.org", "%{ir}.%{v}.c.example.org"))
		term := rapid.Custom(func(t *rapid.T) string {
			qualifier := rapid.SampledFrom([]string{"", "", "-", "~", "?", "+"}).Draw(t, "qualifier")
			mechanism := rapid.SampledFrom([]string{"a", "mx", "a:", "mx:", "include:", "exists:", "ptr:", "ip4:", "ip6:2001:db8::/32", "all"}).Draw(t, "mechanism")
			switch {
			case mechanism == "ip4:":
				mechanism += rapid.SampledFrom(addresses).Draw(t, "address") + rapid.SampledFrom([]string{"", "/32", "/25", "/0"}).Draw(t, "length")
			case strings.HasSuffix(mechanism, ":"):
				mechanism += name.Draw(t, "name")
			}
			if m := strings.Trim(mechanism, ":"); strings.HasPrefix(m, "a:") || strings.HasPrefix(m, "mx") || m == "a" {
				mechanism += rapid.SampledFrom([]string{"", "/24", "//64", "/25//32"}).Draw(t, "lengths")
			}
			return qualifier + mechanism
		})
		z := zone{}
		for _, n := range names {
			record := "v=spf1 " + strings.Join(rapid.SliceOfN(term, 0, 4).Draw(t, "terms of "+n), " ")
			if rapid.IntRange(0, 3).Draw(t, "redirect") == 0 {
				record += " redirect=" + rapid.SampledFrom(names).Draw(t, "to")
			}
			if rapid.IntRange(0, 5).Draw(t, "has spf") > 0 {
				z[n+" TXT"] = []string{record}
			}
			// Where both kinds are there, or neither, an answer is void for both libraries at
			// once: the peer asks for both kinds in one.
			if rapid.Bool().Draw(t, "has address") {
				z[n+" A"], z[n+" AAAA"] = []string{rapid.SampledFrom(addresses).Draw(t, "A")}, []string{"2001:db8::1"}
			}
			if rapid.Bool().Draw(t, "has mx") {
				z[n+" MX"] = []string{"10 " + rapid.SampledFrom(names).Draw(t, "MX")}
			}
		}
		ip := rapid.SampledFrom(append(addresses, "2001:db8::1", "2001:db8:1::9")).Draw(t, "ip")
		if rapid.Bool().Draw(t, "has ptr") {
			z[Reverse(netip.MustParseAddr(ip))+" PTR"] = []string{rapid.SampledFrom(names).Draw(t, "PTR")}
		}
		got := EvaluateSPF(t.Context(), z, netip.MustParseAddr(ip), "b.example.org", "me@a.example.org")
		want, why := spf.CheckHostWithSender(net.ParseIP(ip), "b.example.org", "me@a.example.org", spf.WithResolver(peerDNS{z}), spf.WithContext(t.Context()))
		if string(got.Verdict) != string(want) {
			t.Fatalf("%s (%s), the peer says %s (%v)\n%v", got.Verdict, got.Problem, want, why, z)
		}
	})
}
