package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

type registerOptions struct {
	clientID    string
	secretFile  string
	tenant      string
	redirectURI string
	sendOnly    bool
}

func (p *program) registerCommand() *cobra.Command {
	var o registerOptions
	c := &cobra.Command{
		Use:   "register PROVIDER",
		Short: "get a client id of your own from a provider",
		Long: `Lead through the provider's console to a client id of your own: the pages, the exact
scopes, the redirect URI, test users, and where people may not consent themselves a
text for the administrator. The id is kept in the configuration, once for the
provider.

With --client-id nothing is asked.`,
		Example: `  letterlock register google
  letterlock register microsoft --tenant organizations
  letterlock register google --client-id 1234-ab.apps.googleusercontent.com --client-secret-file secret.txt`,
		Args: exactly(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return knownNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error { return p.register(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.StringVar(&o.clientID, "client-id", "", "the client id, when there is one already")
	f.StringVar(&o.secretFile, "client-secret-file", "", "file whose first line is the client's secret")
	f.StringVar(&o.tenant, "tenant", "", "Microsoft: common, consumers, organizations, or a tenant's id or domain")
	f.StringVar(&o.redirectURI, "redirect-uri", "", "the redirect URI registered with the client, when it is not the usual one")
	f.BoolVar(&o.sendOnly, "send-only", false, "show the scopes of a right that can only send")
	return c
}

func (p *program) register(ctx context.Context, name string, o registerOptions) error {
	prov, err := p.providerOf(name)
	if err != nil {
		return err
	}
	if prov.Registration.None != "" && o.clientID == "" {
		return cli.Faultf(cli.Unavailable, cli.Line(prov.Registration.None), "%s gives the public no client id for mail", prov.Title)
	}
	if o.clientID == "" && !p.term.Interactive {
		p.guide(prov, o)
		return cli.Faultf(cli.Config, fmt.Sprintf("letterlock register %s --client-id ID keeps it", shellWord(name)), "there is no terminal to ask for the client id")
	}
	section, err := p.askClient(ctx, prov, name, o)
	if err != nil {
		return err
	}
	if err := p.keepClient(ctx, name, section); err != nil {
		return err
	}
	p.term.Sayf("kept for %s; next: letterlock login you@%s", name, exampleDomain(prov))
	return nil
}

// guide prints the provider's steps.
func (p *program) guide(prov provider.Provider, o registerOptions) {
	t := p.term
	right := provider.Full
	if o.sendOnly {
		right = provider.SendOnly
	}
	redirect := prov.Redirect.URI
	set(&redirect, o.redirectURI)
	tenant := prov.Tenant
	set(&tenant, o.tenant)
	guide := prov.Registration.Fill(redirect, prov.ConsentScopes(right), tenant, o.clientID)
	t.Sayf("A client id of your own at %s:\n", prov.Title)
	for _, link := range guide.Links {
		t.Sayf("  %s", link)
	}
	for i, step := range guide.Steps {
		t.Sayf("%3d. %s", i+1, step)
	}
	if guide.Admin != "" {
		t.Sayf("\nIf your organisation does not let you consent yourself, send this to its administrator:\n\n%s", guide.Admin)
	}
	t.Sayf("")
}

// askClient asks for what the flags do not say.
func (p *program) askClient(ctx context.Context, prov provider.Provider, name string, o registerOptions) (config.Provider, error) {
	section := config.Provider{ClientID: o.clientID, ClientSecretFile: absolute(o.secretFile), Tenant: o.tenant, RedirectURI: o.redirectURI}
	if section.ClientSecretFile != "" {
		if _, err := readSecretFile(section.ClientSecretFile); err != nil {
			return section, err
		}
	}
	if o.clientID == "" {
		p.guide(prov, o)
		id, err := p.term.Ask(ctx, "client id: ")
		if err != nil {
			return section, err
		}
		section.ClientID = strings.TrimSpace(id)
	}
	if err := checkClientID(name, section.ClientID); err != nil {
		return section, err
	}
	if prov.NeedsSecret && section.ClientSecretFile == "" {
		if !p.term.Interactive {
			return section, cli.Faultf(cli.Config, "add --client-secret-file FILE", "%s gives its clients a secret and wants to see it", prov.Title)
		}
		value, err := p.term.AskHidden(ctx, "client secret (not shown): ")
		if err != nil {
			return section, err
		}
		if value = strings.TrimSpace(value); value == "" {
			return section, cli.Faultf(cli.DataError, "copy it from the provider's page", "no client secret was given")
		}
		section.ClientSecret = secret.New(value)
	}
	return section, nil
}

func (p *program) keepClient(ctx context.Context, name string, section config.Provider) error {
	settings := []config.Setting{
		{Name: "client_id", Text: section.ClientID},
		{Name: "client_secret", Secret: section.ClientSecret},
		{Name: "client_secret_file", Text: section.ClientSecretFile},
	}
	// Left alone when not given: they may have been set by hand.
	for _, s := range []config.Setting{{Name: "tenant", Text: section.Tenant}, {Name: "redirect_uri", Text: section.RedirectURI}} {
		if s.Text != "" {
			settings = append(settings, s)
		}
	}
	return p.changeConfig(ctx, "provider", name, settings)
}

// checkClientID catches what people paste in its place: an address, a secret, the
// object id's neighbour.
func checkClientID(name, id string) error {
	wrong := func(hint string) error {
		return cli.Faultf(cli.DataError, hint, "%q is no client id of %s", cli.Line(id), name)
	}
	switch {
	case id == "" || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return wrong("copy it from the provider's page, without blanks")
	case name == "google" && !strings.HasSuffix(id, ".apps.googleusercontent.com"):
		return wrong("Google's end in .apps.googleusercontent.com")
	case strings.HasPrefix(name, "microsoft") && !isUUID(id):
		return wrong("Microsoft's look like 00000000-0000-0000-0000-000000000000 (\"Application (client) ID\")")
	case strings.Contains(id, "@") && !strings.Contains(id, "://"):
		return wrong("it is not the mail address")
	}
	return nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}

func exampleDomain(prov provider.Provider) string {
	if len(prov.Domains) > 0 {
		return prov.Domains[0]
	}
	return "example.org"
}

// leadToClient is what login does without a client id: it starts register where a
// person can answer, and says what to do where not.
func (s *signIn) leadToClient(ctx context.Context) (config.Provider, error) {
	if !s.p.term.Interactive {
		return config.Provider{}, cli.Faultf(cli.Config, "letterlock register "+shellWord(s.providerName)+" leads to one; --client-id ID gives one",
			"there is no client id for %s", s.title())
	}
	s.p.term.Sayf("%s wants a client id; Letterlock has none of its own to lend.", s.title())
	section, err := s.p.askClient(ctx, s.provider, s.providerName, registerOptions{tenant: s.o.tenant, redirectURI: s.o.redirectURI, sendOnly: s.o.sendOnly})
	if err != nil {
		return section, err
	}
	return section, s.p.keepClient(ctx, s.providerName, section)
}
