package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A queueEntry is one line of the table and one object of the JSON.
type queueEntry struct {
	ID         string           `json:"id"`
	State      string           `json:"state"`
	Reason     string           `json:"reason,omitempty"`
	Account    string           `json:"account"`
	Submitter  string           `json:"submitter,omitempty"`  // a user of this machine, of --system
	ForSystem  bool             `json:"for_system,omitempty"` // waits to be handed over
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

// userOf is a uid with the name that the user database has for it now.
func userOf(uid string) string {
	if uid == "" {
		return ""
	}
	if who, err := user.LookupId(uid); err == nil {
		return who.Username
	}
	return "uid " + uid
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
		Submitter: userOf(e.Envelope.Submitter),
		Size:      e.Envelope.Size, Created: e.Created.UTC(), Next: point(e.Next), Attempts: e.Attempts, Recipients: []queueRecipient{}}
	for _, r := range e.Recipients {
		out.Recipients = append(out.Recipients, queueRecipient{Address: r.Address, State: stateName(r.State),
			Status: r.Last.Status, Reply: r.Last.Reply, Server: r.Last.Server, At: point(r.Last.At)})
	}
	return out
}

// queueEntries are all that wait: in the queue, and for the system's.
func (p *program) queueEntries(ctx context.Context) ([]queueEntry, error) {
	entries := []queueEntry{}
	if p.somethingWaits() {
		q, err := p.openWaiting()
		if err != nil {
			return nil, err
		}
		waiting, err := entriesOf(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range waiting {
			e.ForSystem = true
			entries = append(entries, e)
		}
	}
	if folder, err := p.queueFolder(); err == nil {
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			return entries, nil // asking makes none
		}
	}
	q, err := p.openQueue()
	if err != nil {
		return nil, err
	}
	own, err := entriesOf(ctx, q)
	return append(entries, own...), err
}

func entriesOf(ctx context.Context, q *queue.Queue) ([]queueEntry, error) {
	var entries []queueEntry
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
		if e.ForSystem {
			state += " (for the system)"
		}
		if e.Submitter != "" {
			from += " by " + e.Submitter
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
