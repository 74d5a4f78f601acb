package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// startDrain has a new message sent without waiting for it: the agent sees it by
// itself; where there is none, a process of its own is started that outlives us.
func (p *program) startDrain() error {
	path, err := p.agentSocket()
	if err != nil {
		return err
	}
	if agentListens(path) {
		return nil
	}
	return p.startRun()
}

// startRun starts a process of its own that sends what is due, and waits for the
// system's socket if need be.
func (p *program) startRun() error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find ourselves: %w", err)
	}
	cmd := exec.Command(binary, "queue", "run", "--wait")
	// Not the name we were called by: under "sendmail" these would be its arguments.
	cmd.Args[0] = "letterlock"
	if p.system {
		cmd.Args = append(cmd.Args, "--system")
	}
	cmd.Dir = filepath.VolumeName(binary) + string(filepath.Separator)
	if err := startDetached(cmd); err != nil {
		return fmt.Errorf("start sending: %w", err)
	}
	return nil
}

// attended says whether a process that drains the queue has heard of what we put.
func (p *program) attended() bool {
	q, err := p.openQueue()
	return err == nil && q.Attended()
}

// drainNow sends what is due before the eyes of the caller. When another process is at
// it, the agent mostly, it watches what becomes of the entries given.
func (p *program) drainNow(ctx context.Context, watched ...queue.ID) error {
	shown := map[queue.ID]bool{}
	notice := p.showProgress(shown)
	until := p.now().Add(watchTime)
	for {
		err := p.drain(ctx, notice)
		watched = slices.DeleteFunc(watched, func(id queue.ID) bool { return shown[id] })
		watched = p.stillThere(watched) // another process may have been quicker
		if !errors.Is(err, queue.ErrBusy) {
			return err
		}
		if len(watched) == 0 || p.now().After(until) {
			p.term.Sayf("another process sends the queue; letterlock queue list shows what is left")
			return nil
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// How long and how often a caller watches another process send.
const (
	watchTime  = time.Minute
	watchPause = 50 * time.Millisecond
)

// showProgress prints one line for each recipient and attempt, and notes of which
// entries.
func (p *program) showProgress(shown map[queue.ID]bool) func(queue.Event) {
	var mu sync.Mutex
	return func(e queue.Event) {
		mu.Lock()
		defer mu.Unlock()
		shown[e.ID] = true
		for _, o := range e.Outcomes {
			p.term.Sayf("%s", p.progress(e, o))
		}
	}
}

// stillThere tells of the entries that something has become of, and returns the
// others.
func (p *program) stillThere(watched []queue.ID) []queue.ID {
	q, err := p.openQueue()
	if err != nil {
		return nil
	}
	var left []queue.ID
	for _, id := range watched {
		e, err := q.Show(id)
		switch {
		case errors.Is(err, queue.ErrNotFound):
			p.term.Sayf("%s  left the queue by another process", id)
		case err != nil:
		case e.Attempts > 0 && e.State != queue.StateActive:
			for _, r := range e.Recipients {
				p.term.Sayf("%s  %s  %s  %s", id, stateName(r.State), cli.Line(r.Address), cli.Line(r.Last.Reply))
			}
		default:
			left = append(left, id)
		}
	}
	return left
}

func (p *program) progress(e queue.Event, o queue.Outcome) string {
	word, text := "", cli.Line(o.Status+" "+o.Reply)
	switch o.Verdict {
	case queue.Delivered:
		word = p.term.Good("sent")
	case queue.Refused:
		word = p.term.Bad("refused")
	case queue.Unknown:
		word = p.term.Bad("unknown")
	case queue.SignIn:
		word = p.term.Bad("held")
		text += "; " + p.loginLine(e.Account)
	default:
		word = "later"
	}
	if o.Server != "" {
		text = cli.Line(o.Server) + ": " + text
	}
	return fmt.Sprintf("%s  %s  %s  %s", e.ID, word, cli.Line(o.Recipient), text)
}

// drain sends what is due and returns.
func (p *program) drain(ctx context.Context, notice func(queue.Event)) error {
	if _, err := p.handOverWaiting(ctx, notice); err != nil {
		p.log().Warn("hand over what waits for the system", "error", err)
	}
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	carrier, done, err := p.carrier()
	if err != nil {
		return err
	}
	defer done()
	options, err := p.drainOptions(nil)
	if err != nil {
		return err
	}
	options.Once, options.Notice = true, notice
	if _, err := q.Drain(ctx, carrier, options); err != nil && !errors.Is(err, queue.ErrBusy) {
		return cli.Wrap(cli.TempFail, fmt.Errorf("send the queue: %w", err), "nothing is lost: it is tried again")
	} else if err != nil {
		return err
	}
	return nil
}
