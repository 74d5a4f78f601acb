package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// busyPause is how long to leave an entry alone that somebody else has open, at most: a
// Put lets go of it soon. stuckPause is how long when the disk would not take a record.
const (
	busyPause   = time.Second
	stuckPause  = 10 * time.Second
	reportPause = 5 * time.Minute
)

// doubtTries is how many attempts a doubtful refusal of the sign-in stands for an outage:
// about an hour of the default schedule.
const doubtTries = 4

// step does one thing for an entry: its next destination or, after the last, what
// is left to do. It runs on a worker, and only once at a time for an entry.
func (d *drain) step(ctx context.Context, it *item) (r result) {
	r = result{item: it}
	h, err := d.q.open(it.id, true)
	switch {
	case errors.Is(err, ErrNotFound):
		return r.gone()
	case errors.Is(err, ErrActive):
		pause := min(10*time.Millisecond<<min(it.locked, 10), busyPause)
		it.locked++
		d.q.at("drain: locked out")
		return r.at(d.q.now().Add(pause))
	case err != nil:
		d.log.Error("queue file cannot be used", "id", it.id, "error", err)
		return r
	}
	defer h.close()
	it.locked = 0
	if err := d.saveStuck(h, it); err != nil {
		d.log.Error("outcome cannot be kept", "id", it.id, "error", err)
		return r.at(d.q.now().Add(stuckPause))
	}
	h.state.settle() // after that: what is known now is not unknown once more
	if h.state.reason != "" {
		return r
	}
	if len(it.keys) > 0 {
		key := it.keys[0]
		it.keys = it.keys[1:]
		if who := h.state.eligible(&d.options, key, d.q.now()); len(who) > 0 {
			if err := d.carry(ctx, h, it, who); err != nil {
				d.log.Error("attempt cannot be recorded", "id", it.id, "error", err)
				return r.at(d.q.now().Add(stuckPause))
			}
		}
		if len(it.keys) > 0 && h.state.reason == "" {
			r.again = true
			return r
		}
	}
	return d.finish(ctx, h, it, r)
}

// saveStuck writes outcomes that could not be written before: what is known to be
// delivered must not be sent again because a disk was full.
func (d *drain) saveStuck(h *handle, it *item) error {
	if it.stuck == nil {
		return nil
	}
	if err := h.append(*it.stuck, true); err != nil {
		return err
	}
	it.stuck = nil
	return nil
}

// saveAllStuck is for the end of a drain: afterwards nobody knows what is in memory
// alone.
func (d *drain) saveAllStuck() {
	for _, it := range d.known {
		if it.stuck == nil {
			continue
		}
		h, err := d.q.open(it.id, true)
		if err == nil {
			err = d.saveStuck(h, it)
			h.close()
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			d.log.Error("outcome is lost, it counts as unknown", "id", it.id, "error", err)
		}
	}
}

// carry makes one attempt for some recipients and records what came of it.
func (d *drain) carry(ctx context.Context, h *handle, it *item, who []int) error {
	if err := h.append(record{Kind: recBegin, Time: d.q.now().UnixMilli(), Who: who}, false); err != nil {
		return err
	}
	d.q.at("drain: begun")
	a := &attempt{h: h, who: who, known: map[int]Outcome{}}
	envelope := h.state.head.envelope(h.state.size)
	part := envelope
	part.To = nil
	for _, i := range who {
		part.To = append(part.To, envelope.To[i])
	}
	returned, err := d.hand(ctx, part, a)
	if err != nil {
		d.log.Error("message cannot be carried", "id", it.id, "error", err)
	}
	a.merge(returned)
	done := d.conclude(h, a, err)
	d.q.at("drain: answered")
	err = h.append(done, true)
	if err != nil {
		// Known and not on disk: kept here, and applied so that nothing is sent again.
		h.state.apply(done)
		it.stuck = &done
	}
	d.q.at("drain: recorded")
	d.tell(h, it, done)
	return nil
}

// hand calls the carrier.
func (d *drain) hand(ctx context.Context, envelope Envelope, a *attempt) ([]Outcome, error) {
	if c, ok := d.carrier.(JournalCarrier); ok {
		return c.CarryJournal(ctx, envelope, a.h.message(), a)
	}
	if err := a.Commit(); err != nil {
		return nil, err
	}
	return d.carrier.Carry(ctx, envelope, a.h.message())
}

// conclude decides what the attempt means for each recipient it was for.
func (d *drain) conclude(h *handle, a *attempt, fault error) record {
	now := d.q.now()
	done := record{Kind: recDone, Time: now.UnixMilli()}
	expired := now.Sub(h.state.since) >= d.options.Schedule.GiveUp
	deferred := false
	for _, i := range a.who {
		o, ok := a.known[i]
		if !ok {
			o = a.missing(i, fault)
		}
		if o.At.IsZero() {
			o.At = now
		}
		if o.Verdict == SignIn && o.Doubt && h.state.tries <= doubtTries && !expired {
			o.Verdict = Deferred
		}
		switch {
		case o.Verdict == Deferred && expired:
			o.Verdict = Refused
			o.Reply = "given up after " + age(now.Sub(time.UnixMilli(h.state.head.Created))) + "; last: " + o.Reply
		case o.Verdict == Deferred:
			deferred = true
		case o.Verdict == SignIn:
			done.Reason = NoGrant
		}
		done.Outcomes = append(done.Outcomes, save(i, o))
	}
	if deferred {
		done.Next = now.Add(d.options.Schedule.pause(h.state.tries)).UnixMilli()
	} else if !h.state.next.IsZero() {
		done.Next = h.state.next.UnixMilli()
	}
	return done
}

func age(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
	return d.Round(time.Minute).String()
}

// finish reports what is to be reported, and removes the entry or says when it is
// due.
func (d *drain) finish(ctx context.Context, h *handle, it *item, r result) result {
	if err := d.giveUpUnknown(h, it); err != nil {
		d.log.Error("outcome cannot be kept", "id", it.id, "error", err)
		return r.at(d.q.now().Add(stuckPause)) // it is due, and would be again at once
	}
	if !d.report(ctx, h) {
		return r.at(d.q.now().Add(reportPause))
	}
	d.q.at("drain: reported")
	switch s := h.state.state(); s {
	case StateDelivered, StateBounced:
		err := h.remove()
		if err == nil && it.stuck != nil {
			// The disk has no record that would say so after a power cut.
			err = d.q.syncEntries()
		}
		if err != nil {
			d.log.Error("queue file cannot be removed", "id", it.id, "error", err)
			return r.at(d.q.now().Add(stuckPause))
		}
		d.q.at("drain: removed")
		return r.gone()
	}
	if it.stuck != nil {
		return r.at(d.q.now().Add(stuckPause))
	}
	when, ok := h.state.due(&d.options)
	if !ok {
		return r
	}
	return r.at(when)
}

// giveUpUnknown ends what was sent again as often as the policy allows and never
// answered.
func (d *drain) giveUpUnknown(h *handle, it *item) error {
	if d.options.OnUnknown != Resend {
		return nil
	}
	now := d.q.now()
	done := record{Kind: recOutcome, Time: now.UnixMilli()}
	for i, p := range h.state.people {
		if p.state == StateUnknown && p.unknowns > d.options.Schedule.Resends {
			o := p.last
			o.Verdict, o.At = Refused, now
			o.Reply = "sent several times, but the answer never came: it may have been delivered; last: " + o.Reply
			done.Outcomes = append(done.Outcomes, save(i, o))
		}
	}
	if len(done.Outcomes) == 0 {
		return nil
	}
	if err := h.append(done, true); err != nil {
		return err
	}
	d.tell(h, it, done)
	return nil
}

// An attempt is the Journal of one Carry.
type attempt struct {
	h         *handle
	who       []int
	mu        sync.Mutex
	known     map[int]Outcome
	committed []int
}

// Commit records what is about to happen.
func (a *attempt) Commit(recipients ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var who []int
	for _, i := range a.who {
		if len(recipients) == 0 || slices.Contains(recipients, a.h.state.head.To[i].Address) {
			who = append(who, i)
		}
	}
	if len(who) == 0 {
		return nil
	}
	err := a.h.append(record{Kind: recCommit, Time: a.h.q.now().UnixMilli(), Who: who}, true)
	if err != nil {
		return fmt.Errorf("record that the message is being handed over: %w", err)
	}
	a.committed = append(a.committed, who...)
	a.h.q.at("drain: committed")
	return nil
}

// Record keeps outcomes.
func (a *attempt) Record(outcomes ...Outcome) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := record{Kind: recOutcome, Time: a.h.q.now().UnixMilli()}
	for _, o := range outcomes {
		if o.At.IsZero() {
			o.At = a.h.q.now()
		}
		for _, i := range a.learn(o) {
			r.Outcomes = append(r.Outcomes, save(i, o))
		}
	}
	if len(r.Outcomes) == 0 {
		return nil
	}
	return a.h.append(r, true)
}

// learn notes an outcome for everybody of that address.
func (a *attempt) learn(o Outcome) []int {
	var who []int
	for _, i := range a.who {
		if a.h.state.head.To[i].Address == o.Recipient {
			a.known[i] = o
			who = append(who, i)
		}
	}
	return who
}

func (a *attempt) merge(outcomes []Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range outcomes {
		a.learn(o)
	}
}

// missing is the outcome of a recipient whom the carrier said nothing of.
func (a *attempt) missing(i int, fault error) Outcome {
	o := Outcome{Recipient: a.h.state.head.To[i].Address, Verdict: Deferred, Status: "4.3.0", Reply: "no answer for this recipient"}
	if fault != nil {
		o.Status, o.Reply = "4.3.5", fault.Error()
		return o
	}
	if slices.Contains(a.committed, i) {
		o.Verdict, o.Status = Unknown, "4.4.2"
	}
	return o
}
