package main

import (
	"fmt"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// A dnsReport is the JSON of letterlock dns.
type dnsReport struct {
	Domain   string       `json:"domain"`
	Records  []dnsRecord  `json:"records"`
	Policy   *dnsPolicy   `json:"mta_sts_policy,omitempty"`
	Findings []dnsFinding `json:"findings"`
}

type dnsRecord struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
	Zone  string `json:"zone"`
}

type dnsPolicy struct {
	URL  string `json:"url"`
	Text string `json:"text"`
}

type dnsFinding struct {
	Level     domain.Level `json:"level"`
	Check     string       `json:"check"`
	Subject   string       `json:"subject"`
	Published string       `json:"published,omitempty"`
	Problem   string       `json:"problem,omitempty"`
	Remedy    string       `json:"remedy,omitempty"`
}

func recordsOf(records []domain.Record) []dnsRecord {
	out := []dnsRecord{}
	for _, r := range records {
		out = append(out, dnsRecord{r.Name, r.Type, r.Value, r.Zone()})
	}
	return out
}

func policyOf(s domain.Sender, text string) *dnsPolicy {
	if text == "" {
		return nil
	}
	return &dnsPolicy{domain.PolicyURL(s.Domain), text}
}

func findingsOf(findings []domain.Finding) []dnsFinding {
	out := []dnsFinding{}
	for _, f := range findings {
		out = append(out, dnsFinding(f))
	}
	return out
}

// printRecords prints a zone file; what is no record stands there as a comment.
func (p *program) printRecords(s domain.Sender, records []domain.Record, policy string, asJSON bool) error {
	if asJSON {
		return p.printJSON(dnsReport{s.Domain, recordsOf(records), policyOf(s, policy), []dnsFinding{}})
	}
	w := p.term.Out
	fmt.Fprintf(w, "; records to publish for %s\n", s.Domain)
	for _, r := range records {
		if r.Type == "PTR" {
			fmt.Fprintln(w, "; by whoever owns the address:\n; "+r.Zone())
			continue
		}
		fmt.Fprintln(w, r.Zone())
	}
	if len(s.Addresses) == 0 {
		fmt.Fprintln(w, "; no SPF: name the addresses that mail is sent from with --address")
	}
	if len(s.Keys) == 0 {
		fmt.Fprintf(w, "; no DKIM: letterlock dkim new %s makes keys\n", s.Domain)
	}
	if policy == "" {
		fmt.Fprintln(w, "; no MTA-STS: the domain has no MX. It needs one, to take bounces and reports")
		return nil
	}
	fmt.Fprintf(w, "; %s, as text/plain:\n", domain.PolicyURL(s.Domain))
	for line := range strings.Lines(policy) {
		fmt.Fprintln(w, ";   "+strings.TrimRight(line, "\r\n"))
	}
	return nil
}

func (p *program) printFindings(findings []domain.Finding) {
	w := p.term.Out
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %-9s %s: %s\n", f.Level, f.Check, cli.Line(f.Subject), cli.Line(f.Problem))
		if f.Published != "" {
			fmt.Fprintln(w, "                   there: "+cli.Line(f.Published))
		}
		if f.Remedy != "" {
			fmt.Fprintln(w, "                   to do: "+cli.Line(f.Remedy))
		}
	}
}
