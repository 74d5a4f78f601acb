package main

import (
	"fmt"
	"io"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// queueWith is the queue that has the entry: the user's own, or that of what waits for
// the system.
func (p *program) queueWith(id queue.ID) (*queue.Queue, error) {
	if p.somethingWaits() {
		if q, err := p.openWaiting(); err != nil || q.Waits(id) {
			return q, err
		}
	}
	return p.openQueue()
}

func (p *program) showEntry(id queue.ID, asJSON, body bool) error {
	q, err := p.queueWith(id)
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
