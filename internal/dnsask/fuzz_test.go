package dnsask

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzAnswer: whatever a DNS server sends, it is judged without a crash, and only records
// of the asked type and of our question come out of it.
func FuzzAnswer(f *testing.F) {
	question := dnsmessage.Question{Name: dnsmessage.MustNewName("example.org."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}
	pack := func(change func(*dnsmessage.Message)) {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{question}}
		change(&m)
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	header := dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}
	pack(func(*dnsmessage.Message) {})
	pack(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })
	pack(func(m *dnsmessage.Message) { m.Truncated = true })
	pack(func(m *dnsmessage.Message) {
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.TXTResource{TXT: []string{"v=spf1", " -all"}}}}
	})
	pack(func(m *dnsmessage.Message) {
		alias := header
		alias.Type = dnsmessage.TypeCNAME
		m.Answers = []dnsmessage.Resource{{Header: alias, Body: &dnsmessage.CNAMEResource{CNAME: question.Name}}}
	})
	f.Fuzz(func(t *testing.T, packet []byte) {
		bodies, err := parseAnswer(packet, 7, question)
		if (err == nil) != (len(bodies) > 0) {
			t.Errorf("%d records, %v", len(bodies), err)
		}
		for _, b := range bodies {
			if _, ok := b.(*dnsmessage.TXTResource); !ok {
				t.Errorf("%T", b)
			}
		}
	})
}
