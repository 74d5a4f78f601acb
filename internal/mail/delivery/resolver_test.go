package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// startDNS answers out of zone lines, on UDP.
func startDNS(t *testing.T, records ...string) Resolver {
	t.Helper()
	zone := map[dns.Question][]dns.RR{}
	names := map[string]bool{}
	for _, line := range records {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		h := rr.Header()
		names[h.Name] = true
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: dns.ClassINET}
		zone[q] = append(zone[q], rr)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.RecursionAvailable = true
		q := r.Question[0]
		q.Name = strings.ToLower(q.Name)
		switch {
		case strings.HasPrefix(q.Name, "broken."):
			m.Rcode = dns.RcodeServerFailure
		case !names[q.Name]:
			m.Rcode = dns.RcodeNameError
		}
		m.Answer = zone[q]
		_ = w.WriteMsg(m)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	return SystemResolver(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}})
}

func TestSystemResolver(t *testing.T) {
	r := startDNS(t,
		"dest.test. 60 IN MX 20 MX2.dest.test.", "dest.test. 60 IN MX 10 mx1.dest.test.", "null.test. 60 IN MX 0 .",
		"mx1.dest.test. 60 IN A 8.20.1.1", "mx1.dest.test. 60 IN AAAA 2600::25", "only-a.test. 60 IN A 8.20.1.2",
		`_mta-sts.dest.test. 60 IN TXT "v=STSv1; " "id=1;"`)
	ctx := t.Context()
	if got, err := r.MX(ctx, "dest.test"); err != nil || !slices.Contains(got, MX{"mx1.dest.test", 10}) || !slices.Contains(got, MX{"mx2.dest.test", 20}) {
		t.Errorf("MX %v, %v", got, err)
	}
	if got, err := r.MX(ctx, "null.test"); err != nil || !slices.Equal(got, []MX{{"", 0}}) {
		t.Errorf("null MX %v, %v", got, err)
	}
	want := []netip.Addr{netip.MustParseAddr("2600::25"), netip.MustParseAddr("8.20.1.1")}
	if got, err := r.Addresses(ctx, "mx1.dest.test"); err != nil || !slices.Equal(got, want) {
		t.Errorf("addresses %v, %v", got, err)
	}
	if got, err := r.TXT(ctx, "_mta-sts.dest.test"); err != nil || !slices.Equal(got, []string{"v=STSv1; id=1;"}) {
		t.Errorf("TXT %q, %v", got, err)
	}
	for _, name := range []string{"only-a.test", "nowhere.test"} {
		if _, err := r.MX(ctx, name); !errors.Is(err, ErrNoName) {
			t.Errorf("MX of %s: %v", name, err)
		}
		if got, err := Records(r)(ctx, name); err != nil || got != nil {
			t.Errorf("TXT of %s: %v, %v", name, got, err)
		}
	}
	_, mxErr := r.MX(ctx, "broken.test")
	_, ipErr := r.Addresses(ctx, "broken.test")
	_, txtErr := Records(r)(ctx, "broken.test")
	for _, err := range []error{mxErr, ipErr, txtErr} {
		if err == nil || errors.Is(err, ErrNoName) {
			t.Errorf("an outage is taken for an answer: %v", err)
		}
	}
}

func TestPrivate(t *testing.T) {
	for _, text := range []string{"10.1.2.3", "127.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255",
		"192.0.2.1", "::", "::1", "fe80::1", "fd00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::7f00:1", "2001:db8::1"} {
		if !isPrivate(netip.MustParseAddr(text)) {
			t.Errorf("%s passes for public", text)
		}
	}
	for _, text := range []string{"8.8.8.8", "2600::1", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808", "100.128.0.1"} {
		if isPrivate(netip.MustParseAddr(text)) {
			t.Errorf("%s passes for private", text)
		}
	}
}
