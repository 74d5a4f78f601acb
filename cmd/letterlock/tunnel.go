package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

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
	return handOver(ctx, what, conn.Handover(), p.term.In, p.term.Out)
}

// refuseClient tells the mail program in its own protocol: most show that line, and
// none shows our standard error.
func (p *program) refuseClient(protocol upstream.Protocol, err error) {
	line := cli.Line(explainFault(err).Error())
	switch protocol {
	case upstream.IMAP:
		fmt.Fprintf(p.term.Out, "* BYE [AUTHENTICATIONFAILED] letterlock: %s\r\n", line)
	case upstream.POP3:
		fmt.Fprintf(p.term.Out, "-ERR [AUTH] letterlock: %s\r\n", line)
	case upstream.SMTP:
		code := "554 5.7.0"
		if codeOf(err) == cli.TempFail {
			code = "421 4.7.0"
		}
		fmt.Fprintf(p.term.Out, "%s letterlock: %s\r\n", code, line)
	}
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
			return nil, cli.Wrap(cli.TempFail, err, "letterlock test "+shellWord(name)+" looks closer")
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

// handOver greets the client and copies both ways until either side is done.
func handOver(ctx context.Context, protocol upstream.Protocol, conn net.Conn, in io.Reader, out io.Writer) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	client := bufio.NewReader(in)
	switch protocol {
	case upstream.IMAP:
		fmt.Fprint(out, "* PREAUTH letterlock has logged in\r\n")
	case upstream.SMTP:
		fmt.Fprint(out, "220 letterlock tunnel ESMTP, logged in\r\n")
	case upstream.POP3:
		fmt.Fprint(out, "+OK letterlock tunnel, logged in\r\n")
		if err := humourPOP3(client, out, conn); err != nil {
			return err
		}
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, client)
		// The client is done speaking; let the server finish its answer.
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err := io.Copy(out, conn)
	conn.Close()
	if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return cli.Wrap(cli.TempFail, fmt.Errorf("the connection broke: %w", err), "")
	}
	return nil
}

// pop3LineLimit is RFC 2449 section 4's 255 octets, with room for long passwords.
const pop3LineLimit = 1024

// humourPOP3 answers what a client says before it believes to be logged in. POP3 has
// no PREAUTH, and a server that is past it refuses USER (RFC 1939 section 4).
func humourPOP3(client *bufio.Reader, out io.Writer, server io.Writer) error {
	for {
		line, err := readPOP3Line(client)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cli.Wrap(cli.DataError, err, "")
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimRight(line, "\r\n")), " ")
		switch verb {
		case "CAPA":
			fmt.Fprint(out, "+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.\r\n")
		case "USER":
			fmt.Fprint(out, "+OK any password will do\r\n")
		case "PASS":
			fmt.Fprint(out, "+OK logged in already\r\n")
			return nil
		case "AUTH", "APOP", "STLS":
			fmt.Fprint(out, "-ERR logged in already\r\n")
		default:
			_, err := io.WriteString(server, line)
			return err
		}
	}
}

func readPOP3Line(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		line = append(line, c)
		if c == '\n' {
			return string(line), nil
		}
		if len(line) > pop3LineLimit {
			return "", errors.New("the client's line is too long for POP3")
		}
	}
}
