package queue

import "time"

// A state is an entry as its records tell it.
type state struct {
	layout
	people   []person
	reason   Reason
	heldAt   time.Time
	since    time.Time // begin of the time after which the queue gives up
	next     time.Time // of recipients that are queued; zero is at once
	attempts int       // in all
	tries    int       // since the schedule began
	open     bool      // an attempt began and was not ended
	delayed  bool      // a delay was reported
}

// A person is a recipient.
type person struct {
	state     State
	last      Outcome
	committed time.Time // of a final dot whose answer is not known yet
	unknowns  int
	reported  bool
}

func replay(l layout, records []record) *state {
	s := &state{layout: l, people: make([]person, len(l.head.To)), since: time.UnixMilli(l.head.Created)}
	for _, r := range records {
		s.apply(r)
	}
	return s
}

func (s *state) apply(r record) {
	at := time.UnixMilli(r.Time)
	switch r.Kind {
	case recBegin:
		s.settle()
		s.open = true
		s.attempts++
		s.tries++
	case recCommit:
		for _, i := range r.Who {
			if p := s.person(i); p != nil {
				p.committed = at
			}
		}
	case recOutcome, recDone:
		for _, o := range r.Outcomes {
			if p := s.person(o.Who); p != nil {
				p.take(o.outcome(s.head.To[o.Who].Address))
			}
		}
		if r.Kind == recOutcome {
			break
		}
		s.open, s.next = false, time.Time{}
		if r.Next > 0 {
			s.next = time.UnixMilli(r.Next)
		}
		s.hold(r.Reason, at)
	case recHold:
		s.hold(r.Reason, at)
	case recRelease:
		s.release(at)
	case recRetry:
		s.retry(at)
	case recReport:
		s.report(r)
	}
}

func (s *state) person(i int) *person {
	if i < 0 || i >= len(s.people) {
		return nil
	}
	return &s.people[i]
}

func (p *person) take(o Outcome) {
	p.last, p.committed = o, time.Time{}
	switch o.Verdict {
	case Delivered:
		p.state = StateDelivered
	case Refused:
		p.state = StateBounced
	case Unknown:
		p.state = StateUnknown
		p.unknowns++
	default:
		p.state = StateQueued
	}
}

// settle makes unknown what was committed and never got an outcome: the process
// died in between. Nobody may be at work on the entry when it is called.
func (s *state) settle() {
	for i := range s.people {
		p := &s.people[i]
		if !p.committed.IsZero() {
			p.take(Outcome{Recipient: s.head.To[i].Address, Verdict: Unknown, Status: "4.4.2", At: p.committed,
				Reply: "interrupted while the server was about to take the message"})
		}
	}
	s.open = false
}

func (s *state) hold(reason Reason, at time.Time) {
	if reason != "" && s.reason == "" {
		s.heldAt = at
	}
	if reason != "" && s.reason != ByHand { // a person's hold outlives a sign-in
		s.reason = reason
	}
}

func (s *state) release(at time.Time) {
	if s.reason == "" {
		return
	}
	// The time held was not the message's fault.
	s.since = s.since.Add(max(at.Sub(s.heldAt), 0))
	s.reason, s.next, s.tries = "", time.Time{}, 0
}

func (s *state) retry(at time.Time) {
	s.release(at)
	s.settle()
	s.next = time.Time{}
	for i := range s.people {
		if p := &s.people[i]; p.state == StateUnknown {
			p.state, p.unknowns = StateQueued, 0
		}
	}
}

func (s *state) report(r record) {
	if r.Report == Delayed {
		s.delayed = true
		return
	}
	for _, i := range r.Who {
		if p := s.person(i); p != nil {
			p.reported = true
		}
	}
}

// state is that of the whole entry.
func (s *state) state() State {
	if s.reason != "" {
		return StateHeld
	}
	var seen [StateBounced + 1]bool
	for _, p := range s.people {
		seen[p.state] = true
	}
	for _, one := range []State{StateQueued, StateUnknown, StateBounced} {
		if seen[one] {
			return one
		}
	}
	return StateDelivered
}

func (s *state) entry(id ID) Entry {
	e := Entry{ID: id, Envelope: s.head.envelope(s.size), State: s.state(), Reason: s.reason,
		Created: time.UnixMilli(s.head.Created), Attempts: s.attempts}
	if e.State == StateQueued {
		e.Next = s.next
		if e.Next.IsZero() {
			e.Next = e.Created
		}
	}
	for i, to := range e.Envelope.To {
		e.Recipients = append(e.Recipients, Status{Recipient: to, State: s.people[i].state, Last: s.people[i].last})
	}
	return e
}
