package storetest

import (
	"context"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// OutsideRights are what clients of other issuers may do for people.
type OutsideRights interface {
	OutsideGrant(ctx context.Context, first identity.Grant) (identity.Grant, error)
	AllowAgain(ctx context.Context, again identity.Grant) error
}

func outsideGrant(id, owner string, at int) identity.Grant {
	return identity.Grant{ID: identity.GrantID(id), Person: identity.PersonID(owner), Client: identity.OutsideClient("https://op.test", "webmail"), Scopes: []string{"imap", "smtp"}, Created: At(at)}
}

// outside: the first token begins a grant, however many come at once; the newest counts; and
// what a person took away only they give back.
func (c *checker) outside() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if found, err := s.OutsideGrant(ctx, outsideGrant("o1", "ann", 5)); err != nil || found.ID != "o1" {
				c.Errorf("at once: %+v, %v", found, err)
			}
		})
	}
	all.Wait()
	c.same("begun", got(s.GrantsOf(ctx, "ann"))(c), []identity.Grant{outsideGrant("o1", "ann", 5)})
	c.must(s.AllowAgain(ctx, outsideGrant("o2", "ann", 6)))
	c.same("one that is in force stays", got(s.OutsideGrant(ctx, outsideGrant("o3", "ann", 7)))(c), outsideGrant("o1", "ann", 5))
	c.must(s.RevokeGrant(ctx, "o1", At(8), "lost"))
	if ended := got(s.OutsideGrant(ctx, outsideGrant("o1", "ann", 9)))(c); ended.Revoked != At(8) {
		c.Errorf("revoked, and then %+v", ended)
	}
	other := outsideGrant("x", "ann", 9)
	other.Client = identity.OutsideClient("https://op.test", "calendar")
	c.same("another client", got(s.OutsideGrant(ctx, other))(c), other)
	c.must(s.AllowAgain(ctx, outsideGrant("o2", "ann", 9)))
	c.same("allowed again", got(s.OutsideGrant(ctx, outsideGrant("o3", "ann", 10)))(c), outsideGrant("o2", "ann", 9))
	c.must(s.RevokeGrant(ctx, "o2", At(11), "again"))
	c.same("and ended again", got(s.OutsideGrant(ctx, outsideGrant("o3", "ann", 12)))(c).Revoked, At(11))
	// By an instance whose clock is behind that of the one where it began.
	c.must(s.AllowAgain(ctx, outsideGrant("o4", "ann", 2)))
	c.same("allowed by another clock", got(s.OutsideGrant(ctx, outsideGrant("o3", "ann", 13)))(c), outsideGrant("o4", "ann", 2))
	c.must(s.RevokeGrant(ctx, "o4", At(13), "not that one"))
	c.same("and ended for the third time", got(s.OutsideGrant(ctx, outsideGrant("o3", "ann", 14)))(c).Revoked.IsZero(), false)
	c.want("nobody", s.AllowAgain(ctx, outsideGrant("o9", "bob", 5)), identity.ErrNotFound)
}
