package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

type loginOptions struct {
	account      string
	provider     string
	issuer       string
	tenant       string
	clientID     string
	secretFile   string
	redirectURI  string
	flow         string
	sendOnly     bool
	noBrowser    bool
	noHint       bool
	dnsServer    string
	keyFile      string
	key          string
	mailbox      string
	caFile       string
	imap         string
	imapSecurity string
	pop3         string
	pop3Security string
	smtp         string
	smtpSecurity string

	// Not flags: what import and mutt_oauth2.py add.
	secret    secret.String
	tokenFile string
}

func (p *program) loginCommand() *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use:   "login ADDRESS",
		Short: "sign in once, and keep what the provider grants",
		Long: `Sign in at the provider of ADDRESS: in a browser on this computer, by a device code
typed into a browser anywhere, or by pasting back the address of the page you end on
(also from a pipe). Which one is taken depends on where this runs; --flow decides.

What the provider grants is kept encrypted. The account is called ADDRESS, or what
--account says: a second account with --send-only beside the full one is a good idea
for machines that only send.

A machine signs in without a person by --flow client-credentials (an app of a Microsoft
directory, a client of letterlockd) or --flow assertion (a Google service account with
domain-wide delegation). Its secret or key stays in the file that is named and is read
again for each token.

Where the address is of no provider that Letterlock knows, its domain is asked for its
settings (letterlock discover shows what it says), and a client is registered where
the domain's server lets programs do that; logout removes it again. Otherwise, without
a client id for the provider, letterlock register is started.`,
		Example: `  letterlock login you@gmail.com
  letterlock login you@example.org --issuer https://login.example.org/realms/mail --imap mail.example.org --smtp mail.example.org
  letterlock login you@gmail.com --account cron --send-only --key file
  letterlock login you@work.example --provider microsoft --tenant organizations --flow device
  letterlock login office@work.example --provider microsoft --tenant work.example --flow client-credentials --client-id ID --client-key-file app.pem
  letterlock login office@work.example --provider google --flow assertion --client-key-file service-account.json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return p.login(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.StringVar(&o.account, "account", "", "what to call the account (default: ADDRESS)")
	f.StringVar(&o.provider, "provider", "", "the provider, instead of what the address says")
	f.StringVar(&o.issuer, "issuer", "", "URL of an OpenID Connect or OAuth issuer, for providers that are not known")
	f.StringVar(&o.tenant, "tenant", "", "Microsoft: common, consumers, organizations, or a tenant's id or domain")
	f.StringVar(&o.clientID, "client-id", "", "the client id of your own; kept for the provider")
	f.StringVar(&o.secretFile, "client-secret-file", "", "file whose first line is the client's secret")
	f.StringVar(&o.keyFile, "client-key-file", "", "machines: private key in PEM with its certificate, or the key file of a Google service account")
	f.StringVar(&o.redirectURI, "redirect-uri", "", "the redirect URI registered with the client")
	f.StringVar(&o.flow, "flow", "", "browser, device or paste; for machines client-credentials or assertion")
	f.BoolVar(&o.sendOnly, "send-only", false, "ask for a right that can send and cannot read mail")
	f.BoolVar(&o.noBrowser, "no-browser", false, "print the address instead of opening a browser")
	f.BoolVar(&o.noHint, "no-login-hint", false, "do not tell the provider which address is meant")
	f.StringVar(&o.dnsServer, "dns-server", "", "DNS server to look the domain up at, as ADDRESS or ADDRESS:PORT (default: the system's)")
	f.StringVar(&o.key, "key", "", "what protects the grant on disk: keyring, gpg, passphrase, systemd, file, or a [key.NAME] of the configuration")
	f.StringVar(&o.mailbox, "mailbox", "", "the mailbox to open, when it is not the login's own (a shared mailbox)")
	f.StringVar(&o.caFile, "ca-file", "", "PEM file of further certificate authorities for this account")
	f.StringVar(&o.imap, "imap", "", "IMAP server, HOST or HOST:PORT")
	f.StringVar(&o.imapSecurity, "imap-security", "", "tls, starttls, or plain (loopback only)")
	f.StringVar(&o.pop3, "pop3", "", "POP3 server")
	f.StringVar(&o.pop3Security, "pop3-security", "", "as --imap-security")
	f.StringVar(&o.smtp, "smtp", "", "submission server")
	f.StringVar(&o.smtpSecurity, "smtp-security", "", "as --imap-security")
	completeWords(c, "flow", "browser", "device", "paste", "client-credentials", "assertion")
	completeWords(c, "key", "keyring", "gpg", "passphrase", "systemd", "file")
	completeWords(c, "provider", knownNames()...)
	for _, name := range []string{"imap-security", "pop3-security", "smtp-security"} {
		completeWords(c, name, "tls", "starttls", "plain")
	}
	return c
}

// login prepares everything that can fail before the person is sent anywhere, signs
// in, checks whose the grant is, and keeps it.
func (p *program) login(ctx context.Context, address string, o loginOptions) error {
	if err := o.check(address); err != nil {
		return err
	}
	s, err := p.prepare(ctx, strings.TrimSpace(address), o)
	if err != nil {
		return err
	}
	err = s.complete(ctx)
	if err != nil {
		s.abandon(ctx)
	}
	return err
}

func (s *signIn) complete(ctx context.Context) error {
	signIn := s.signIn
	if s.machine() {
		signIn = s.signInMachine
	}
	token, flow, err := signIn(ctx)
	if err != nil {
		return err
	}
	grant, err := s.grant(ctx, token, flow)
	if err != nil {
		return err
	}
	return s.keep(ctx, grant)
}

func (o loginOptions) check(address string) error {
	if err := checkAddress(strings.TrimSpace(address)); err != nil {
		return err
	}
	if o.account != "" {
		if err := checkAccountName(o.account); err != nil {
			return err
		}
	}
	if o.provider != "" && o.issuer != "" {
		return cli.Faultf(cli.Usage, "take one of them", "--provider and --issuer exclude each other")
	}
	switch provider.Flow(o.flow) {
	case "", provider.FlowBrowser, provider.FlowDevice, provider.FlowPaste:
		if o.keyFile != "" {
			return cli.Faultf(cli.Usage, "add --flow client-credentials or --flow assertion", "--client-key-file is for machines, which sign in without a person")
		}
	case provider.FlowClientCredentials, provider.FlowAssertion:
	default:
		return cli.Faultf(cli.Usage, "it is browser, device, paste, client-credentials or assertion", "--flow %s is unknown", cli.Line(o.flow))
	}
	return nil
}

// sections are the configuration that the flags ask for. The empty ones stay out.
func (o loginOptions) serverSettings() ([]config.Setting, error) {
	var settings []config.Setting
	for _, s := range []struct{ name, address, security string }{
		{"imap", o.imap, o.imapSecurity}, {"pop3", o.pop3, o.pop3Security}, {"smtp", o.smtp, o.smtpSecurity},
	} {
		if s.address != "" {
			if _, _, fault := config.ParseHostPort(s.address); fault != "" {
				return nil, cli.Faultf(cli.Usage, "for example --"+s.name+" mail.example.org:993", "--%s %s", s.name, fault)
			}
			settings = append(settings, config.Setting{Name: s.name, Text: s.address})
		}
		if s.security != "" {
			if !slices.Contains([]string{"tls", "starttls", "plain"}, s.security) {
				return nil, cli.Faultf(cli.Usage, "it is tls, starttls or plain", "--%s-security %s is unknown", s.name, cli.Line(s.security))
			}
			settings = append(settings, config.Setting{Name: s.name + "_security", Text: s.security})
		}
	}
	return settings, nil
}

// keep writes grant and configuration, and says what there is now.
func (s *signIn) keep(ctx context.Context, grant *grantInfo) error {
	old := s.replaced(ctx)
	if err := s.manager.Save(ctx, grant.Grant); err != nil {
		return err
	}
	s.kept = true
	if err := s.configure(ctx, string(grant.Flow)); err != nil {
		return fmt.Errorf("the grant is kept, but not the settings: %w", err)
	}
	s.unregister(ctx, old)
	t := s.p.term
	who := grant.Subject
	if who == "" {
		who = s.login
	}
	t.Sayf("%s %s, %s", t.Good("signed in"), cli.Line(who), rightInWords(grant.Right))
	t.Sayf("the grant is kept encrypted; %s", s.keyRemark)
	if grant.Machine() {
		t.Sayf("each token is asked for with %s, which stays where it is", cli.Line(grant.KeyFile))
	} else if grant.Refresh.IsZero() {
		t.Sayf("%s the provider gave no refresh token: this sign-in ends with the access token", t.Bad("note:"))
	}
	t.Sayf("next: letterlock test %s", shellWord(s.name))
	s.p.releaseHeld(ctx, s.name)
	return nil
}

func rightInWords(right provider.Right) string {
	if right == provider.SendOnly {
		return "may send mail and cannot read it"
	}
	return "may read and send mail"
}

// configure records what this sign-in settled, and nothing that it did not.
func (s *signIn) configure(ctx context.Context, flow string) error {
	if len(s.providerSettings) > 0 {
		if err := s.p.changeConfig(ctx, "provider", s.providerName, s.providerSettings); err != nil {
			return err
		}
	}
	settings := []config.Setting{{Name: "provider", Text: s.providerName}, {Name: "login", Text: s.login}}
	settings = append(settings, config.Setting{Name: "right", Text: string(s.right)}, config.Setting{Name: "key", Text: s.keyName}, config.Setting{Name: "flow", Text: flow})
	return s.p.changeConfig(ctx, "account", s.name, append(settings, s.accountSettings...))
}

// rehearse finds out, before anybody is sent to a browser, whether the configuration
// will take what keep is going to write.
func (s *signIn) rehearse(data []byte, path string) error {
	edited := data
	var err error
	if len(s.providerSettings) > 0 {
		if edited, err = config.Edit(path, edited, "provider", s.providerName, s.providerSettings); err != nil {
			return err
		}
	}
	settings := append([]config.Setting{{Name: "provider", Text: s.providerName}, {Name: "login", Text: s.login}}, s.accountSettings...)
	_, err = config.Edit(path, edited, "account", s.name, settings)
	if errors.Is(err, config.ErrByHand) {
		return cli.Wrap(cli.Config, err, "write each section as [account.NAME] with one key a line, then try again")
	}
	return err
}
