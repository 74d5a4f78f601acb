package storetest

import (
	"context"
	"errors"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// together: what is done in one go is there as a whole or not at all, and is seen by itself
// before it is by others.
func (c *checker) together() {
	ctx, s := c.Context(), c.s
	line := identity.Event{At: At(1), Kind: "person.added", Person: "ann"}
	changed := errors.New("changed my mind")
	before := got(s.Generation(ctx))(c)
	err := s.Together(ctx, func(ctx context.Context) error {
		c.must(s.AddPerson(ctx, person("ann")))
		c.must(s.PutAddress(ctx, identity.Address{Address: "x@example.org"}))
		c.must(s.AddSession(ctx, session("s", "ann")))
		c.must(s.TouchSession(ctx, digest("s"), At(2)))
		c.must(s.AddEvent(ctx, line))
		got(s.Person(ctx, "ann"))(c)
		c.same("people inside", len(got(s.People(ctx, "", 9))(c)), 1)
		got(s.Factors(ctx, "ann"))(c)
		return changed
	})
	if err != changed {
		c.Errorf("the error of a transaction: %v", err)
	}
	_, err = s.Person(ctx, "ann")
	c.want("a person that was undone", err, identity.ErrNotFound)
	c.same("lines that were undone", len(got(s.Events(ctx, identity.EventFilter{}))(c)), 0)
	c.same("generation", got(s.Generation(ctx))(c), before)

	// What a method refuses undoes what came before it, and one in the other is one.
	refused := func() error {
		return s.Together(ctx, func(ctx context.Context) error {
			return s.Together(ctx, func(ctx context.Context) error {
				if err := errors.Join(s.AddEvent(ctx, line), s.AddPerson(ctx, person("ann"))); err != nil {
					return err
				}
				return s.RevokeCredential(ctx, "none", At(1), "")
			})
		})
	}
	c.want("a refusal", refused(), identity.ErrNotFound)
	c.same("lines that were refused", len(got(s.Events(ctx, identity.EventFilter{}))(c)), 0)

	c.must(s.Together(ctx, func(ctx context.Context) error {
		if err := errors.Join(s.AddPerson(ctx, person("ann")), s.AddEvent(ctx, line)); err != nil {
			return err
		}
		line.Kind = "person.disabled"
		if err := errors.Join(s.DisablePerson(ctx, "ann", At(1), "left"), s.AddEvent(ctx, line), s.EndSession(ctx, digest("none"))); err != nil {
			return err
		}
		return nil
	}))
	events := got(s.Events(ctx, identity.EventFilter{}))(c)
	if len(events) != 2 || events[0].Kind != "person.disabled" || !events[0].At.After(events[1].At) {
		c.Errorf("lines of one transaction, the last first: %+v", events)
	}
	if after := got(s.Generation(ctx))(c); after != before+1 {
		c.Errorf("generation from %d to %d: a right was taken once", before, after)
	}
	c.panics()
}

// panics: a transaction that panics is undone and leaves nothing behind, no connection above
// all. There are more of them than an engine has connections.
func (c *checker) panics() {
	ctx, s := c.Context(), c.s
	boom := func() (what any) {
		defer func() { what = recover() }()
		_ = s.Together(ctx, func(ctx context.Context) error {
			c.must(s.AddPerson(ctx, person("bob")))
			panic("boom")
		})
		return nil
	}
	for range 20 {
		c.same("what was thrown", boom(), any("boom"))
	}
	_, err := s.Person(ctx, "bob")
	c.want("a person of a panic", err, identity.ErrNotFound)
	c.must(s.PutBan(ctx, identity.Ban{Network: netip.MustParsePrefix("192.0.2.0/24")}))
	c.must(s.DeleteBan(ctx, netip.MustParsePrefix("192.0.2.0/24")))
}
