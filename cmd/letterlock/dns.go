package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// dnsFlags are what letterlock dns can be told.
type dnsFlags struct {
	addresses  []string
	host       string
	server     string
	caFile     string
	probe      string
	blocklists []string
	reports    string
	policy     string
	timeout    time.Duration
	records    bool
	asJSON     bool
}

func (p *program) dnsCommand() *cobra.Command {
	var f dnsFlags
	c := &cobra.Command{
		Use:   "dns DOMAIN",
		Short: "the DNS records that a sending domain needs, and a check of those there are",
		Long: `Print what to publish for a domain that this machine sends mail for: SPF, DKIM, DMARC,
MTA-STS, TLSRPT and reverse DNS. Then look at what is published, as receivers will: SPF
is evaluated for each address, DKIM records are compared with the keys, the MTA-STS
policy is fetched and compared with the MX, reverse DNS must lead back to the address,
and block lists are asked. Nothing is changed anywhere.

Each line of the check is ok, a warning (mail arrives, something is weaker than it could
be), wrong (mail is refused or counts as forged) or unknown (no answer). The exit code is
65 when something is wrong, else 69 when something is unknown, else 0.

Addresses and EHLO name are guessed from this machine where no flag names them; behind
NAT name them. Whether port 25 is open to the outside is tried only with --probe, because
it takes connecting to somebody else's mail server; take one that knows you.

Block lists often refuse public resolvers, which some programs read as a listing. Here
each list must first give the right answer for its own test entries (RFC 5782); with one
that does not, nothing is said about the address, and --server names a better resolver.`,
		Example: `  letterlock dns example.org
  letterlock dns example.org --records > example.org.zone
  letterlock dns example.org --address 192.0.2.25 --host mail.example.org
  letterlock dns example.org --probe example.net --server 127.0.0.1
  letterlock dns example.org --json | jq '.findings[] | select(.level == "wrong")'`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return p.dns(c.Context(), args[0], f) },
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.addresses, "address", nil, "address that mail is sent from; may be given more than once (default: this machine's)")
	flags.StringVar(&f.host, "host", "", "name said in EHLO (default: this machine's name)")
	flags.StringVar(&f.server, "server", "", "DNS server to ask, as ADDRESS or ADDRESS:PORT (default: the system's)")
	flags.StringVar(&f.caFile, "ca-file", "", "more certificate authorities, for the MTA-STS policy")
	flags.StringVar(&f.probe, "probe", "", "connect to port 25 of this domain's or host's mail server, to see whether this network lets mail out")
	flags.StringArrayVar(&f.blocklists, "blocklist", nil, "block list to ask, or none; may be given more than once (default: "+strings.Join(domain.Blocklists(), ", ")+")")
	flags.StringVar(&f.reports, "reports", "", "address for reports (default: postmaster of the domain)")
	flags.StringVar(&f.policy, "dmarc", "none", "DMARC policy to print: none, quarantine or reject")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long all questions together may take")
	flags.BoolVar(&f.records, "records", false, "print the records only, as a zone file has them; check nothing")
	flags.BoolVar(&f.asJSON, "json", false, "print an object with records and findings")
	completeWords(c, "dmarc", "none", "quarantine", "reject")
	return c
}

func (p *program) dns(ctx context.Context, name string, f dnsFlags) error {
	sender, lists, err := p.sender(name, f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	client := &dnsask.Client{Servers: []string{f.server}}
	if f.server == "" {
		client.Servers = dnsask.SystemServers(ctx)
	} else if client.Servers[0], err = serverAddress(f.server); err != nil {
		return err
	}
	if len(sender.Addresses) == 0 {
		sender.Addresses = ownAddresses(ctx, client, sender.Host)
	}
	roots, err := readRoots(f.caFile)
	if err != nil {
		return err
	}
	mx, err := client.MX(ctx, sender.Domain)
	if err != nil && !errors.Is(err, dnsask.ErrNoName) && f.records {
		return cli.Wrap(cli.Unavailable, fmt.Errorf("ask for the mail exchangers: %w", err), "name a DNS server with --server")
	}
	records, policy := domain.Publish(sender, mx, p.now())
	if f.records {
		return p.printRecords(sender, records, policy, f.asJSON)
	}
	checker := &domain.Checker{
		Resolver: client, HTTP: domain.PolicyClient(client, roots), Dial: (&net.Dialer{}).DialContext,
		Blocklists: lists, Probe: f.probe,
	}
	if !f.asJSON {
		if err := p.printRecords(sender, records, policy, false); err != nil {
			return err
		}
		fmt.Fprintln(p.term.Out)
	}
	findings := checker.Check(ctx, sender)
	if !f.asJSON {
		p.printFindings(findings)
	} else if err := p.printJSON(dnsReport{sender.Domain, recordsOf(records), policyOf(sender, policy), findingsOf(findings)}); err != nil {
		return err
	}
	return dnsVerdict(findings)
}

// dnsVerdict is the exit code.
func dnsVerdict(findings []domain.Finding) error {
	count := map[domain.Level]int{}
	for _, f := range findings {
		count[f.Level]++
	}
	switch {
	case count[domain.Wrong] == 1:
		return cli.Faultf(cli.DataError, "see the line that begins with wrong", "one thing is wrong")
	case count[domain.Wrong] > 1:
		return cli.Faultf(cli.DataError, "see the lines that begin with wrong", "%d things are wrong", count[domain.Wrong])
	case count[domain.Unknown] > 0:
		return cli.Faultf(cli.Unavailable, "see the lines that begin with unknown", "not everything could be asked")
	}
	return nil
}
