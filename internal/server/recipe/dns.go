package recipe

import (
	"fmt"
	"net/netip"
	"strings"
)

// DNS are the facts that mail programs look for in DNS when all they have is an address.
type DNS struct {
	Domains []string
	// Host and Port are those of public_url; an empty Host: there is nothing by https.
	Host, Port              string
	IMAP, POP3, SMTP, Sieve Place
	// Digest is the text that vouches for the document of draft-ietf-mailmaint-pacc; empty:
	// there is none, and NoPACC says why.
	Digest, NoPACC string
}

// A Place is a mail server. A zero Host: there is none.
type Place struct {
	Host     string
	Port     int
	StartTLS bool
}

// A Record is one line to enter.
type Record struct {
	Domain string `json:"domain"`
	Name   string `json:"name"` // without the final dot
	Type   string `json:"type"`
	Value  string `json:"value"` // of TXT the text itself, else as a zone file has it
	TTL    int    `json:"ttl"`
	Why    string `json:"why"`
	// Absent: it says that there is no such service.
	Absent bool `json:"absent"`
}

const (
	hour = 3600
	// The digest changes with the configuration, and until DNS has followed the document
	// counts for nothing.
	fiveMinutes = 300
)

// Zone is the record as a line of a zone file.
func (r Record) Zone() string {
	value := r.Value
	if r.Type == "TXT" {
		value = `"` + value + `"` // of base64, "=", ";" and blanks; 64 characters
	}
	return fmt.Sprintf("%s. %d IN %s %s", r.Name, r.TTL, r.Type, value)
}

// Faults are reasons why nothing useful can be printed.
func (d DNS) Faults() []string {
	var faults []string
	if len(d.Domains) == 0 {
		faults = append(faults, "domains is missing: whose records should these be?")
	}
	if d.IMAP.Host == "" && d.POP3.Host == "" && d.SMTP.Host == "" {
		faults = append(faults, "[portal] names no mail servers: set imap and submission")
	}
	for name, place := range map[string]Place{"imap": d.IMAP, "pop3": d.POP3, "submission": d.SMTP, "sieve": d.Sieve} {
		if _, err := netip.ParseAddr(place.Host); err == nil {
			faults = append(faults, name+" of [portal] is an address: certificates and SRV records are for names")
		}
	}
	return faults
}

// Records are those of all domains.
func (d DNS) Records() []Record {
	var all []Record
	for _, domain := range d.Domains {
		add := func(name, kind, value, why string) {
			if value == "" || name+"."+domain == d.Host {
				return
			}
			all = append(all, Record{Domain: domain, Name: name + "." + domain, Type: kind, Value: value, TTL: hour, Why: why})
		}
		kind, value := d.pages()
		if d.IMAP.Host != "" || d.POP3.Host != "" {
			// There is no autoconfig of an account that cannot read.
			add("autoconfig", kind, value, "settings for Thunderbird and others (autoconfig)")
		}
		if d.Digest != "" {
			add("ua-auto-config", kind, value, "settings for newer programs (PACC)")
			all = append(all, Record{Domain: domain, Name: "_ua-auto-config." + domain, Type: "TXT", Value: d.Digest, TTL: fiveMinutes, Why: "vouches for the document of PACC; changes with it"})
		}
		for _, s := range d.services() {
			r := Record{Domain: domain, Name: s.label + "._tcp." + domain, Type: "SRV", TTL: hour, Why: s.why}
			if s.on {
				r.Value = fmt.Sprintf("0 1 %d %s.", s.place.Port, s.place.Host)
			} else {
				r.Value, r.Absent, r.Why = "0 0 0 .", true, "no "+s.why
			}
			all = append(all, r)
		}
	}
	return all
}

// pages is the record that leads to our pages.
func (d DNS) pages() (kind, value string) {
	address, err := netip.ParseAddr(d.Host)
	switch {
	case d.Host == "":
		return "", ""
	case err != nil:
		return "CNAME", d.Host + "."
	case address.Is4():
		return "A", d.Host
	}
	return "AAAA", d.Host
}

// A label is one service of RFC 6186, RFC 8314 section 5.1 or RFC 5804 section 1.8.
type label struct {
	label, why string
	place      Place
	on         bool
}

// services are all labels. One that is off is said to be, by the target "." of RFC 2782:
// a program that finds nothing goes on to guess.
func (d DNS) services() []label {
	tls := func(p Place) bool { return p.Host != "" && !p.StartTLS }
	start := func(p Place) bool { return p.Host != "" && p.StartTLS }
	return []label{
		{"_imaps", "IMAP with TLS from the first byte", d.IMAP, tls(d.IMAP)},
		{"_imap", "IMAP with STARTTLS", d.IMAP, start(d.IMAP)},
		{"_pop3s", "POP3 with TLS from the first byte", d.POP3, tls(d.POP3)},
		{"_pop3", "POP3 with STARTTLS", d.POP3, start(d.POP3)},
		{"_submissions", "submission with TLS from the first byte", d.SMTP, tls(d.SMTP)},
		{"_submission", "submission with STARTTLS", d.SMTP, start(d.SMTP)},
		{"_sieve", "ManageSieve", d.Sieve, d.Sieve.Host != ""},
	}
}

// Notes are what the records cannot say.
func (d DNS) Notes() []string {
	var notes []string
	if len(d.Domains) > 1 {
		notes = append(notes, "Each domain has a zone of its own: a zone takes only the lines of its domain.")
	}
	switch {
	case d.Host == "":
		notes = append(notes, "public_url of [web] is not an https address: programs find no settings there and no sign-in by it.")
	case d.Port != "" && d.Port != "443":
		notes = append(notes, "Programs ask autoconfig and ua-auto-config on port 443, and public_url has port "+d.Port+": something at 443 must hand these two names on.")
	}
	if d.Host != "" {
		names := "autoconfig.DOMAIN"
		if d.Digest != "" {
			names += " and ua-auto-config.DOMAIN"
		}
		notes = append(notes, "The certificate of the pages must be for "+names+" too, or nothing is believed.")
	}
	if d.Digest == "" && d.Host != "" {
		notes = append(notes, "No PACC: "+d.NoPACC+".")
	}
	if d.Digest != "" {
		notes = append(notes, "When [portal] or public_url changes, so does the text of _ua-auto-config: enter the new one beside the old one first, take the old one away later.")
	}
	return append(notes, "MX, SPF, DKIM and DMARC are not letterlockd's to know: letterlock dns DOMAIN prints them.")
}

// Text is the lines of a zone file, with a word on each.
func (d DNS) Text() string {
	var b strings.Builder
	b.WriteString("; Letterlock: by these records a mail program finds everything from an address alone.\n")
	for _, note := range d.Notes() {
		fmt.Fprintf(&b, "; %s\n", note)
	}
	domain := ""
	for _, r := range d.Records() {
		if r.Domain != domain {
			domain = r.Domain
			fmt.Fprintf(&b, "\n; %s\n", domain)
		}
		fmt.Fprintf(&b, "%s ; %s\n", r.Zone(), r.Why)
	}
	return b.String()
}
