package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/recipe"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func (p *program) setupCommand() *cobra.Command {
	var via string
	var list bool
	c := &cobra.Command{
		Use:   "setup CLIENT ACCOUNT",
		Short: "print configuration for a mail program",
		Long: `Print configuration that makes a mail program use the account. Each was run with that
program. Some programs can also get in through letterlock tunnel (--via tunnel),
which needs no SASL plug-in and takes tokens of any length.

Where a program is known to fail on tokens as long as the account's, that is said on
standard error.`,
		Example: `  letterlock setup --list
  letterlock setup msmtp you@example.org >> ~/.msmtprc
  letterlock setup mbsync you@example.org --via tunnel`,
		Args: func(c *cobra.Command, args []string) error {
			if list {
				return exactly(0)(c, args)
			}
			return exactly(2)(c, args)
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return clientNames(), cobra.ShellCompDirectiveNoFileComp
			}
			return p.completeAccounts(c, args[1:], word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if list {
				return p.listRecipes()
			}
			return p.setup(c.Context(), args[0], args[1], via)
		},
	}
	c.Flags().StringVar(&via, "via", "", "token, or tunnel (default: token where the program can)")
	c.Flags().BoolVar(&list, "list", false, "list the programs there is configuration for")
	completeWords(c, "via", string(recipe.Token), string(recipe.Tunnel))
	return c
}

func clientNames() []string {
	var names []string
	for _, r := range recipe.All() {
		names = append(names, r.Client)
	}
	return names
}

func (p *program) listRecipes() error {
	var rows [][]string
	for _, r := range recipe.All() {
		var vias []string
		for _, via := range r.Vias {
			vias = append(vias, string(via))
		}
		rows = append(rows, []string{r.Client, strings.Join(vias, ", "), r.File, r.Title})
	}
	return cli.Table(p.term.Out, []string{"CLIENT", "VIA", "FILE", "RUN WITH"}, rows)
}

func (p *program) setup(ctx context.Context, client, name, via string) error {
	r, ok := recipe.Lookup(client)
	if !ok {
		return cli.Faultf(cli.Usage, "there are "+strings.Join(clientNames(), ", "), "there is no configuration for %q", cli.Line(client))
	}
	switch recipe.Via(via) {
	case "", recipe.Token, recipe.Tunnel:
	default:
		return cli.Faultf(cli.Usage, "it is token or tunnel", "--via %s is unknown", cli.Line(via))
	}
	m, err := p.account(name)
	if err != nil {
		return err
	}
	if m.right == provider.SendOnly {
		// A program that is told of a server it may not log in to would fail each time.
		m.provider.IMAP, m.provider.POP3 = provider.MailServer{}, provider.MailServer{}
	}
	text, err := r.Render(recipe.Via(via), recipe.Facts{
		Account: m.name, User: m.mailbox, From: p.senderOf(m), IMAP: m.provider.IMAP, POP3: m.provider.POP3, SMTP: m.provider.SMTP,
		Mechanisms: m.provider.Mechanisms, Command: p.ownCommand(), Path: p.ownPath(), System: p.system, CAFile: m.caFile,
	})
	if err != nil {
		return err
	}
	p.term.Sayf("for %s (%s)", r.File, r.Title)
	if r.Needs != "" {
		p.term.Sayf("needs %s", r.Needs)
	}
	p.warnOfLength(ctx, r, via, m)
	_, err = io.WriteString(p.term.Out, text)
	return err
}

func (p *program) senderOf(m mailAccount) string {
	if conf, err := p.config(); err == nil {
		if senders := conf.Accounts[m.name].Senders; len(senders) > 0 {
			return senders[0]
		}
	}
	return m.mailbox
}

// ownCommand is how a mail program finds us: by name, when the PATH leads to this
// binary, else by its place.
func (p *program) ownCommand() string {
	command := "letterlock"
	if _, err := exec.LookPath(command); err != nil {
		if self, err := exec.LookPath(p.args[0]); err == nil {
			command = absolute(self)
		}
	}
	return command
}

// ownPath is the file that ownCommand leads to.
func (p *program) ownPath() string {
	for _, name := range []string{"letterlock", p.args[0]} {
		if path, err := exec.LookPath(name); err == nil {
			return absolute(path)
		}
	}
	return ""
}

// warnOfLength compares the stored token with what the program was seen to take. It
// asks nobody for a token: a forecast is not worth a refresh.
func (p *program) warnOfLength(ctx context.Context, r recipe.Recipe, via string, m mailAccount) {
	if r.TokenLimit == 0 || via == string(recipe.Tunnel) {
		return
	}
	manager, err := p.manager()
	if err != nil {
		return
	}
	grant, err := manager.Grant(ctx, m.name)
	if err != nil {
		return
	}
	for _, access := range grant.Access {
		if length := len(access.Token.Reveal()); length > r.TokenLimit {
			remedy := "use another program"
			if len(r.Vias) > 1 {
				remedy = fmt.Sprintf("use letterlock setup %s %s --via tunnel", r.Client, shellWord(m.name))
			}
			p.term.Sayf("%s the account's token has %d bytes, and %s fails above about %d: %s", p.term.Bad("note:"), length, r.Title, r.TokenLimit, remedy)
			return
		}
	}
}
