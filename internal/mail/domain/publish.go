package domain

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A Sender is a machine that sends mail for a domain, as it should be known outside.
type Sender struct {
	Domain    string
	Host      string       // EHLO name; what reverse DNS should say
	Addresses []netip.Addr // it sends from
	Keys      []Key        // those that sign, and those that wait for it
	Reports   string       // address for reports; empty: postmaster of the domain
	DMARC     string       // policy to publish; empty: none
}

func (s Sender) reports() string {
	if s.Reports != "" {
		return s.Reports
	}
	return "postmaster@" + s.Domain
}

// Publish gives the records for the zone, and the MTA-STS policy file where the domain
// has mail exchangers, to be served at PolicyURL. mx is what is published now.
func Publish(s Sender, mx []MX, now time.Time) (records []Record, policy string) {
	policyName := s.DMARC
	if policyName == "" {
		policyName = "none"
	}
	if len(s.Addresses) > 0 {
		records = append(records, Record{s.Domain, "TXT", spfRecord(s.Addresses)})
	}
	for _, key := range s.Keys {
		records = append(records, Record{key.Name(), "TXT", key.Record()})
	}
	records = append(records,
		Record{"_dmarc." + s.Domain, "TXT", "v=DMARC1; p=" + policyName + "; rua=mailto:" + s.reports()},
		Record{"_smtp._tls." + s.Domain, "TXT", "v=TLSRPTv1; rua=mailto:" + s.reports()})
	for _, ip := range s.Addresses {
		kind := "AAAA"
		if ip.Is4() {
			kind = "A"
		}
		if s.Host != "" {
			records = append(records, Record{s.Host, kind, ip.String()}, Record{Reverse(ip), "PTR", s.Host + "."})
		}
	}
	var lines strings.Builder
	for _, m := range mx {
		if m.Host != "" {
			fmt.Fprintf(&lines, "mx: %s\r\n", m.Host)
		}
	}
	if lines.Len() == 0 {
		return records, ""
	}
	records = append(records, Record{"_mta-sts." + s.Domain, "TXT", "v=STSv1; id=" + now.UTC().Format("20060102T150405")})
	// A week, as RFC 8461 section 3.2 has it for its example.
	return records, "version: STSv1\r\nmode: enforce\r\n" + lines.String() + "max_age: 604800\r\n"
}

// PolicyURL is where a domain's MTA-STS policy is (RFC 8461 section 3.3).
func PolicyURL(domain string) string {
	return "https://mta-sts." + domain + "/.well-known/mta-sts.txt"
}

// spfRecord names addresses and nothing that takes a lookup. It ends in ~all: receivers
// that refuse on -all do so before they look at the DKIM signature, and lose forwarded
// mail that DMARC would let pass. What has forgeries refused is DMARC's policy.
func spfRecord(addresses []netip.Addr) string {
	return "v=spf1 " + spfTerms(addresses) + " ~all"
}

func spfTerms(addresses []netip.Addr) string {
	var terms []string
	for _, ip := range addresses {
		if ip.Is4() {
			terms = append(terms, "ip4:"+ip.String())
		} else {
			terms = append(terms, "ip6:"+ip.String())
		}
	}
	return strings.Join(terms, " ")
}

// amendSPF adds addresses to a record, where they come first and cost no lookup.
func amendSPF(record string, addresses ...netip.Addr) string {
	if len(record) < 6 {
		return spfRecord(addresses)
	}
	return record[:6] + " " + spfTerms(addresses) + record[6:]
}
