package main

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// zone FILE...: a DNS server with the records of these zone files, at $DNS. What the
// program prints for a zone file must be one.
func zoneCommand(ts *testscript.TestScript, _ bool, args []string) {
	records := map[dns.Question][]dns.RR{}
	names := map[string]bool{}
	for _, file := range args {
		parser := dns.NewZoneParser(strings.NewReader(ts.ReadFile(file)), "", file)
		parser.SetDefaultTTL(60)
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			q := dns.Question{Name: strings.ToLower(rr.Header().Name), Qtype: rr.Header().Rrtype, Qclass: dns.ClassINET}
			records[q] = append(records[q], rr)
			names[q.Name] = true
		}
		ts.Check(parser.Err())
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		answer := new(dns.Msg).SetReply(query)
		q := query.Question[0]
		q.Name = strings.ToLower(q.Name)
		answer.Answer = records[q]
		if !names[q.Name] {
			answer.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(answer)
	})}
	done := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	<-started
	ts.Defer(func() {
		ts.Check(server.Shutdown())
		ts.Check(<-done)
	})
	ts.Setenv("DNS", packets.LocalAddr().String())
}

func TestDNSVerdict(t *testing.T) {
	for _, c := range []struct {
		levels string
		want   cli.Code
	}{
		{"", cli.OK}, {"ok ok", cli.OK}, {"ok warning", cli.OK}, {"ok unknown warning", cli.Unavailable}, {"wrong unknown ok", cli.DataError}, {"wrong wrong", cli.DataError},
	} {
		var findings []domain.Finding
		for level := range strings.FieldsSeq(c.levels) {
			findings = append(findings, domain.Finding{Level: domain.Level(level)})
		}
		got := cli.OK
		if err := dnsVerdict(findings); err != nil {
			got = err.(*cli.Fault).Code
		}
		if got != c.want {
			t.Errorf("%q: %d, want %d", c.levels, got, c.want)
		}
	}
}
