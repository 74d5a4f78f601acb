package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A handOver is the way to the system's queue for who has no way out of his own.
type handOver struct {
	p       *program
	user    string
	socket  string
	pauses  []time.Duration // before asking again, where nothing can be kept
	waiting []queue.ID      // in the user's own queue, for the system to come back
	why     error
}

// askAgain is how long a caller waits for the answer to a hand-over that can be kept
// nowhere: an agent that was restarted is back by then. Each time takes as long as the
// server needs besides.
func askAgain() []time.Duration {
	return []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second, 15 * time.Second}
}

// handsOver says whether mail goes to the system: it is there, and the user has no
// account that would send this message. A home that cannot be read has no account.
func (p *program) handsOver(account string) (bool, error) {
	if p.system || !systemPresent() {
		return false, nil
	}
	conf, err := p.config()
	if errors.Is(err, fs.ErrPermission) || p.homeless() {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if account != "" {
		_, own := conf.Accounts[account]
		return !own, nil
	}
	if conf.Queue.Account != "" {
		return false, nil
	}
	for _, a := range conf.Accounts {
		if a.Right == string(provider.SendOnly) {
			return false, nil
		}
	}
	return true, nil
}

func (p *program) homeless() bool {
	_, err := p.where()
	return err != nil
}

// systemPresent says whether this machine's system sends mail: its socket is there, or
// its configuration, while the agent is being updated.
func systemPresent() bool {
	_, err := os.Stat(config.SystemPaths().Config)
	return intake.Present(intake.SocketPath) || err == nil || errors.Is(err, fs.ErrPermission)
}

// forwardingSender hands over whatever it is given.
func (p *program) forwardingSender() *sendmail.Sender {
	s := p.machineSender(&config.Config{})
	s.User, s.Name = sendmail.Caller(p.getenv("LOGNAME"))
	p.over = &handOver{p: p, user: s.User, socket: intake.SocketPath, pauses: askAgain()}
	s.Forward = p.over.forward
	return s
}

// forward hands one message over, or keeps it for later under the same id.
func (h *handOver) forward(ctx context.Context, o sendmail.Options, m *message.Message) (queue.ID, error) {
	id, err := intake.NewID(rand.Reader)
	if err != nil {
		return "", err
	}
	s := intake.Submission{ID: id, Recipients: o.Recipients, Sender: o.Sender, Name: printable(o.Name), Account: printable(o.Account),
		Notify: o.Notify, Return: o.Return, EnvelopeID: o.EnvelopeID, NoAliases: o.NoAliases}
	taken, err := h.submit(ctx, s, m)
	if err == nil || hasFault(err) {
		return taken, err
	}
	// Also when we are told to end: the system may have it already, and only the same id
	// keeps the caller's next try from being a second message.
	kept, keepErr := h.keep(context.WithoutCancel(ctx), s, m)
	if keepErr != nil {
		return h.insist(ctx, s, m, err, keepErr)
	}
	h.waiting, h.why = append(h.waiting, kept), err
	return kept, nil
}

// submit hands over once. A final no is a *cli.Fault.
func (h *handOver) submit(ctx context.Context, s intake.Submission, m *message.Message) (queue.ID, error) {
	receipt, err := intake.Submit(ctx, h.socket, s, m.Reader(), m.Size())
	if err == nil {
		receipt.Done()
		return queue.ID(receipt.ID), nil
	}
	var refusal *intake.Refusal
	if errors.As(err, &refusal) && refusal.Final() {
		return "", &cli.Fault{Code: refusal.Code, What: refusal.What, Hint: refusal.Hint, Err: err}
	}
	return "", err
}

// insist is for who cannot keep the message. Where the system's answer was lost, it is
// asked again with the same id: an exit code of 75 would make the caller send what may
// have been taken. When it never comes, the caller is told that.
func (h *handOver) insist(ctx context.Context, s intake.Submission, m *message.Message, err, keepErr error) (queue.ID, error) {
	doubt := errors.Is(err, intake.ErrUnanswered)
	for i := 0; doubt && i < len(h.pauses); i++ {
		select {
		case <-time.After(h.pauses[i]):
		case <-ctx.Done():
			i = len(h.pauses)
			continue
		}
		var taken queue.ID
		if taken, err = h.submit(ctx, s, m); err == nil || hasFault(err) {
			return taken, err // it looks for the id before it says no
		}
	}
	f := &cli.Fault{Code: cli.TempFail, What: err.Error(), Err: errors.Join(err, keepErr),
		Hint: "nothing was queued, as there is no place of your own to keep it either: " + keepErr.Error()}
	if doubt {
		f.What = "the message may have been taken: " + err.Error()
		f.Hint = "sent again it may arrive twice; its administrator finds it by your uid in the agent's log. There is no place of your own to keep it: " + keepErr.Error()
	}
	return "", f
}

func (h *handOver) keep(ctx context.Context, s intake.Submission, m *message.Message) (queue.ID, error) {
	q, err := h.p.openWaiting()
	if err != nil {
		return "", err
	}
	envelope, err := intake.Waiting(s, h.user)
	if err != nil {
		return "", err
	}
	return q.Put(ctx, envelope, m.Reader())
}

// after has tried later what could not be handed over now; this message, or others.
func (h *handOver) after(o sendmail.Options) {
	if len(h.waiting) > 0 && o.Verbose {
		h.p.term.Sayf("it waits for the system: %s", cli.Line(h.why.Error()))
	}
	if o.QueueOnly || !h.p.somethingWaits() {
		return
	}
	// An agent that listens is not enough: one that was started before this machine's
	// system sent mail looks after the user's own queue only.
	if q, err := h.p.openWaiting(); err == nil && q.Attended() {
		return
	}
	if err := h.p.startRun(); err != nil {
		h.p.log().Warn("what waits is not being handed over now", "error", err)
	}
}

// printable keeps a name of the command line to one line of text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// openWaiting opens the queue of what waits for the system.
func (p *program) openWaiting() (*queue.Queue, error) {
	folder, err := p.waitingFolder()
	if err != nil {
		return nil, err
	}
	q, err := queue.Open(folder, queue.Options{Now: p.now})
	if err != nil {
		return nil, fmt.Errorf("keep it for the system: %w", err)
	}
	return q, nil
}
