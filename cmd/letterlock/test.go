package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/probe"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

type testOptions struct {
	trace      bool
	asJSON     bool
	tokenStdin bool
	user       string
	caFile     string
	timeout    time.Duration
	servers    loginOptions // the server flags are login's
}

func (p *program) testCommand() *cobra.Command {
	var o testOptions
	c := &cobra.Command{
		Use:   "test ACCOUNT",
		Short: "log in to every server of an account, and say what is wrong",
		Long: `Log in to the account's IMAP, POP3 and submission servers with each mechanism they
offer, open the mailbox, and compare the token's owner with it. For each failure the
likely cause and what to do are printed.

An account whose mail leaves without a sign-in is tried as far as that goes without
sending: name and address of this machine, keys, a mail server's port 25, the local
mail server or folder.

With --token-stdin a token from elsewhere is read from standard input and tried on the
servers given as flags; ACCOUNT is then the user to log in as.`,
		Example: `  letterlock test you@example.org
  letterlock test you@example.org --trace         # the dialogue, with secrets hidden
  other-tool print-token | letterlock test you@example.org --token-stdin --imap imap.example.org`,
		Args:              exactly(1),
		ValidArgsFunction: p.completeAccounts,
		RunE:              func(c *cobra.Command, args []string) error { return p.test(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.BoolVar(&o.trace, "trace", false, "show the dialogue on standard error, with secrets hidden")
	f.BoolVar(&o.asJSON, "json", false, "print an object")
	f.BoolVar(&o.tokenStdin, "token-stdin", false, "read the token from standard input")
	f.StringVar(&o.user, "user", "", "log in as this user instead of the mailbox")
	f.StringVar(&o.caFile, "ca-file", "", "PEM file of further certificate authorities")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "give up after that long")
	f.StringVar(&o.servers.imap, "imap", "", "IMAP server, HOST or HOST:PORT, instead of the account's")
	f.StringVar(&o.servers.imapSecurity, "imap-security", "", "tls, starttls, or plain (loopback only)")
	f.StringVar(&o.servers.pop3, "pop3", "", "POP3 server, instead of the account's")
	f.StringVar(&o.servers.pop3Security, "pop3-security", "", "as --imap-security")
	f.StringVar(&o.servers.smtp, "smtp", "", "submission server, instead of the account's")
	f.StringVar(&o.servers.smtpSecurity, "smtp-security", "", "as --imap-security")
	for _, name := range []string{"imap-security", "pop3-security", "smtp-security"} {
		completeWords(c, name, "tls", "starttls", "plain")
	}
	return c
}

func (p *program) test(ctx context.Context, name string, o testOptions) error {
	if _, err := o.servers.serverSettings(); err != nil {
		return err
	}
	if conf, err := p.config(); err == nil && !o.tokenStdin {
		if a, ok := conf.Accounts[name]; ok && !a.Granted() {
			return p.testWay(ctx, name, a, o)
		}
	}
	plan, err := p.plan(ctx, name, o)
	if err != nil {
		return err
	}
	if len(plan.Targets) == 0 {
		return cli.Faultf(cli.Config, "name one: --imap HOST, --pop3 HOST or --smtp HOST", "no server is known that %s could be tested with", cli.Line(name))
	}
	report := probe.Run(ctx, plan)
	if err := p.printProbe(report, o.asJSON); err != nil {
		return err
	}
	return verdict(report, name)
}

// plan puts together what to test: the account's servers, or those of the flags with
// a token from outside.
func (p *program) plan(ctx context.Context, name string, o testOptions) (probe.Plan, error) {
	plan := probe.Plan{Mailbox: name, Explainer: errorBook{}, Limit: o.timeout, Now: p.now}
	var m mailAccount
	var source func(provider.Purpose) upstream.TokenSource
	covered := func(provider.Purpose) bool { return true }
	if o.tokenStdin {
		if err := checkAddress(name); err != nil {
			return plan, err
		}
		token, err := readToken(p.term.In)
		if err != nil {
			return plan, err
		}
		source = func(provider.Purpose) upstream.TokenSource { return givenToken{token} }
	} else {
		var err error
		if m, err = p.account(name); err != nil {
			return plan, err
		}
		if err := o.checkHosts(m); err != nil {
			return plan, err
		}
		// The grant tells whose token it is and what it covers. Without a readable one
		// there is nothing to test with, and the error says why.
		if _, err := p.access(ctx, name, account.Want{}); err != nil {
			return plan, err
		}
		grant, err := p.grantOf(ctx, name)
		if err != nil {
			return plan, err
		}
		plan.Mailbox, plan.Owner, plan.Mechanisms = m.mailbox, grant.Subject, tokenMechanisms(m.provider.Mechanisms)
		source = func(purpose provider.Purpose) upstream.TokenSource { return accountToken{p, name, purpose} }
		covered = func(purpose provider.Purpose) bool {
			return slices.ContainsFunc(grant.Resources, func(r account.Resource) bool { return slices.Contains(r.Purposes, purpose) })
		}
	}
	prov := m.provider
	overrideServers(&prov, o.configured())
	plan.Targets = targets(prov, o.user, covered, source)
	var err error
	plan.Options, err = p.dialOptions(firstOf(absolute(o.caFile), m.caFile), p.testTrace(o.trace))
	return plan, err
}

// checkHosts keeps a stored token from hosts that are not in the account's record: "try
// it with --imap this.example" is how somebody would ask for one. Other ports of the
// same host, and servers that the account lacks, may be tried.
func (o testOptions) checkHosts(m mailAccount) error {
	asked := o.configured()
	for _, s := range []struct {
		name, host, own string
	}{{"imap", asked.IMAP.Host, m.provider.IMAP.Host}, {"pop3", asked.POP3.Host, m.provider.POP3.Host}, {"smtp", asked.SMTP.Host, m.provider.SMTP.Host}} {
		if s.host == "" || s.own == "" || strings.EqualFold(s.host, s.own) || config.IsLoopback(s.host) && config.IsLoopback(s.own) {
			continue
		}
		return cli.Faultf(cli.Usage, fmt.Sprintf("to show it the token all the same: letterlock token %s | letterlock test %s --token-stdin --%s HOST", shellWord(m.name), shellWord(m.mailbox), s.name),
			"%s is not the %s server of %s", cli.Line(s.host), s.name, m.name)
	}
	return nil
}

// configured turns the flags into what configuration would say.
func (o testOptions) configured() config.Servers {
	one := func(address, security string) config.Server {
		host, port, _ := config.ParseHostPort(address)
		if address == "" {
			host = ""
		}
		return config.Server{Host: host, Port: port, Security: security}
	}
	s := o.servers
	return config.Servers{IMAP: one(s.imap, s.imapSecurity), POP3: one(s.pop3, s.pop3Security), SMTP: one(s.smtp, s.smtpSecurity)}
}

func targets(prov provider.Provider, user string, covered func(provider.Purpose) bool, source func(provider.Purpose) upstream.TokenSource) []probe.Target {
	var out []probe.Target
	for _, t := range []struct {
		protocol upstream.Protocol
		purpose  provider.Purpose
		server   provider.MailServer
	}{{upstream.IMAP, provider.IMAP, prov.IMAP}, {upstream.POP3, provider.POP3, prov.POP3}, {upstream.SMTP, provider.SMTP, prov.SMTP}} {
		if !t.server.IsZero() && covered(t.purpose) {
			out = append(out, probe.Target{Protocol: t.protocol, Server: t.server, User: user, Token: source(t.purpose)})
		}
	}
	return out
}

func (p *program) grantOf(ctx context.Context, name string) (*account.Grant, error) {
	manager, err := p.manager()
	if err != nil {
		return nil, err
	}
	return manager.Grant(ctx, name)
}

// tokenMechanisms leaves out what carries no token.
func tokenMechanisms(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(m string) bool { return m != "XOAUTH2" && m != "OAUTHBEARER" })
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func (p *program) testTrace(asked bool) io.Writer {
	if !asked {
		return p.trace()
	}
	return cli.LineWriter(p.term.Err, "")
}

// readToken takes one line. A token that came from a file has a line end.
func readToken(in io.Reader) (secret.String, error) {
	const limit = 64 << 10
	line, err := bufio.NewReader(io.LimitReader(in, limit)).ReadString('\n')
	line = strings.TrimSpace(line)
	if err != nil && err != io.EOF {
		return secret.String{}, cli.Wrap(cli.DataError, fmt.Errorf("read the token: %w", err), "")
	}
	if line == "" {
		return secret.String{}, cli.Faultf(cli.DataError, "pipe a token in, one line", "there is no token on standard input")
	}
	return secret.New(line), nil
}

type givenToken struct{ token secret.String }

// Token returns the token that was given.
func (g givenToken) Token(context.Context) (secret.String, error) { return g.token, nil }

type accountToken struct {
	p       *program
	name    string
	purpose provider.Purpose
}

// Token gets the account's token for the purpose.
func (a accountToken) Token(ctx context.Context) (secret.String, error) {
	access, err := a.p.access(ctx, a.name, account.Want{Purpose: a.purpose})
	return access.Token, err
}

func (p *program) printProbe(report probe.Report, asJSON bool) error {
	if asJSON {
		return p.printJSON(report)
	}
	if err := cli.Table(p.term.Out, probe.Header(), report.Rows()); err != nil {
		return err
	}
	if report.Ownership == probe.Different {
		fmt.Fprintf(p.term.Out, "the token belongs to %s, the mailbox is %s\n", cli.Line(report.Owner), cli.Line(report.Mailbox))
	}
	for _, note := range report.Tokens {
		if len(note.TooLongFor) > 0 {
			fmt.Fprintf(p.term.Out, "the token for %s has %d bytes: too long for %s; use letterlock setup CLIENT ACCOUNT --via tunnel\n", note.Protocol, note.Length, strings.Join(note.TooLongFor, ", "))
		}
	}
	for _, challenge := range challenges(report) {
		fmt.Fprintf(p.term.Out, "the server says: %s\n", cli.Line(challenge))
	}
	for _, a := range report.Advice() {
		fmt.Fprintf(p.term.Out, "cause: %s\n  to do: %s\n", cli.Line(a.Cause), cli.Line(a.Remedy))
	}
	return nil
}

// challenges are the texts with which tokens were refused, decoded, each once.
func challenges(report probe.Report) []string {
	var all []string
	for _, check := range report.Checks {
		for _, step := range check.Steps {
			if step.Challenge != "" && !slices.Contains(all, step.Challenge) {
				all = append(all, step.Challenge)
			}
		}
	}
	return all
}

// verdict is the exit code: the worst that was found. A refused sign-in weighs more
// than a server that is away, and that more than what passes by itself.
func verdict(report probe.Report, name string) error {
	if report.OK() {
		return nil
	}
	failed, code := 0, cli.TempFail
	for _, check := range report.Checks {
		if !check.OK() {
			failed++
		}
		for _, step := range check.Steps {
			if step.Outcome != probe.Failed || step.Temporary {
				continue
			}
			if step.Name == probe.StepConnect {
				if code == cli.TempFail {
					code = cli.Unavailable
				}
				continue
			}
			code = cli.NoPerm
		}
	}
	hint := "letterlock test " + shellWord(name) + " --trace shows the dialogue"
	if advice := report.Advice(); len(advice) > 0 {
		hint = advice[0].Remedy
	}
	return cli.Faultf(code, hint, "%d of %d sign-ins failed", failed, len(report.Checks))
}
