package domain

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A zone is DNS in the memory of a test. Keys are a name in lower case and a type, as in
// "example.org TXT"; the value FAIL is an outage. "*" as a type is an outage of the name.
type zone map[string][]string

func (z zone) lookup(name, kind string) ([]string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for range 8 {
		found := z[name+" "+kind]
		if len(found) > 0 && found[0] == "FAIL" || len(z[name+" *"]) > 0 {
			return nil, fmt.Errorf("%s: %w: SERVFAIL", name, ErrDNS)
		}
		if len(found) > 0 {
			return found, nil
		}
		alias := z[name+" CNAME"]
		if len(alias) == 0 {
			break
		}
		name = strings.ToLower(strings.TrimSuffix(alias[0], "."))
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNoName)
}

func (z zone) TXT(_ context.Context, name string) ([]string, error) { return z.lookup(name, "TXT") }

func (z zone) PTR(_ context.Context, name string) ([]string, error) { return z.lookup(name, "PTR") }

func (z zone) MX(_ context.Context, name string) ([]MX, error) {
	found, err := z.lookup(name, "MX")
	var out []MX
	for _, text := range found {
		var mx MX
		if _, err := fmt.Sscanf(text, "%d %s", &mx.Preference, &mx.Host); err != nil {
			return nil, err
		}
		mx.Host = strings.TrimSuffix(mx.Host, ".")
		out = append(out, mx)
	}
	return out, err
}

func (z zone) Addresses(_ context.Context, name string, v4 bool) ([]netip.Addr, error) {
	kind := "AAAA"
	if v4 {
		kind = "A"
	}
	found, err := z.lookup(name, kind)
	var out []netip.Addr
	for _, text := range found {
		out = append(out, netip.MustParseAddr(text))
	}
	return out, err
}

// serve runs a real DNS server with the zone, by UDP and TCP on one loopback port, and
// returns its address.
func (z zone) serve(t testing.TB) string {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		answer := new(dns.Msg).SetReply(query)
		q := query.Question[0]
		kind := dns.TypeToString[q.Qtype]
		name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
		found, err := z.lookup(name, kind)
		switch {
		case err != nil && strings.Contains(err.Error(), "SERVFAIL"):
			answer.Rcode = dns.RcodeServerFailure
		case err != nil && !z.has(name):
			answer.Rcode = dns.RcodeNameError
		}
		owner := q.Name
		for range 8 {
			alias := z[strings.ToLower(strings.TrimSuffix(owner, "."))+" CNAME"]
			if len(alias) == 0 {
				break
			}
			answer.Answer = append(answer.Answer, record(t, owner, "CNAME", alias[0]))
			owner = dns.Fqdn(alias[0])
		}
		for _, text := range found {
			answer.Answer = append(answer.Answer, record(t, owner, kind, text))
		}
		if w.RemoteAddr().Network() == "udp" {
			size := dns.MinMsgSize
			if opt := query.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
			answer.Truncate(size)
		}
		_ = w.WriteMsg(answer)
	})
	return serveDNS(t, handler)
}

func (z zone) has(name string) bool {
	for key := range z {
		if owner, _, _ := strings.Cut(key, " "); owner == name || strings.HasSuffix(owner, "."+name) {
			return true
		}
	}
	return false
}

func record(t testing.TB, name, kind, text string) dns.RR {
	t.Helper()
	if kind == "TXT" {
		text = quoteTXT(text)
	}
	if kind == "PTR" || kind == "CNAME" || kind == "MX" {
		text = dns.Fqdn(text)
	}
	rr, err := dns.NewRR(dns.Fqdn(name) + " 60 IN " + kind + " " + text)
	if err != nil {
		t.Errorf("%s %s %q: %v", name, kind, text, err)
	}
	return rr
}
