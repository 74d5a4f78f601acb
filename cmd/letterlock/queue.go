package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

func (p *program) queueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queue",
		Short: "look at mail that waits, and decide about it",
		Long: `Mail that sendmail and mailx took waits here until a server has it. queued: it will be
tried again; held: by hand, or until a sign-in; unknown: the connection broke after the
whole message was sent, so that it may have arrived: look there, then retry or remove
it.`,
		Example: `  letterlock queue list
  letterlock queue show 01k3...
  letterlock queue retry --all`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.queueListCommand(), p.queueShowCommand(), p.queueRetryCommand(), p.queueRunCommand(),
		p.queueEachCommand("hold", "keep messages from being sent", (*queue.Queue).Hold),
		p.queueEachCommand("release", "end a hold", (*queue.Queue).Release),
		p.queueEachCommand("remove", "drop messages; nobody gets a report", (*queue.Queue).Remove))
	return c
}

func (p *program) queueListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list what waits", Long: "List what waits, oldest first.",
		Example: `  letterlock queue list --json | jq -r '.[] | select(.state == "held") | .id'`,
		Args:    exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.listQueue(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) queueShowCommand() *cobra.Command {
	var asJSON, body bool
	c := &cobra.Command{
		Use: "show ID", Short: "show one message with what servers said",
		Long:    "Show sender, recipients, and what the last attempt brought; with --message the message itself.",
		Example: "  letterlock queue show ID --message",
		Args:    exactly(1),
		RunE:    func(c *cobra.Command, args []string) error { return p.showEntry(queue.ID(args[0]), asJSON, body) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an object")
	c.Flags().BoolVar(&body, "message", false, "print the message as it is queued")
	return c
}

func (p *program) queueRetryCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "retry ID...|--all", Short: "send now, and show how it goes",
		Long: `Make messages due now, even held ones and those whose fate is unknown, which may then
arrive twice; --all takes those that are queued. Then send what is due.`,
		Example: "  letterlock queue retry --all",
		RunE: func(c *cobra.Command, ids []string) error {
			if all == (len(ids) > 0) {
				return cli.Faultf(cli.Usage, "letterlock queue list shows the ids", "name messages, or take --all")
			}
			return p.retry(c.Context(), ids)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "everything that is queued")
	return c
}

// queueRunCommand is what sendmail starts in the background and timers start: it
// sends what is due by the schedule and says nothing.
func (p *program) queueRunCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "run", Short: "send what is due, for timers", Hidden: true,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			err := p.drain(c.Context(), nil)
			if errors.Is(err, queue.ErrBusy) {
				err = nil
			}
			if wait {
				err = errors.Join(err, p.linger(c.Context()))
			}
			return err
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "stay for an hour while something waits for the system")
	return c
}

func (p *program) queueEachCommand(name, short string, do func(*queue.Queue, queue.ID) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " ID...", Short: short, Long: strings.ToUpper(short[:1]) + short[1:] + ".",
		Example: "  letterlock queue " + name + " ID",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, ids []string) error {
			for _, id := range ids {
				q, err := p.queueWith(queue.ID(id))
				if err != nil {
					return err
				}
				if err := do(q, queue.ID(id)); err != nil {
					return entryFault(id, err)
				}
			}
			return nil
		},
	}
}

func entryFault(id string, err error) error {
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return cli.Faultf(cli.DataError, "letterlock queue list shows what there is", "there is no message %q in the queue", cli.Line(id))
	case errors.Is(err, queue.ErrActive):
		return cli.Wrap(cli.TempFail, fmt.Errorf("%s: %w", cli.Line(id), err), "wait until this attempt is over")
	case errors.Is(err, queue.ErrDamaged):
		return cli.Wrap(cli.DataError, fmt.Errorf("%s: %w", cli.Line(id), err), "the message may still be read in the queue's folder")
	}
	return cli.Wrap(cli.TempFail, err, "look at the queue's folder and its rights")
}
