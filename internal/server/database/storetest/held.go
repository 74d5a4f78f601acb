package storetest

import (
	"context"
	"errors"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// heldListed: what is held against people who are gone can be listed and forgotten, and who
// is made in their place is let in then.
func (c *checker) heldListed() {
	ctx, s := c.Context(), c.s
	held := func(what string, want ...identity.Held) {
		c.Helper()
		c.same(what, got(s.Held(ctx, "", 10))(c), want)
	}
	made := 0
	again := func(address, external string) identity.Person {
		c.Helper()
		made++
		p := person("again" + string(rune('a'+made)))
		p.Address = address
		c.must(s.AddUser(ctx, identity.User{Person: p, External: external, Changed: At(20), Wish: identity.WishActive}, "scim"))
		return got(s.Person(ctx, p.ID))(c)
	}
	ann := identity.Held{Address: "ann@example.org", External: "ext-ann", Since: At(5), Reason: "stole"}
	bob := identity.Held{Address: "bob@example.org", Since: At(6)}
	eve := identity.Held{Address: "eve@example.org", External: "ext-eve", Since: At(7), Reason: "lied"}
	for _, h := range []identity.Held{eve, bob, ann} {
		p := again(h.Address, h.External)
		c.must(s.DisablePerson(ctx, p.ID, h.Since, h.Reason))
		if h == eve {
			held("while they are there")
		}
		c.must(s.RemoveUser(ctx, p.ID, At(8), "scim"))
	}
	held("all", ann, bob, eve)
	c.same("the first", got(s.Held(ctx, "", 1))(c), []identity.Held{ann})
	c.same("the next", got(s.Held(ctx, ann.Address, 1))(c), []identity.Held{bob})

	// With its line in the audit trail, or not at all.
	broken := errors.New("no line")
	err := s.Together(ctx, func(ctx context.Context) error {
		c.must(s.ReleaseHeld(ctx, eve.Address))
		return broken
	})
	if !errors.Is(err, broken) {
		c.Errorf("together: %v", err)
	}
	held("undone", ann, bob, eve)
	c.must(s.ReleaseHeld(ctx, eve.Address))
	held("without one", ann, bob)
	c.want("forgotten twice", s.ReleaseHeld(ctx, eve.Address), identity.ErrNotFound)
	c.want("nobody's", s.ReleaseHeld(ctx, "nobody@example.org"), identity.ErrNotFound)

	if p := again(eve.Address, eve.External); !p.Disabled.IsZero() {
		c.Errorf("shut out by a word that was forgotten: %+v", p)
	}
	if p := again("bobby@example.org", ann.External); p.Disabled.IsZero() || p.Reason != ann.Reason {
		c.Errorf("let in against a word that stands: %+v", p)
	}
	held("what has come true is not held any more", bob)
}
