package dnsask

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/letterlock-mail/letterlock/internal/lab/zone"
)

// patient is a client of server that waits as long as a loaded machine needs.
func patient(server ...string) *Client { return &Client{Servers: server, Timeout: 30 * time.Second} }

func TestClientAsks(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 200) // does not fit into a packet
	c := patient(zone.Zone{
		"example.org TXT":             {"v=spf1 -all", "two \"quoted\" \\ words"},
		"long.example.org TXT":        {long},
		"example.org MX":              {"20 b.example.org", "10 A.Example.org"},
		"null.example.org MX":         {"0 ."},
		"mail.example.org A":          {"192.0.2.1", "192.0.2.2"},
		"mail.example.org AAAA":       {"2001:db8::1"},
		"www.example.org CNAME":       {"w2.example.org"},
		"w2.example.org CNAME":        {"mail.example.org"},
		"loop.example.org CNAME":      {"loop.example.org"},
		"broken.example.org TXT":      {"FAIL"},
		"1.2.0.192.in-addr.arpa PTR":  {"mail.example.org"},
		"_imaps._tcp.example.org SRV": {"20 0 993 late.example.org", "10 1 993 light.example.org", "10 9 1993 Heavy.Example.org"},
		"_pop3s._tcp.example.org SRV": {"0 0 0 ."},
	}.Serve(t))
	ctx := t.Context()
	if got, err := c.TXT(ctx, "Example.org"); err != nil || !slices.Equal(got, []string{"v=spf1 -all", "two \"quoted\" \\ words"}) {
		t.Errorf("TXT: %q, %v", got, err)
	}
	if got, err := c.TXT(ctx, "long.example.org"); err != nil || !slices.Equal(got, []string{long}) {
		t.Errorf("a long TXT: %d, %v", len(got), err)
	}
	if got, err := c.MX(ctx, "example.org"); err != nil || !slices.Equal(got, []MX{{"a.example.org", 10}, {"b.example.org", 20}}) {
		t.Errorf("MX: %v, %v", got, err)
	}
	if got, err := c.MX(ctx, "null.example.org"); err != nil || !slices.Equal(got, []MX{{"", 0}}) {
		t.Errorf("null MX: %v, %v", got, err)
	}
	if got, err := c.Addresses(ctx, "mail.example.org", true); err != nil || fmt.Sprint(got) != "[192.0.2.1 192.0.2.2]" {
		t.Errorf("A: %v, %v", got, err)
	}
	if got, err := c.Addresses(ctx, "www.example.org", false); err != nil || fmt.Sprint(got) != "[2001:db8::1]" {
		t.Errorf("AAAA behind aliases: %v, %v", got, err)
	}
	if got, err := c.PTR(ctx, "1.2.0.192.in-addr.arpa"); err != nil || !slices.Equal(got, []string{"mail.example.org"}) {
		t.Errorf("PTR: %v, %v", got, err)
	}
	want := []SRV{{"heavy.example.org", 1993, 10, 9}, {"light.example.org", 993, 10, 1}, {"late.example.org", 993, 20, 0}}
	if got, err := c.SRV(ctx, "_imaps._tcp.example.org"); err != nil || !slices.Equal(got, want) {
		t.Errorf("SRV: %v, %v", got, err)
	}
	if got, err := c.SRV(ctx, "_pop3s._tcp.example.org"); err != nil || !slices.Equal(got, []SRV{{}}) {
		t.Errorf("SRV that says no: %v, %v", got, err)
	}
	for name, want := range map[string]error{
		"nobody.example.net": ErrNoName, "mail.example.org": ErrNoName, "loop.example.org": ErrNoName, "broken.example.org": ErrDNS,
		"a..b": ErrNoName, strings.Repeat("a", 64) + ".org": ErrNoName, strings.Repeat("a.", 200): ErrNoName,
	} {
		if _, err := c.TXT(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestClientDistrusts: answers that are not to our question are passed over, and a
// server that is down or refuses gives way to the next.
func TestClientDistrusts(t *testing.T) {
	good := zone.Zone{"example.org TXT": {"right"}}.Serve(t)
	var asked atomic.Int32
	refuses := zone.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		asked.Add(1)
		_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeRefused))
	}))
	if got, err := patient("127.0.0.1:1", refuses, good).TXT(t.Context(), "example.org"); err != nil || got[0] != "right" || asked.Load() != 1 {
		t.Errorf("%v, %v after %d refusals", got, err, asked.Load())
	}
	forged := zone.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		other := new(dns.Msg).SetReply(query)
		other.Id++
		other.Answer = append(other.Answer, zone.Record(t, "example.org", "TXT", "wrong id"))
		_ = w.WriteMsg(other)
		other = new(dns.Msg).SetReply(query)
		other.Question[0].Name = "example.net."
		other.Answer = append(other.Answer, zone.Record(t, "example.org", "TXT", "wrong question"))
		_ = w.WriteMsg(other)
		if _, err := w.Write([]byte("no DNS at all")); err != nil {
			t.Error(err)
		}
		right := new(dns.Msg).SetReply(query)
		right.Answer = append(right.Answer, zone.Record(t, "example.net", "TXT", "wrong owner"), zone.Record(t, "example.org", "TXT", "right"))
		_ = w.WriteMsg(right)
	}))
	if got, err := patient(forged).TXT(t.Context(), "example.org"); err != nil || !slices.Equal(got, []string{"right"}) {
		t.Errorf("%q, %v", got, err)
	}
	old := zone.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		answer := new(dns.Msg).SetReply(query)
		if query.IsEdns0() != nil {
			answer = new(dns.Msg).SetRcode(query, dns.RcodeFormatError)
		} else {
			answer.Answer = append(answer.Answer, zone.Record(t, "example.org", "TXT", "right"))
		}
		_ = w.WriteMsg(answer)
	}))
	if got, err := patient(old).TXT(t.Context(), "example.org"); err != nil || !slices.Equal(got, []string{"right"}) {
		t.Errorf("a server without EDNS: %q, %v", got, err)
	}
}

// TestClientEnds: a server that never answers costs the time allowed and no more.
func TestClientEnds(t *testing.T) {
	asked := make(chan struct{}, 10)
	silent := zone.Serve(t, dns.HandlerFunc(func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} }))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the person went away")
	go func() { <-asked; cancel(why) }()
	c := Client{Servers: []string{silent}, Timeout: time.Hour}
	if _, err := c.TXT(ctx, "example.org"); !errors.Is(err, ErrDNS) || !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	c.Timeout = time.Millisecond
	if _, err := c.TXT(t.Context(), "example.org"); !errors.Is(err, ErrDNS) {
		t.Errorf("silent: %v", err)
	}
	if _, err := (&Client{}).TXT(t.Context(), "example.org"); !errors.Is(err, ErrDNS) {
		t.Errorf("no server: %v", err)
	}
}

func TestSystemServers(t *testing.T) {
	servers := SystemServers(t.Context())
	if len(servers) == 0 {
		t.Error("this machine has no DNS server, not even the default one")
	}
	for _, s := range servers {
		if _, err := netip.ParseAddrPort(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}
