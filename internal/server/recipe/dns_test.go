package recipe

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestDNS(t *testing.T) {
	const digest = "v=UAAC1; a=sha256; d=yj0WO6sFU4GCciYUBWjzvvfqrBh869doeOC2Pp5EI1Y="
	full := DNS{
		Domains: []string{"example.org", "example.net"}, Host: "mail.example.org",
		IMAP: Place{"imap.example.org", 993, false}, SMTP: Place{"smtp.example.org", 587, true}, Digest: digest,
	}
	for _, c := range []struct {
		what   string
		change func(*DNS)
		wants  []string
		lacks  []string
	}{
		{"all", func(*DNS) {}, []string{
			"autoconfig.example.org. 3600 IN CNAME mail.example.org.", "ua-auto-config.example.net. 3600 IN CNAME mail.example.org.",
			`_ua-auto-config.example.net. 300 IN TXT "` + digest + `"`,
			"_imaps._tcp.example.org. 3600 IN SRV 0 1 993 imap.example.org.", "_imap._tcp.example.org. 3600 IN SRV 0 0 0 .",
			"_submission._tcp.example.net. 3600 IN SRV 0 1 587 smtp.example.org.", "_submissions._tcp.example.net. 3600 IN SRV 0 0 0 .",
			"_pop3s._tcp.example.org. 3600 IN SRV 0 0 0 .", "_pop3._tcp.example.org. 3600 IN SRV 0 0 0 .", "_sieve._tcp.example.org. 3600 IN SRV 0 0 0 .",
			"for autoconfig.DOMAIN and ua-auto-config.DOMAIN too", "letterlock dns DOMAIN", "a zone takes only the lines of its domain",
		}, []string{"port 443"}},
		{"without PACC", func(d *DNS) { d.Digest, d.NoPACC = "", "submission is on port 587" }, []string{"; No PACC: submission is on port 587.\n", "for autoconfig.DOMAIN too"}, []string{"ua-auto-config"}},
		{"without https", func(d *DNS) { d.Host, d.Digest = "", "" }, []string{"_imaps._tcp.example.org. 3600 IN SRV 0 1 993"}, []string{"autoconfig.example", "No PACC"}},
		{"an address, and one domain", func(d *DNS) { d.Host, d.Port, d.Domains = "2001:db8::1", "8443", d.Domains[:1] }, []string{"autoconfig.example.org. 3600 IN AAAA 2001:db8::1\n", "public_url has port 8443"}, []string{"CNAME", "of its domain"}},
		{"sending only", func(d *DNS) { d.IMAP = Place{} }, []string{"ua-auto-config.example.org. 3600", "_imaps._tcp.example.org. 3600 IN SRV 0 0 0 ."}, []string{"\nautoconfig.example"}},
		{"itself", func(d *DNS) { d.Host = "autoconfig.example.org" }, []string{"autoconfig.example.net. 3600 IN CNAME autoconfig.example.org."}, []string{"\nautoconfig.example.org. "}},
		{"sieve and POP3", func(d *DNS) {
			d.Sieve, d.POP3 = Place{"imap.example.org", 4190, true}, Place{"pop.example.org", 995, false}
		}, []string{
			"_sieve._tcp.example.org. 3600 IN SRV 0 1 4190 imap.example.org.", "_pop3s._tcp.example.org. 3600 IN SRV 0 1 995 pop.example.org.", "_pop3._tcp.example.org. 3600 IN SRV 0 0 0 .",
		}, nil},
	} {
		d := full
		c.change(&d)
		text := strings.ReplaceAll(d.Text(), " ; ", "\n")
		for _, want := range c.wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", c.what, want, text)
			}
		}
		for _, lack := range c.lacks {
			if strings.Contains(text, lack) {
				t.Errorf("%s: %q in\n%s", c.what, lack, text)
			}
		}
		// A reader of zone files that is not ours.
		zone := dns.NewZoneParser(strings.NewReader(d.Text()), "", "")
		read := 0
		for _, ok := zone.Next(); ok; _, ok = zone.Next() {
			read++
		}
		if err := zone.Err(); err != nil || read != len(d.Records()) {
			t.Errorf("%s: %v, %d of %d records in\n%s", c.what, err, read, len(d.Records()), d.Text())
		}
	}
}

func TestDNSFaults(t *testing.T) {
	for _, c := range []struct {
		facts DNS
		want  string
	}{
		{DNS{}, "domains is missing"},
		{DNS{Domains: []string{"example.org"}}, "[portal] names no mail servers"},
		{DNS{Domains: []string{"example.org"}, IMAP: Place{"192.0.2.1", 993, false}}, "imap of [portal] is an address"},
	} {
		if got := c.facts.Faults(); !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, c.want) }) {
			t.Errorf("%+v: %q", c.facts, got)
		}
	}
	if got := (DNS{Domains: []string{"example.org"}, SMTP: Place{"smtp.example.org", 465, false}}).Faults(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
