package main

import (
	"context"
	"io"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// carryGrace is how long attempts under way go on after the process was asked to end.
// One broken off after its final dot would leave a message whose fate is unknown.
const carryGrace = 15 * time.Second

// patient makes a carrier finish what it has begun.
func patient(c queue.Carrier) queue.Carrier {
	plain := patientCarrier{c}
	if j, ok := c.(queue.JournalCarrier); ok {
		return patientJournal{plain, j}
	}
	return plain
}

type patientCarrier struct{ carrier queue.Carrier }

// Carry carries in a context that outlives ctx.
func (c patientCarrier) Carry(ctx context.Context, e queue.Envelope, message io.ReadSeeker) ([]queue.Outcome, error) {
	ctx, stop := outlive(ctx, carryGrace)
	defer stop()
	return c.carrier.Carry(ctx, e, message)
}

type patientJournal struct {
	patientCarrier
	journaling queue.JournalCarrier
}

// CarryJournal is Carry for a carrier that says when the point of no return comes.
func (c patientJournal) CarryJournal(ctx context.Context, e queue.Envelope, message io.ReadSeeker, journal queue.Journal) ([]queue.Outcome, error) {
	ctx, stop := outlive(ctx, carryGrace)
	defer stop()
	return c.journaling.CarryJournal(ctx, e, message, journal)
}

// outlive returns a context that ends grace after ctx does.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}
