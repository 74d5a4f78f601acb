package delivery

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// journaling keeps the queue's journal of one envelope. Without a journal it does
// nothing: the queue then takes the whole call for the point of no return.
type journaling struct {
	to  queue.Journal
	now func() time.Time
	log *slog.Logger
}

// An unkeptError says that the journal could not be written, and so the step not taken.
type unkeptError struct{ err error }

// Error returns what happened.
func (e *unkeptError) Error() string { return fmt.Sprintf("not handed over: %v", e.err) }

// Unwrap returns the cause.
func (e *unkeptError) Unwrap() error { return e.err }

// commit writes down that the next step may make a server take the message for these.
// After an error, an *unkeptError, the step must not be taken.
func (j *journaling) commit(who []*addressee) error {
	if j == nil || j.to == nil || len(who) == 0 {
		return nil
	}
	addresses := make([]string, len(who))
	for i, to := range who {
		addresses[i] = to.Address
	}
	if err := j.to.Commit(addresses...); err != nil {
		return &unkeptError{err}
	}
	for _, to := range who {
		to.committed = true
	}
	return nil
}

// record keeps what is known of these, while others are still under way. What cannot be
// kept now is returned to the queue at the end all the same.
func (j *journaling) record(who []*addressee) {
	j.keep(who, func(to *addressee) queue.Outcome { return to.answer.outcome(to.Address, j.now()) })
}

// takeBack keeps that no server took the message for these, before another one is
// tried: without it a kill during that attempt would leave them unknown.
func (j *journaling) takeBack(who []*addressee) {
	who = slices.DeleteFunc(slices.Clone(who), func(to *addressee) bool { return !to.committed })
	j.keep(who, func(to *addressee) queue.Outcome {
		o := to.answer.outcome(to.Address, j.now())
		o.Verdict = queue.Deferred
		return o
	})
	for _, to := range who {
		to.committed = false
	}
}

func (j *journaling) keep(who []*addressee, outcome func(*addressee) queue.Outcome) {
	if j == nil || j.to == nil {
		return
	}
	var known []queue.Outcome
	for _, to := range who {
		if to.answer != nil {
			known = append(known, outcome(to))
		}
	}
	if len(known) == 0 {
		return
	}
	if err := j.to.Record(known...); err != nil {
		j.log.Error("outcome cannot be kept yet", "error", err)
	}
}
