package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
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
	return &cobra.Command{
		Use: "run", Short: "send what is due, for timers", Hidden: true,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			err := p.drain(c.Context(), nil)
			if errors.Is(err, queue.ErrBusy) {
				return nil
			}
			return err
		},
	}
}

func (p *program) queueEachCommand(name, short string, do func(*queue.Queue, queue.ID) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " ID...", Short: short, Long: strings.ToUpper(short[:1]) + short[1:] + ".",
		Example: "  letterlock queue " + name + " ID",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, ids []string) error {
			q, err := p.openQueue()
			if err != nil {
				return err
			}
			for _, id := range ids {
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

// A queueEntry is one line of the table and one object of the JSON.
type queueEntry struct {
	ID         string           `json:"id"`
	State      string           `json:"state"`
	Reason     string           `json:"reason,omitempty"`
	Account    string           `json:"account"`
	From       string           `json:"from"`
	Size       int64            `json:"size"`
	Created    time.Time        `json:"created"`
	Next       *time.Time       `json:"next,omitempty"`
	Attempts   int              `json:"attempts"`
	Recipients []queueRecipient `json:"recipients"`
	Problem    string           `json:"problem,omitempty"`
}

type queueRecipient struct {
	Address string     `json:"address"`
	State   string     `json:"state"`
	Status  string     `json:"status,omitempty"`
	Reply   string     `json:"reply,omitempty"`
	Server  string     `json:"server,omitempty"`
	At      *time.Time `json:"at,omitempty"`
}

func stateName(s queue.State) string {
	names := []string{queue.StateQueued: "queued", queue.StateActive: "active", queue.StateHeld: "held",
		queue.StateUnknown: "unknown", queue.StateDelivered: "delivered", queue.StateBounced: "bounced"}
	if s < 0 || int(s) >= len(names) {
		return "damaged"
	}
	return names[s]
}

func describeEntry(e queue.Entry) queueEntry {
	out := queueEntry{ID: string(e.ID), State: stateName(e.State), Reason: string(e.Reason), Account: e.Envelope.Account, From: e.Envelope.From,
		Size: e.Envelope.Size, Created: e.Created.UTC(), Next: point(e.Next), Attempts: e.Attempts, Recipients: []queueRecipient{}}
	for _, r := range e.Recipients {
		out.Recipients = append(out.Recipients, queueRecipient{Address: r.Address, State: stateName(r.State),
			Status: r.Last.Status, Reply: r.Last.Reply, Server: r.Last.Server, At: point(r.Last.At)})
	}
	return out
}

func (p *program) queueEntries(ctx context.Context) ([]queueEntry, error) {
	q, err := p.openQueue()
	if err != nil {
		return nil, err
	}
	entries := []queueEntry{}
	for e, err := range q.List(ctx) {
		switch {
		case err != nil && e.ID == "":
			return nil, entryFault("", err)
		case err != nil:
			entries = append(entries, queueEntry{ID: string(e.ID), State: "damaged", Recipients: []queueRecipient{}, Problem: err.Error()})
		case e.State == queue.StateDelivered: // nothing waits: it is just being cleared away
		default:
			entries = append(entries, describeEntry(e))
		}
	}
	return entries, nil
}

func (p *program) listQueue(ctx context.Context, asJSON bool) error {
	entries, err := p.queueEntries(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(entries)
	}
	if len(entries) == 0 {
		p.term.Sayf("nothing waits")
		return nil
	}
	return p.tableOf(entries)
}

func (p *program) tableOf(entries []queueEntry) error {
	var rows [][]string
	for _, e := range entries {
		to, last := "", e.Problem
		for i, r := range e.Recipients {
			if i == 0 {
				to = r.Address
			}
			if r.Reply != "" {
				last = r.Reply
			}
		}
		if n := len(e.Recipients); n > 1 {
			to += fmt.Sprintf(" +%d", n-1)
		}
		state := e.State
		if e.Reason != "" {
			state += " (" + e.Reason + ")"
		}
		from := e.From
		if from == "" {
			from = "<>"
		}
		rows = append(rows, []string{e.ID, state, e.Created.Local().Format("2006-01-02 15:04"), fmt.Sprint(e.Size), from, to, when(e.Next, p.now()), short(last)})
	}
	return cli.Table(p.term.Out, []string{"ID", "STATE", "SINCE", "BYTES", "FROM", "TO", "NEXT", "LAST ANSWER"}, rows)
}

func when(next *time.Time, now time.Time) string {
	switch {
	case next == nil:
		return "-"
	case !next.After(now):
		return "now"
	}
	return "in " + next.Sub(now).Round(time.Minute).String()
}

func short(text string) string {
	if runes := []rune(text); len(runes) > 100 {
		return string(runes[:100]) + " …"
	}
	return text
}

func (p *program) showEntry(id queue.ID, asJSON, body bool) error {
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	if body {
		message, err := q.Message(id)
		if err != nil {
			return entryFault(string(id), err)
		}
		defer message.Close()
		_, err = io.Copy(p.term.Out, message)
		return err
	}
	e, err := q.Show(id)
	if err != nil {
		return entryFault(string(id), err)
	}
	entry := describeEntry(e)
	if asJSON {
		return p.printJSON(entry)
	}
	if err := p.tableOf([]queueEntry{entry}); err != nil {
		return err
	}
	var rows [][]string
	for _, r := range entry.Recipients {
		rows = append(rows, []string{r.Address, r.State, r.Status, r.Server, r.Reply})
	}
	fmt.Fprintln(p.term.Out)
	return cli.Table(p.term.Out, []string{"RECIPIENT", "STATE", "STATUS", "SERVER", "ANSWER"}, rows)
}

// retry makes entries due and drains in the foreground. Without ids it is --all.
func (p *program) retry(ctx context.Context, ids []string) error {
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return p.runQueue(ctx, sendmail.QueueSelection{})
	}
	var due []queue.ID
	for _, id := range ids {
		if err := q.Retry(queue.ID(id)); err != nil {
			return entryFault(id, err)
		}
		due = append(due, queue.ID(id))
	}
	return p.drainNow(ctx, due...)
}

// runQueue is sendmail -q: what is queued becomes due and is sent. What is held or
// unknown stays: that needs a decision.
func (p *program) runQueue(ctx context.Context, selected sendmail.QueueSelection) error {
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	var due []queue.ID
	for e, err := range q.List(ctx) {
		if err != nil || e.State != queue.StateQueued || !matches(e, selected) {
			continue
		}
		// One that left in the meantime, or is being sent, needs no push.
		if err := q.Retry(e.ID); err != nil && !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrActive) {
			return entryFault(string(e.ID), err)
		}
		due = append(due, e.ID)
	}
	return p.drainNow(ctx, due...)
}

func matches(e queue.Entry, s sendmail.QueueSelection) bool {
	return strings.Contains(string(e.ID), s.ID) && strings.Contains(e.Envelope.From, s.Sender) &&
		(s.Recipient == "" || slices.ContainsFunc(e.Recipients, func(r queue.Status) bool { return strings.Contains(r.Address, s.Recipient) }))
}

func (p *program) mailqCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "mailq", Short: "list mail that waits", Long: "List mail that waits, as letterlock queue list does, with the lines that monitoring looks for.",
		Example: "  letterlock mailq", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return p.listQueue(c.Context(), true)
			}
			return p.mailq(c.Context())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

// mailq prints the sentences that sendmail's and Postfix's mailq end with.
func (p *program) mailq(ctx context.Context) error {
	entries, err := p.queueEntries(ctx)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(p.term.Out, "Mail queue is empty")
		return err
	}
	if err := p.tableOf(entries); err != nil {
		return err
	}
	size := int64(0)
	for _, e := range entries {
		size += e.Size
	}
	plural := "s"
	if len(entries) == 1 {
		plural = ""
	}
	_, err = fmt.Fprintf(p.term.Out, "-- %d Kbytes in %d Request%s.\n", (size+1023)/1024, len(entries), plural)
	return err
}
