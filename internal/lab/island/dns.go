package island

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// DNS is the only name server there is: it answers for every zone.
type DNS struct {
	udp, tcp *dns.Server
	served   sync.WaitGroup

	mu      sync.Mutex
	records []dns.RR
	broken  map[string]bool
	asked   []string
}

func startDNS(address string) (*DNS, error) {
	packet, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, fmt.Errorf("start DNS: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		packet.Close()
		return nil, fmt.Errorf("start DNS: %w", err)
	}
	d := &DNS{broken: map[string]bool{}}
	d.udp = &dns.Server{PacketConn: packet, Handler: d}
	d.tcp = &dns.Server{Listener: listener, Handler: d}
	for _, server := range []*dns.Server{d.udp, d.tcp} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		d.served.Go(func() { _ = server.ActivateAndServe() })
		<-started
	}
	return d, nil
}

func (d *DNS) stop() {
	_ = d.udp.Shutdown()
	_ = d.tcp.Shutdown()
	d.served.Wait()
}

// Set adds records, written as in a zone file with full names. It panics on one that
// cannot be read: the test is wrong then.
func (d *DNS) Set(records ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			panic(fmt.Sprintf("%q: %v", text, err))
		}
		d.records = append(d.records, rr)
	}
}

// SetTXT adds a TXT record of any length.
func (d *DNS) SetTXT(name, text string) {
	var parts []string
	for ; len(text) > 255; text = text[255:] {
		parts = append(parts, text[:255])
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = append(d.records, &dns.TXT{
		Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: append(parts, text),
	})
}

// Remove takes all records of a name away.
func (d *DNS) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = slices.DeleteFunc(d.records, func(rr dns.RR) bool { return same(rr.Header().Name, name) })
}

// Break has every question about a name answered by SERVFAIL.
func (d *DNS) Break(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken[strings.ToLower(dns.Fqdn(name))] = true
}

// Asked returns the questions so far, as "TYPE name".
func (d *DNS) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// ServeDNS implements dns.Handler.
func (d *DNS) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(request)
	answer.RecursionAvailable = true
	if len(request.Question) == 1 {
		d.answer(request.Question[0], answer)
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := request.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer)
}

func (d *DNS) answer(q dns.Question, into *dns.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, dns.TypeToString[q.Qtype]+" "+strings.TrimSuffix(q.Name, "."))
	if d.broken[strings.ToLower(q.Name)] {
		into.Rcode = dns.RcodeServerFailure
		return
	}
	exists := false
	name := q.Name
	for range 8 { // CNAMEs on the way
		next := ""
		for _, rr := range d.records {
			header := rr.Header()
			exists = exists || same(header.Name, name) || dns.IsSubDomain(name, header.Name)
			if !same(header.Name, name) {
				continue
			}
			if header.Rrtype == q.Qtype {
				into.Answer = append(into.Answer, rr)
			} else if alias, ok := rr.(*dns.CNAME); ok {
				into.Answer = append(into.Answer, rr)
				next = alias.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !exists {
		into.Rcode = dns.RcodeNameError
	}
}

func same(a, b string) bool { return strings.EqualFold(dns.Fqdn(a), dns.Fqdn(b)) }
