package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A standing is what one provider says about one person, who may have several accounts
// there.
type standing struct {
	person   identity.PersonID
	accounts []identity.Binding
	state    State
	why      string
}

// settle does what follows from the answers, and says how many accounts are gone.
func (c *Checker) settle(ctx context.Context, p Provider, accounts []identity.Binding, answers map[string]Answer, at time.Time) (gone int, err error) {
	known, err := c.leavers(ctx, p.Issuer)
	if err != nil {
		return 0, err
	}
	people := standings(accounts, answers)
	var leaving []standing
	for _, s := range people {
		switch s.state {
		case Unknown:
			err = c.disapprove(ctx, s, known)
		case Member:
			err = c.stays(ctx, p, s, answers, known, at)
		case Gone:
			gone += len(s.accounts)
			var new bool
			if new, err = c.isNew(ctx, s, known, at); new {
				leaving = append(leaving, s)
			} else if err == nil {
				err = c.disapprove(ctx, s, known)
			}
		}
		if err != nil {
			return gone, err
		}
	}
	return gone, c.leave(ctx, p, leaving, len(people), known, at)
}

func (c *Checker) leavers(ctx context.Context, issuer string) (map[string]identity.Leaver, error) {
	list, err := c.o.Store.Leavers(ctx, issuer)
	known := map[string]identity.Leaver{}
	for _, l := range list {
		known[l.Subject] = l
	}
	return known, err
}

// standings gathers accounts by person: one account that belongs is enough, and one of which
// nothing is known leaves all open.
func standings(accounts []identity.Binding, answers map[string]Answer) []standing {
	var all []standing
	for _, b := range accounts {
		at := slices.IndexFunc(all, func(s standing) bool { return s.person == b.Person })
		if at < 0 {
			all = append(all, standing{person: b.Person, state: Gone})
			at = len(all) - 1
		}
		s, answer := &all[at], answers[b.Subject]
		s.accounts = append(s.accounts, b)
		switch {
		case answer.State == Member, s.state == Member:
			s.state = Member
		case answer.State == Unknown, s.state == Unknown:
			s.state = Unknown
		default:
			s.why = answer.Why
		}
	}
	return all
}

// stays confirms a member, and takes back what was said before.
func (c *Checker) stays(ctx context.Context, p Provider, s standing, answers map[string]Answer, known map[string]identity.Leaver, at time.Time) error {
	for _, b := range s.accounts {
		if answers[b.Subject].State != Member {
			continue
		}
		if err := c.o.Store.Confirm(ctx, b.Issuer, b.Subject, at); err != nil && !isGone(err) {
			return err
		}
		l, was := known[b.Subject]
		if !was {
			continue
		}
		in, err := c.o.Store.Release(ctx, s.person, identity.HoldMember(p.Issuer), at, actor, "a member again at "+p.Name)
		if err != nil {
			return err
		}
		if in {
			c.o.Log.Info("person is a member again", "provider", p.Name, "person", s.person, "account", b.Shown, "since", l.Since)
		}
	}
	for _, b := range s.accounts {
		if _, was := known[b.Subject]; was {
			if err := c.o.Store.DeleteLeaver(ctx, b.Issuer, b.Subject); err != nil {
				return err
			}
		}
	}
	return nil
}

// isNew: nothing was done about them yet, and no other provider that is asked vouches.
func (c *Checker) isNew(ctx context.Context, s standing, known map[string]identity.Leaver, at time.Time) (bool, error) {
	for _, b := range s.accounts {
		if known[b.Subject].State == identity.LeaverOut {
			return false, nil
		}
	}
	bindings, err := c.o.Store.Bindings(ctx, s.person)
	if err != nil {
		return false, err
	}
	for _, other := range c.o.Providers {
		for _, b := range bindings {
			if b.Issuer == other.Issuer && b.Issuer != s.accounts[0].Issuer && at.Sub(b.Checked) <= 2*other.Every {
				return false, nil
			}
		}
	}
	return true, nil
}

// guarded is how long a departure counts.
const guarded = 24 * time.Hour

// tooMany is when an administrator is asked first.
func tooMany(leaving, people int) bool { return leaving > 2 && leaving*10 > people }

// leave suspends who has left, or lets them wait.
func (c *Checker) leave(ctx context.Context, p Provider, leaving []standing, people int, known map[string]identity.Leaver, at time.Time) error {
	var unasked []standing
	for _, s := range leaving {
		if !stands(s, known, identity.LeaverApproved) {
			unasked = append(unasked, s)
			continue
		}
		if err := c.suspend(ctx, p, s, at, true); err != nil {
			return err
		}
	}
	if len(unasked) == 0 {
		return nil
	}
	before, err := c.departed(ctx, p, unasked, at)
	if err != nil {
		return err
	}
	if tooMany(len(unasked)+before, people) {
		return c.wait(ctx, p, unasked, before, people, known, at)
	}
	for _, s := range unasked {
		// Who waits, waits: else time alone would let everybody go, a tenth a day.
		if stands(s, known, identity.LeaverWaiting) {
			continue
		}
		if err := c.suspend(ctx, p, s, at, false); err != nil {
			return err
		}
	}
	return nil
}

// departed is how many others have gone lately, those who are back too.
func (c *Checker) departed(ctx context.Context, p Provider, leaving []standing, at time.Time) (int, error) {
	people, err := c.o.Store.Departed(ctx, p.Issuer, at.Add(-guarded))
	others := slices.DeleteFunc(people, func(id identity.PersonID) bool {
		return slices.ContainsFunc(leaving, func(s standing) bool { return s.person == id })
	})
	return len(others), err
}

func stands(s standing, known map[string]identity.Leaver, state identity.LeaverState) bool {
	return slices.ContainsFunc(s.accounts, func(b identity.Binding) bool { return known[b.Subject].State == state })
}

// disapprove: an administrator's word is for the look that follows it. It would be said
// anew at each look, and have the provider asked without a pause, about somebody of whom
// the provider says nothing just now, or whom another vouches for. They are as others then.
func (c *Checker) disapprove(ctx context.Context, s standing, known map[string]identity.Leaver) error {
	for _, b := range s.accounts {
		if known[b.Subject].State != identity.LeaverApproved {
			continue
		}
		if err := c.o.Store.DeleteLeaver(ctx, b.Issuer, b.Subject); err != nil {
			return err
		}
	}
	return nil
}

// suspend shuts somebody out and writes down that, why, and whether anybody was asked.
func (c *Checker) suspend(ctx context.Context, p Provider, s standing, at time.Time, asked bool) error {
	reason := "no member any more at " + p.Name
	if s.why != "" {
		reason += ": " + short(s.why)
	}
	turned := false
	err := c.o.Store.Together(ctx, func(ctx context.Context) (err error) {
		if turned, err = c.o.Store.Suspend(ctx, identity.Hold{Person: s.person, Source: identity.HoldMember(p.Issuer), Since: at, Reason: reason}, actor); err != nil {
			return err
		}
		if !asked {
			if err := c.o.Store.Depart(ctx, p.Issuer, s.person, at); err != nil {
				return err
			}
		}
		return c.mark(ctx, s, identity.LeaverOut, at)
	})
	if isGone(err) {
		return nil
	}
	if err == nil && turned {
		c.o.Log.Info("person is no member any more and suspended", "provider", p.Name, "person", s.person, "reason", reason)
	}
	return err
}

func (c *Checker) mark(ctx context.Context, s standing, state identity.LeaverState, at time.Time) error {
	for _, b := range s.accounts {
		err := c.o.Store.PutLeaver(ctx, identity.Leaver{Issuer: b.Issuer, Subject: b.Subject, Person: s.person, State: state, Since: at, Why: short(s.why)})
		if err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// wait writes down who would go, and says so once.
func (c *Checker) wait(ctx context.Context, p Provider, leaving []standing, before, people int, known map[string]identity.Leaver, at time.Time) error {
	fresh := 0
	for _, s := range leaving {
		if _, was := known[s.accounts[0].Subject]; !was {
			fresh++
		}
	}
	detail := fmt.Sprintf("%s: %d of %d people are no members any more; letterlockd membership show", p.Name, len(leaving), people)
	if before > 0 {
		detail = fmt.Sprintf("%s: %d of %d people are no members any more, and %d have gone within a day; letterlockd membership show", p.Name, len(leaving), people, before)
	}
	err := c.o.Store.Together(ctx, func(ctx context.Context) error {
		for _, s := range leaving {
			if err := c.mark(ctx, s, identity.LeaverWaiting, at); err != nil {
				return err
			}
		}
		if fresh == 0 {
			return nil
		}
		return c.o.Store.AddEvent(ctx, identity.Event{At: at, Kind: "membership.waiting", Actor: actor, Detail: detail})
	})
	if err == nil && fresh > 0 {
		c.o.Log.Error("too many people would be suspended at once: an administrator decides", "provider", p.Name, "leaving", len(leaving), "of", people,
			"gone within a day", before, "approve with", "letterlockd membership approve "+p.Name)
	}
	return err
}

// isGone: the person or the binding was removed meanwhile.
func isGone(err error) bool { return errors.Is(err, identity.ErrNotFound) }
