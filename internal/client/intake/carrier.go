package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// Waiting is the envelope under which a submission waits in its user's own queue. From
// and To are for people; what will be handed over is in Tag.
func Waiting(s Submission, user string) (queue.Envelope, error) {
	tag, err := json.Marshal(s)
	if err != nil {
		return queue.Envelope{}, fmt.Errorf("keep the submission: %w", err)
	}
	e := queue.Envelope{From: user, Tag: string(tag), EnvelopeID: s.EnvelopeID, Return: s.Return}
	if s.Sender != nil {
		e.From = *s.Sender
	}
	for _, to := range s.Recipients {
		e.To = append(e.To, queue.Recipient{Address: to, Notify: s.Notify})
	}
	return e, nil
}

// Retries is how soon a socket that was away is tried again: it costs next to nothing,
// and an agent that restarts is back in seconds.
func Retries() []time.Duration {
	return []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}
}

// A Carrier hands over what waits in a user's queue. It is a queue.JournalCarrier that
// never commits: the server remembers the hand-over, so that a broken connection leaves
// nothing unknown; asking again with the same id is safe.
type Carrier struct {
	Path string // of the server's socket
}

// Carry is CarryJournal for who keeps no journal.
func (c Carrier) Carry(ctx context.Context, e queue.Envelope, message io.ReadSeeker) ([]queue.Outcome, error) {
	return c.CarryJournal(ctx, e, message, nil)
}

// CarryJournal hands one message over, and lets the server forget it only after its
// outcome is on our disk.
func (c Carrier) CarryJournal(ctx context.Context, e queue.Envelope, message io.ReadSeeker, journal queue.Journal) ([]queue.Outcome, error) {
	s, err := decode([]byte(e.Tag))
	if err != nil {
		return nil, err
	}
	size, err := message.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = message.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	receipt, err := Submit(ctx, c.Path, s, message, size)
	if err != nil {
		return outcomes(e, failed(err)), nil
	}
	// Reports: the system's queue says what becomes of it from here on.
	all := outcomes(e, queue.Outcome{Verdict: queue.Delivered, Status: "2.0.0", Reply: "in the system's queue as " + receipt.ID, Reports: true})
	if journal == nil {
		receipt.conn.Close()
		return all, nil
	}
	if err := journal.Record(all...); err != nil {
		receipt.conn.Close()
		return all, nil // the queue tries to record it again, and the server still remembers
	}
	receipt.Done()
	return nil, nil
}

// failed is the outcome of a hand-over that was not one.
func failed(err error) queue.Outcome {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return queue.Outcome{Verdict: queue.Deferred, Status: "4.3.0", Reply: err.Error()}
	}
	reply := strings.TrimSuffix(refusal.What+"; "+refusal.Hint, "; ")
	if !refusal.Final() {
		return queue.Outcome{Verdict: queue.Deferred, Status: "4.3.0", Reply: reply}
	}
	o := queue.Outcome{Verdict: queue.Refused, Status: "5.6.0", Reply: reply}
	switch refusal.Code {
	case cli.NoPerm:
		o.Status = "5.7.1"
	case cli.NoUser, cli.Usage:
		o.Status = "5.1.3"
	}
	return o
}

func outcomes(e queue.Envelope, o queue.Outcome) []queue.Outcome {
	o.Server = "the system's queue"
	var all []queue.Outcome
	for _, to := range e.To {
		o.Recipient = to.Address
		all = append(all, o)
	}
	return all
}
