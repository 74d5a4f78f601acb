package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/portal"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

func (p *program) configDNSCommand() *cobra.Command {
	var json bool
	c := &cobra.Command{
		Use: "dns", Short: "print the DNS records by which mail programs find everything",
		Long: `Print the lines to enter into the zone of each domain, so that an address is all that a
mail program has to be told: where its settings are (autoconfig, PACC with its digest), and
the mail servers themselves (SRV records, RFC 6186 and RFC 8314). What is off is said to be
off, so that no program guesses. Everything comes from domains, [web] and [portal] in
letterlockd.toml; nothing is asked and nothing is changed.

The servers of [portal] must be on ports 993, 995, 465 and 4190 for PACC, whose document can
name no other. MX, SPF, DKIM and DMARC are printed by letterlock dns. letterlockd doctor
compares what is published with these lines.`,
		Example: `  letterlockd config dns
  letterlockd config dns >> /etc/nsd/zones/example.org.zone
  letterlockd config dns --json | jq -r '.records[] | select(.absent | not) | .name'`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error { return p.printDNS(json) },
	}
	c.Flags().BoolVar(&json, "json", false, "print an object with records and notes")
	return c
}

func (p *program) printDNS(json bool) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	facts, _, err := dnsFacts(conf)
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [portal] in "+p.file)
	}
	if faults := facts.Faults(); len(faults) > 0 {
		return cli.Faultf(cli.Config, "nothing was printed; letterlockd config describe explains the settings", "%s", strings.Join(faults, "\n"))
	}
	if json {
		return p.printJSON(struct {
			Records []recipe.Record `json:"records"`
			Notes   []string        `json:"notes"`
		}{facts.Records(), facts.Notes()})
	}
	_, err = fmt.Fprint(p.term.Out, facts.Text())
	return err
}

// dnsFacts is what DNS should say about us, and the PACC document, nil where there is none.
func dnsFacts(conf *config.Daemon) (facts recipe.DNS, pacc []byte, err error) {
	facts.Domains = conf.Domains
	servers, err := mailServers(conf)
	if err != nil {
		return facts, nil, err
	}
	for _, one := range []struct {
		from portal.Server
		into *recipe.Place
	}{{servers.IMAP, &facts.IMAP}, {servers.POP3, &facts.POP3}, {servers.SMTP, &facts.SMTP}, {servers.Sieve, &facts.Sieve}} {
		*one.into = recipe.Place(one.from)
	}
	if public, err := url.Parse(conf.Web.PublicURL); err == nil && public.Scheme == "https" {
		facts.Host, facts.Port = strings.ToLower(public.Hostname()), public.Port()
		if pacc, err = servers.PACC(conf.Domains); err != nil {
			facts.NoPACC = err.Error()
		} else {
			facts.Digest = portal.PACCRecord(pacc)
		}
	}
	return facts, pacc, nil
}
