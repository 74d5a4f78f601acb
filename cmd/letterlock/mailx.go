package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
)

func (p *program) mailxCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mailx [OPTION...] RECIPIENT...",
		Short: "write a mail from a script",
		Long: `Send standard input as a mail, with attachments if wanted. It takes the place of mail
and mailx, also under those names, in the scripts that send with them; it reads no
mailbox. The exit codes are those of sendmail.

  -s SUBJECT       a person who gives none is asked for it
  -c, -b ADDR      copies, and copies that nobody else sees
  -r ADDR          From, and the envelope sender
  -a "Name: value" a header field; Content-Type is that of the text
  -a FILE          anything else is a file to attach
  -A ACCOUNT|FILE  the account that sends, else a file to attach
  -C "Name: value" a header field
  -M TYPE          media type of the text
  -q FILE          begin the text with that file
  -E               send no empty text (before "set ..." GNU mail's --exec)
  -S NAME=VALUE    from, replyto, customhdr, skipemptybody; settings that lead to a
                   server are ignored and said to be: the account leads there
  -t               standard input begins with a header that names recipients too
  -v               send now and show how it goes
  -d               show what would be done, send nothing
  --account NAME, --system
  -- after a recipient: options of sendmail

-i -I -n -N -B -D -F -~ -# -h -T -O, and GNU mail's --subject --append --attach
--return-address --content-type --exec, are taken too. Text is sent as it is: there
are no tilde escapes, so no line of it can start a program.`,
		Example: `  df -h | letterlock mailx -s 'disk space' root
  letterlock mailx -s report -A report.pdf you@example.org < summary.txt`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return p.mailx(c.Context(), args, c.Help)
		},
	}
}

// mailx is the programs mail and mailx in send mode.
func (p *program) mailx(ctx context.Context, args []string, help func() error) error {
	m, err := sendmail.ParseMail(args, sendmail.Surveyor{IsAccount: p.isAccount, IsFile: isFile})
	if err != nil {
		return err
	}
	if m.Help {
		return help()
	}
	if err := p.enterSystem(m.System || m.Sendmail.System); err != nil {
		return err
	}
	for _, ignored := range m.Ignored {
		p.term.Sayf("%s: %s is ignored: the account decides", p.calledAs(), cli.Line(ignored))
	}
	s, err := p.outgoing(cmp.Or(m.Account, m.Sendmail.Account))
	if err != nil {
		return err
	}
	if m.Subject == nil && !m.FromHeader && p.term.Interactive {
		subject, err := p.term.Ask(ctx, "Subject: ")
		if err != nil {
			return err
		}
		m.Subject = &subject
	}
	if m.Debug {
		final, err := s.Where(strings.Join(m.To, ", "), m.Sendmail.NoAliases)
		if err == nil {
			p.term.Sayf("would go to %s", cli.Line(strings.Join(final, ", ")))
		}
		return err
	}
	id, err := s.SendMail(ctx, m, p.message(m.Sendmail.IgnoreDots))
	if errors.Is(err, sendmail.ErrEmpty) {
		return nil
	}
	if err != nil {
		return err
	}
	p.queued(m.Sendmail, id)
	return p.afterQueueing(ctx, m.Sendmail, id)
}

func (p *program) isAccount(name string) bool {
	conf, err := p.config()
	if err != nil {
		return false // the fault shows when the account is needed
	}
	_, ok := conf.Accounts[name]
	return ok
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
