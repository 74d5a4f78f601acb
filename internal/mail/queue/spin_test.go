package queue

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"
)

// lost never answers after the final dot.
type lost struct{}

func (lost) Carry(_ context.Context, e Envelope, _ io.ReadSeeker) ([]Outcome, error) {
	var outcomes []Outcome
	for _, r := range e.To {
		outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Unknown, Reply: "connection lost"})
	}
	return outcomes, nil
}

// A full disk that does not take the end of an entry is tried again after a pause, not
// as fast as the machine can.
func TestGivingUpOnAFullDiskDoesNotSpin(t *testing.T) {
	q, clock := newQueue(t)
	id := put(t, q, to("a@one"))
	attempts, failures, full := 0, 0, false
	q.step = func(name string) {
		if name == "drain: recorded" {
			if attempts++; attempts == 3 { // of which two are resends: nothing is sent any more
				full = true
			}
		}
	}
	q.disk = func(_ string, length int) (int, error) {
		if !full {
			return length, nil
		}
		if failures++; failures == 100 {
			t.Error("it spins")
			full = false // else it does so for ever
		}
		return 0, errDisk
	}
	for range 4 {
		drainOnce(t, q, lost{}, DrainOptions{OnUnknown: Resend})
		clock.forward(time.Hour)
	}
	if attempts != 3 || failures == 0 || show(t, q, id).State != StateUnknown {
		t.Errorf("%d attempts, %d failures, %v", attempts, failures, show(t, q, id).State)
	}
	full = false
	drainOnce(t, q, lost{}, DrainOptions{OnUnknown: Resend})
	if slices.Contains(entryIDs(t, q), id) {
		t.Error("not given up once the disk works again")
	}
}

func entryIDs(t *testing.T, q *Queue) []ID {
	t.Helper()
	ids, err := q.ids()
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// An unknown outcome that the disk takes later counts once for whoever holds it: the
// message is not given up a resend too early.
func TestLateOutcomeCountsOnce(t *testing.T) {
	q, clock := newQueue(t)
	id := put(t, q, to("a@one"))
	options := DrainOptions{OnUnknown: Resend, Schedule: Schedule{Resends: 1}}.filled()
	d := &drain{q: q, carrier: lost{}, options: options, log: options.Log}
	it := &item{id: id, place: -1, keys: []string{"work"}}
	full := false
	q.step = func(name string) { full = full || name == "drain: answered" }
	q.disk = func(_ string, length int) (int, error) {
		if full {
			return 0, errDisk
		}
		return length, nil
	}
	d.step(t.Context(), it)
	if it.stuck == nil {
		t.Fatal("the disk took it")
	}
	q.step, full = nil, false
	clock.forward(stuckPause)
	it.keys = nil
	d.step(t.Context(), it)
	if state := show(t, q, id).State; it.stuck != nil || state != StateUnknown {
		t.Errorf("after one attempt of two: %v", state)
	}
}
