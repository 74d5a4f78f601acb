package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func (p *program) tunnelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tunnel imap|pop3|smtp ACCOUNT",
		Short: "log in with a token and hand over standard input and output",
		Long: `Connect to the account's server, log in with a token, and hand the connection over on
standard input and output. For mail programs with a tunnel setting: no plug-in, no
port, no local password, and tokens of any length.

IMAP starts with * PREAUTH. POP3 and SMTP start with a greeting; a POP3 client's USER
and PASS are accepted whatever they say, since the session is logged in already.`,
		Example: `  set tunnel="letterlock tunnel imap you@example.org"      # .muttrc
  Tunnel "letterlock tunnel imap you@example.org"          # .mbsyncrc`,
		Args: exactly(2),
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"imap", "pop3", "smtp"}, cobra.ShellCompDirectiveNoFileComp
			}
			return p.completeAccounts(c, args[1:], word)
		},
		RunE: func(c *cobra.Command, args []string) error { return p.tunnel(c.Context(), args[0], args[1]) },
	}
	return c
}

func (p *program) tunnel(ctx context.Context, protocol, name string) error {
	what := upstream.Protocol(protocol)
	switch what {
	case upstream.IMAP, upstream.POP3, upstream.SMTP:
	default:
		return cli.Faultf(cli.Usage, "it is imap, pop3 or smtp", "there is no tunnel for %q", cli.Line(protocol))
	}
	conn, err := p.connect(ctx, what, name)
	if err != nil {
		p.refuseClient(what, err)
		return err
	}
	defer conn.Close()
	err = upstream.Tunnel(ctx, conn, p.term.In, p.term.Out)
	if err != nil && ctx.Err() == nil {
		return cli.Wrap(cli.TempFail, fmt.Errorf("the tunnel broke: %w", err), "start it again")
	}
	return nil
}

// refuseClient tells the mail program in its own protocol: most show that line, and
// none shows our standard error.
func (p *program) refuseClient(protocol upstream.Protocol, err error) {
	text := "letterlock: " + explainFault(err).Error()
	_, _ = io.WriteString(p.term.Out, upstream.TunnelRefusal(protocol, codeOf(err) == cli.TempFail, text))
}

// connect dials the account's server and logs in. A token that the server refuses is
// replaced once: it may have been revoked since it was stored.
func (p *program) connect(ctx context.Context, protocol upstream.Protocol, name string) (*upstream.Conn, error) {
	m, err := p.account(name)
	if err != nil {
		return nil, err
	}
	server, err := m.server(protocol)
	if err != nil {
		return nil, err
	}
	opts, err := p.dialOptions(m.caFile, p.trace())
	if err != nil {
		return nil, err
	}
	want := account.Want{Purpose: provider.Purpose(protocol)}
	for {
		access, err := p.access(ctx, name, want)
		if err != nil {
			return nil, err
		}
		conn, err := upstream.Dial(ctx, protocol, server, opts)
		if err != nil {
			return nil, dialFault(err, "letterlock test "+shellWord(name)+" looks closer")
		}
		err = conn.Authenticate(ctx, upstream.Login{User: m.mailbox, Mechanisms: m.provider.Mechanisms, Token: access.Token})
		if err == nil {
			return conn, nil
		}
		conn.Close()
		var refused *upstream.AuthError
		if !errors.As(err, &refused) || refused.Temporary || !want.Refused.IsZero() {
			return nil, err
		}
		want.Refused = access.Token
	}
}
