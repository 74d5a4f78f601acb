package queue

import (
	"slices"
	"time"
)

// A Schedule says when to try again (RFC 5321 section 4.5.4.1).
type Schedule struct {
	Retries []time.Duration // pauses after the first, second... failure; the last repeats
	Delay   time.Duration   // after which the sender hears of a delay, once
	GiveUp  time.Duration   // after which the message bounces
	Resend  time.Duration   // pause before an unknown one is sent again
	Resends int             // how often
}

// DefaultSchedule tries soon and often at first, because most failures are short,
// then every four hours, and gives up after five days ("at least 4-5 days").
func DefaultSchedule() Schedule {
	return Schedule{
		Retries: []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
		Delay:   4 * time.Hour,
		GiveUp:  5 * 24 * time.Hour,
		Resend:  30 * time.Minute,
		Resends: 2,
	}
}

func (s Schedule) filled() Schedule {
	d := DefaultSchedule()
	if len(s.Retries) == 0 {
		s.Retries = d.Retries
	}
	if s.Delay == 0 {
		s.Delay = d.Delay
	}
	if s.GiveUp == 0 {
		s.GiveUp = d.GiveUp
	}
	if s.Resend == 0 {
		s.Resend = d.Resend
	}
	if s.Resends == 0 {
		s.Resends = d.Resends
	}
	return s
}

// pause after so many failures.
func (s Schedule) pause(tries int) time.Duration {
	return s.Retries[min(max(tries, 1), len(s.Retries))-1]
}

// due says when the entry needs the drainer next; false when only a person or a
// sign-in can move it.
func (s *state) due(o *DrainOptions) (time.Time, bool) {
	if s.reason != "" {
		return time.Time{}, false
	}
	var when []time.Time
	for i := range s.people {
		switch p := &s.people[i]; {
		case p.state == StateQueued:
			when = append(when, s.next)
		case p.state == StateUnknown && o.OnUnknown == Resend:
			when = append(when, p.last.At.Add(o.Schedule.Resend))
		}
	}
	if len(when) == 0 {
		// Nothing to send: all is final and the entry has to go, or it waits.
		return time.Time{}, s.state() != StateUnknown
	}
	return slices.MinFunc(when, time.Time.Compare), true
}

// eligible are the recipients of one destination that may be tried now.
func (s *state) eligible(o *DrainOptions, key string, now time.Time) []int {
	envelope := s.head.envelope(s.size)
	var who []int
	for i := range s.people {
		if s.mayTry(i, o, now) && o.Destination(envelope, envelope.To[i]) == key {
			who = append(who, i)
		}
	}
	return who
}

func (s *state) mayTry(i int, o *DrainOptions, now time.Time) bool {
	p := &s.people[i]
	switch p.state {
	case StateQueued:
		return !s.next.After(now)
	case StateUnknown:
		return o.OnUnknown == Resend && p.unknowns <= o.Schedule.Resends && !p.last.At.Add(o.Schedule.Resend).After(now)
	}
	return false
}

// keys are the destinations that the entry has recipients for, in their order.
func (s *state) keys(o *DrainOptions, now time.Time) []string {
	envelope := s.head.envelope(s.size)
	var keys []string
	for i := range s.people {
		if !s.mayTry(i, o, now) {
			continue
		}
		if key := o.Destination(envelope, envelope.To[i]); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}
