// Package membership asks identity providers again whether the people bound to their
// accounts still belong: who has left is suspended everywhere, and let in again when they
// are back.
//
//	bindings of one issuer --> Asker --> member | gone | not known
//	                                       |        |        \--> nothing happens
//	     hold taken back, binding confirmed         hold, or waits for an administrator
//
// Nobody is suspended but by a definite "not a member", from a provider that shows in the
// same look that it still sees the others: an Asker that cannot tell returns an error, and
// then nothing at all happens. When more than a tenth of the people, and more than two, would
// have gone within 24 hours, whichever looks, starts and instances they went by, those who
// have not wait for an administrator's word (letterlockd membership approve), or until they
// are members again: an organisation that was renamed, an app that lost a right, a claim
// that is called something else, or a provider that forgets a few each hour, looks like
// everybody leaving.
//
// People without an account at the provider are never touched, nor is who has one more
// account at another provider that is asked and says member. Who was suspended and then
// enabled by an administrator stays enabled.
package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A State is what a provider says about an account.
type State int

// The states. Unknown is what is not said.
const (
	Unknown State = iota
	Member
	Gone
)

// An Answer is a state with its reason, for the audit trail.
type Answer struct {
	State State
	Why   string
}

// An Asker asks one provider about accounts, by subject. Accounts without an answer are
// Unknown. An error says that nothing is known about anybody; a *Later says when to ask
// again.
type Asker interface {
	Ask(ctx context.Context, accounts []identity.Binding) (map[string]Answer, error)
}

// Later is an error that says how long to wait: a rate limit.
type Later struct {
	After time.Duration
	Err   error
}

func (l *Later) Error() string { return l.Err.Error() }
func (l *Later) Unwrap() error { return l.Err }

// Accounts are who is bound.
type Accounts interface {
	BindingsAt(ctx context.Context, issuer, after string, limit int) ([]identity.Binding, error)
	Bindings(ctx context.Context, person identity.PersonID) ([]identity.Binding, error)
	Confirm(ctx context.Context, issuer, subject string, at time.Time) error
}

// Leavers are what became of who is no member.
type Leavers interface {
	Leavers(ctx context.Context, issuer string) ([]identity.Leaver, error)
	PutLeaver(ctx context.Context, l identity.Leaver) error
	DeleteLeaver(ctx context.Context, issuer, subject string) error
}

// Holds shut people out and let them in, with their lines in the audit trail.
type Holds interface {
	Suspend(ctx context.Context, h identity.Hold, actor string) (bool, error)
	Release(ctx context.Context, person identity.PersonID, source string, at time.Time, actor, why string) (bool, error)
	AddEvent(ctx context.Context, e identity.Event) error
}

// Departures are who was suspended without an administrator's word.
type Departures interface {
	Depart(ctx context.Context, issuer string, person identity.PersonID, at time.Time) error
	Departed(ctx context.Context, issuer string, since time.Time) ([]identity.PersonID, error)
	// Together makes one transaction of all that do asks with its context. An error of do
	// undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Looks remember how it went, for all instances and for people.
type Looks interface {
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	MembershipLooks(ctx context.Context) ([]identity.MembershipLook, error)
	PutMembershipLook(ctx context.Context, l identity.MembershipLook) error
}

// Store is all of it; database has it.
type Store interface {
	Accounts
	Leavers
	Holds
	Departures
	Looks
}

// A Provider is one issuer with the way to ask it.
type Provider struct {
	Name   string // of its section in the configuration
	Issuer string // of the bindings
	Asker  Asker
	Every  time.Duration
}

// Options shape a Checker.
type Options struct {
	Store     Store
	Providers []Provider
	Holder    string // of this instance, unlike any other
	Now       func() time.Time
	Log       *slog.Logger
}

// A Checker asks all providers when their time has come. It is called by one goroutine.
type Checker struct {
	o         Options
	notBefore map[string]time.Time // issuers that asked us to wait
}

// actor is who suspends, in the audit trail.
const actor = "membership"

const (
	// lookBound is how long one look may take, and how long the lease lasts.
	lookBound = 10 * time.Minute
	// soonAgain is when a look that failed is tried again.
	soonAgain = 5 * time.Minute
	pageSize  = 500
)

// New checks the options.
func New(o Options) (*Checker, error) {
	if o.Store == nil || o.Holder == "" || o.Now == nil || o.Log == nil {
		return nil, errors.New("membership: store, holder, clock or log is missing")
	}
	for _, p := range o.Providers {
		if p.Issuer == "" || p.Asker == nil || p.Every <= 0 {
			return nil, fmt.Errorf("membership: provider %q has no issuer, no asker or no time", p.Name)
		}
	}
	return &Checker{o: o, notBefore: map[string]time.Time{}}, nil
}

// Look asks those providers whose time has come.
func (c *Checker) Look(ctx context.Context) error {
	var errs []error
	for _, p := range c.o.Providers {
		due, err := c.due(ctx, p)
		if err == nil && due {
			err = c.look(ctx, p)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("members of %s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}

// due: its time has come, or an administrator has approved what waited.
func (c *Checker) due(ctx context.Context, p Provider) (bool, error) {
	now := c.o.Now()
	if now.Before(c.notBefore[p.Issuer]) {
		return false, nil
	}
	looks, err := c.o.Store.MembershipLooks(ctx)
	if err != nil {
		return false, err
	}
	due := true
	for _, l := range looks {
		pause := p.Every
		if l.Trouble != "" {
			pause = min(pause, soonAgain)
		}
		if l.Issuer == p.Issuer && now.Before(l.Asked.Add(pause)) && !now.Before(l.Asked) {
			due = false
			if l.Trouble != "" {
				return false, nil
			}
		}
	}
	if !due {
		leavers, err := c.o.Store.Leavers(ctx, p.Issuer)
		if err != nil {
			return false, err
		}
		for _, l := range leavers {
			due = due || l.State == identity.LeaverApproved
		}
	}
	if !due {
		return false, nil
	}
	return c.o.Store.Lease(ctx, "membership "+p.Issuer, c.o.Holder, now, now.Add(lookBound))
}

// look asks one provider and does what follows.
func (c *Checker) look(ctx context.Context, p Provider) error {
	ctx, cancel := context.WithTimeout(ctx, lookBound-time.Minute)
	defer cancel()
	accounts, err := c.accounts(ctx, p.Issuer)
	if err != nil {
		return err
	}
	at := c.o.Now()
	look := identity.MembershipLook{Issuer: p.Issuer, Asked: at, Accounts: len(accounts)}
	if len(accounts) == 0 {
		return c.o.Store.PutMembershipLook(ctx, look)
	}
	answers, err := p.Asker.Ask(ctx, accounts)
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		var later *Later
		if errors.As(err, &later) && later.After > 0 {
			c.notBefore[p.Issuer] = c.o.Now().Add(later.After)
		}
		c.o.Log.Warn("members not known; nobody is suspended", "provider", p.Name, "error", err)
		look.Trouble = err.Error()
		return c.o.Store.PutMembershipLook(context.WithoutCancel(ctx), look)
	}
	if look.Gone, err = c.settle(ctx, p, accounts, answers, at); err != nil {
		return err
	}
	return c.o.Store.PutMembershipLook(ctx, look)
}

func (c *Checker) accounts(ctx context.Context, issuer string) ([]identity.Binding, error) {
	var all []identity.Binding
	for after := ""; ; {
		page, err := c.o.Store.BindingsAt(ctx, issuer, after, pageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
		after = page[len(page)-1].Subject
	}
}

// Returned takes back what a provider's look has said against a person who has just proved
// to the same provider that they belong; true: they are in again.
func Returned(ctx context.Context, store interface {
	Release(ctx context.Context, person identity.PersonID, source string, at time.Time, actor, why string) (bool, error)
	DeleteLeaver(ctx context.Context, issuer, subject string) error
}, b identity.Binding, now time.Time) (bool, error) {
	in, err := store.Release(ctx, b.Person, identity.HoldMember(b.Issuer), now, actor, "signed in as a member at "+b.Issuer)
	if err != nil {
		return false, err
	}
	return in, store.DeleteLeaver(ctx, b.Issuer, b.Subject)
}

// short is the first line of a reason.
func short(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text
}
