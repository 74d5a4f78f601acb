// Package zone is DNS for tests: a table of records served by a real name server on
// loopback, by UDP and TCP. What a table cannot say, a handler of the test's own does.
package zone

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A Zone is all names that there are. Keys are a name in lower case and a type, as in
// "example.org TXT"; the value FAIL is an outage. "*" as a type is an outage of the
// name, and the value REFUSED a server that will not say.
type Zone map[string][]string

// Serve runs a name server with the zone and returns its address.
func (z Zone) Serve(t testing.TB) string {
	t.Helper()
	return Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { _ = w.WriteMsg(z.Answer(t, w, query)) }))
}

// Answer is what the zone says to a query, cut to what fits when it came by UDP.
func (z Zone) Answer(t testing.TB, w dns.ResponseWriter, query *dns.Msg) *dns.Msg {
	answer := new(dns.Msg).SetReply(query)
	q := query.Question[0]
	kind := dns.TypeToString[q.Qtype]
	owner := q.Name
	for range 8 {
		alias := z[plain(owner)+" CNAME"]
		if len(alias) == 0 {
			break
		}
		answer.Answer = append(answer.Answer, Record(t, owner, "CNAME", alias[0]))
		owner = dns.Fqdn(alias[0])
	}
	found := z[plain(owner)+" "+kind]
	switch {
	case len(z[plain(owner)+" *"]) > 0, len(found) > 0 && found[0] == "FAIL":
		answer.Rcode, found = dns.RcodeServerFailure, nil
	case len(found) > 0 && found[0] == "REFUSED":
		answer.Rcode, found = dns.RcodeRefused, nil
	case !z.has(plain(q.Name)):
		answer.Rcode = dns.RcodeNameError
	}
	for _, text := range found {
		answer.Answer = append(answer.Answer, Record(t, owner, kind, text))
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		answer.Truncate(size)
	}
	return answer
}

func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (z Zone) has(name string) bool {
	for key := range z {
		if owner, _, _ := strings.Cut(key, " "); owner == name || strings.HasSuffix(owner, "."+name) {
			return true
		}
	}
	return false
}

// Record makes one record; text is as in a zone file, names need no final dot and
// texts no quotes.
func Record(t testing.TB, name, kind, text string) dns.RR {
	t.Helper()
	switch kind {
	case "TXT":
		text = quote(text)
	case "PTR", "CNAME", "MX", "SRV":
		text = dns.Fqdn(text)
	}
	rr, err := dns.NewRR(dns.Fqdn(name) + " 60 IN " + kind + " " + text)
	if err != nil {
		t.Errorf("%s %s %q: %v", name, kind, text, err)
	}
	return rr
}

// quote writes a text as the strings of 255 bytes that a record holds.
func quote(text string) string {
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, text[:255]), text[255:]
	}
	parts = append(parts, text)
	for i, part := range parts {
		parts[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(part) + `"`
	}
	return strings.Join(parts, " ")
}

// Serve runs handler on one loopback port, by UDP and TCP, until the test ends.
func Serve(t testing.TB, handler dns.Handler) string {
	t.Helper()
	tcp, packets := Listen(t)
	started := make(chan struct{}, 2)
	done := make(chan error, 2)
	servers := []*dns.Server{{Listener: tcp, Handler: handler}, {PacketConn: packets, Handler: handler}}
	for _, s := range servers {
		s.NotifyStartedFunc = func() { started <- struct{}{} }
		go func() { done <- s.ActivateAndServe() }()
	}
	<-started
	<-started
	t.Cleanup(func() {
		for _, s := range servers {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return tcp.Addr().String()
}

// Listen finds a port that is free for both.
func Listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, packets
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}
