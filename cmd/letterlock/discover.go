package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/discovery"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

type discoverOptions struct {
	caFile    string
	dnsServer string
	asJSON    bool
}

func (p *program) discoverCommand() *cobra.Command {
	var o discoverOptions
	c := &cobra.Command{
		Use:   "discover ADDRESS",
		Short: "show what login would find out about an address",
		Long: `Look up where the people of ADDRESS's domain sign in and which mail servers they have,
as login does, and show for each setting where it comes from and what proves it.
Nothing is written down, nobody is signed in and nothing is registered.

Asked are the providers that Letterlock knows; https://ua-auto-config.DOMAIN with its
digest in DNS; https://autoconfig.DOMAIN and https://DOMAIN/.well-known/autoconfig; SRV
and MX records; and where none of them names an issuer, the mail server itself, which
is shown a token that is none.

What a certificate of the domain proves is used. What only DNS says, which can be
forged, is used inside the domain; a host outside of it needs your yes.`,
		Example: `  letterlock discover you@example.org
  letterlock discover you@example.org --json | jq -r .issuer.url`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return p.discover(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.StringVar(&o.caFile, "ca-file", "", "PEM file of further certificate authorities")
	f.StringVar(&o.dnsServer, "dns-server", "", "DNS server to ask, as ADDRESS or ADDRESS:PORT (default: the system's)")
	f.BoolVar(&o.asJSON, "json", false, "print an object")
	return c
}

func (p *program) discover(ctx context.Context, address string, o discoverOptions) error {
	if err := checkAddress(address); err != nil {
		return err
	}
	finder, err := p.finder(ctx, o.caFile, o.dnsServer)
	if err != nil {
		return err
	}
	found, err := finder.Find(ctx, address)
	if err != nil {
		return cli.Wrap(cli.NoUser, fmt.Errorf("look for the settings of %s: %w", cli.Line(address), err), "check the address")
	}
	if o.asJSON {
		err = p.printJSON(reportOf(found))
	} else {
		err = p.printFound(found)
	}
	if err == nil && found.Provider == "" && found.Issuer == nil {
		return nobodySays(found)
	}
	return err
}

func (p *program) printFound(found *discovery.Result) error {
	var rows [][]string
	row := func(what, value string, from discovery.Origin) {
		proof := proofInWords(from)
		rows = append(rows, []string{what, value, string(from.Source), from.Place, proof})
	}
	if found.Provider != "" {
		row("provider", found.Provider, found.ProviderOrigin)
	}
	if i := found.Issuer; i != nil {
		row("issuer", string(i.Metadata.Issuer), i.Origin)
		row("client", clientInWords(i), i.Origin)
	}
	for _, service := range discovery.Services() {
		if s, ok := found.Servers[service]; ok {
			row(string(service), fmt.Sprintf("%s:%d %s", s.Host, s.Port, s.Security), s.Origin)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return cli.Table(p.term.Out, []string{"WHAT", "FOUND", "BY", "AT", "PROVEN"}, rows)
}

func proofInWords(from discovery.Origin) string {
	switch {
	case from.Doubt != "":
		return "no: needs your yes"
	case from.Proof == discovery.BuiltIn:
		return "built in"
	case from.Proof == discovery.ByCertificate:
		return "by the domain's certificate"
	case from.Proof == discovery.ByPerson:
		return "by your yes"
	}
	return "DNS only, inside the domain"
}

// clientInWords says how login would come by a client id.
func clientInWords(i *discovery.Issuer) string {
	switch {
	case i.ClientID != "":
		return "lent to everybody: " + i.ClientID
	case i.Registration != "":
		return "registers itself"
	case i.Open:
		return "open"
	}
	return "one of your own (--client-id)"
}

// The forms of --json.
type (
	foundReport struct {
		Address  string                 `json:"address"`
		Domain   string                 `json:"domain"`
		Provider *foundValue            `json:"provider,omitempty"`
		Issuer   *foundIssuer           `json:"issuer,omitempty"`
		Servers  map[string]foundServer `json:"servers"`
		Tried    []foundAttempt         `json:"tried"`
	}
	foundOrigin struct {
		Source string `json:"source"`
		Place  string `json:"place"`
		Proof  string `json:"proof"`
		Doubt  string `json:"doubt,omitempty"`
	}
	foundValue struct {
		Name string `json:"name"`
		foundOrigin
	}
	foundIssuer struct {
		URL    string   `json:"url"`
		Client string   `json:"client"`
		Scopes []string `json:"scopes"`
		Device bool     `json:"device_codes"`
		foundOrigin
	}
	foundServer struct {
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Security string `json:"security"`
		User     string `json:"user,omitempty"`
		foundOrigin
	}
	foundAttempt struct {
		Source string `json:"source"`
		Place  string `json:"place"`
		Absent bool   `json:"absent"`
		Error  string `json:"error"`
	}
)

func reportOf(found *discovery.Result) foundReport {
	r := foundReport{Address: found.Address, Domain: found.Domain, Servers: map[string]foundServer{}, Tried: []foundAttempt{}}
	if found.Provider != "" {
		r.Provider = &foundValue{found.Provider, originOf(found.ProviderOrigin)}
	}
	if i := found.Issuer; i != nil {
		r.Issuer = &foundIssuer{string(i.Metadata.Issuer), clientInWords(i), []string{}, i.DeviceAuthorization != "", originOf(i.Origin)}
		for _, resource := range genericResources(i.ScopesSupported, i.Scopes) {
			r.Issuer.Scopes = resource.Scopes[provider.Full]
		}
	}
	for service, s := range found.Servers {
		r.Servers[string(service)] = foundServer{s.Host, s.Port, string(s.Security), s.User, originOf(s.Origin)}
	}
	for _, a := range found.Tried {
		r.Tried = append(r.Tried, foundAttempt{string(a.Source), a.Place, a.Absent(), a.Err.Error()})
	}
	return r
}

func originOf(from discovery.Origin) foundOrigin {
	return foundOrigin{string(from.Source), from.Place, string(from.Proof), from.Doubt}
}
