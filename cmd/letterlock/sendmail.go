package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

func (p *program) sendmailCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sendmail [OPTION...] [RECIPIENT...]",
		Short: "take a message from a program and queue it",
		Long: `Read a message from standard input, queue it durably, and have it sent by an account's
right to send. It takes the place of /usr/sbin/sendmail, also under that name, for cron
and every other program that calls it.

Exit code 0 means that message and recipients are safe on disk; sending begins at once
and is tried again for days. 64 wrong options or no recipients; 65 no usable message;
67 an address is wrong; 75 the queue cannot be written; 77 a sender is not permitted;
78 the configuration is wrong, or no account can send.

Options may stand together (-ti), before or after recipients, and their arguments
attached or separate. -- ends them.

  -t            recipients of To, Cc and Bcc too; Bcc is always taken out
  -i, -oi       a lone dot ends nothing; without it one does on a terminal only
  -f, -r ADDR   envelope sender; '' or '<>' is the null sender
  -F NAME       name shown when the message has no From
  -N LIST       never, or success,failure,delay: what to report (RFC 3461)
  -R full|hdrs  how much of the message a report returns
  -V ID         envelope id of reports
  -n            no aliases
  -v            send now and show how it goes
  -odq          only queue it
  -bm           take a message (the default)
  -bs           SMTP on standard input and output
  -bp, -bi      as mailq and newaliases
  -bv           show where mail to the recipients goes
  -q            send what is queued now; -qI, -qR, -qS TEXT only entries whose id,
                recipient or sender contains TEXT
  --account NAME, --system

Taken for the sake of callers and without effect: -B, -m, -U, -G, -h, -L, -p, -X, -A,
-C, and the other settings of -o and -O. Any other option is an error.

Local names go through /etc/aliases; root, and without domain in [queue] every other
local name, goes to root in [queue]; see letterlock.toml(5). Without account in
[queue] only an account whose right can do nothing but send is used.

Who has no account of his own that can send hands the message to the system's queue
(letterlock agent --system). It knows by itself who that is, and its administrator
has settled which account sends for whom, and as whom. While it is away the message
waits in the user's queue and is handed over later, once.`,
		Example: `  printf 'Subject: hello\n\nworld\n' | letterlock sendmail -i you@example.org
  ln -s letterlock /usr/local/sbin/sendmail`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return p.sendmail(c.Context(), args, c.Help)
		},
	}
}

// sendmail is the program of that name.
func (p *program) sendmail(ctx context.Context, args []string, help func() error) error {
	o, err := sendmail.Parse(args)
	if err != nil {
		return err
	}
	if o.Help {
		return help()
	}
	if err := p.enterSystem(o.System); err != nil {
		return err
	}
	switch o.Mode {
	case sendmail.List:
		return p.mailq(ctx)
	case sendmail.Rebuild:
		return p.newAliases()
	case sendmail.RunQueue:
		return p.runQueue(ctx, o.Queue)
	}
	s, err := p.outgoing(o.Account)
	if err != nil {
		return err
	}
	switch o.Mode {
	case sendmail.Verify:
		return p.verify(s, o)
	case sendmail.Dialogue:
		err := s.Serve(ctx, o, p.term.In, p.term.Out)
		return errors.Join(err, p.afterQueueing(ctx, o))
	}
	id, err := s.Send(ctx, o, p.message(o.IgnoreDots))
	if err != nil {
		return err
	}
	p.queued(o, id)
	return p.afterQueueing(ctx, o, id)
}

// enterSystem is --system among the arguments of a program that has its own parser.
func (p *program) enterSystem(wanted bool) error {
	if wanted && !p.system {
		p.system = true
		p.paths, p.conf = nil, nil
	}
	return p.becomeSystem()
}

// message is standard input. From a pipe it is read to its end; who types it ends it
// with a lone dot.
func (p *program) message(ignoreDots bool) io.Reader {
	if p.term.Interactive && !ignoreDots {
		return sendmail.UntilDot(p.term.In)
	}
	return p.term.In
}

func (p *program) queued(o sendmail.Options, id queue.ID) {
	switch {
	case !o.Verbose:
	case p.over != nil && len(p.over.waiting) == 0:
		p.term.Sayf("in the system's queue as %s", cli.Line(string(id)))
	default:
		p.term.Sayf("queued as %s", id)
	}
}

// afterQueueing has the message sent. From here on nothing is a fault of this call:
// the message is safe, and a caller that heard of one would send it twice.
func (p *program) afterQueueing(ctx context.Context, o sendmail.Options, ids ...queue.ID) error {
	switch {
	case p.over != nil:
		p.over.after(o)
		return nil
	case o.QueueOnly, !o.Verbose && p.attended():
		return nil
	case !o.Verbose:
		if err := p.startDrain(); err != nil {
			p.log().Warn("the queue is not being sent now", "error", err)
		}
		return nil
	}
	if err := p.drainNow(ctx, ids...); err != nil {
		fault := explainFault(err)
		p.term.Sayf("it stays queued: %s", cli.Line(fault.Error()))
	}
	return nil
}

// verify is -bv: where mail would go, without sending any.
func (p *program) verify(s *sendmail.Sender, o sendmail.Options) error {
	for _, text := range o.Recipients {
		final, err := s.Where(text, o.NoAliases)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.term.Out, "%s -> %s\n", cli.Line(text), cli.Line(strings.Join(final, ", ")))
	}
	return nil
}
