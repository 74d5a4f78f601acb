package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A roll is a fake of the people there are.
type roll map[string]identity.Person

func (r roll) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	person, ok := r[address]
	if !ok {
		return identity.Person{}, identity.ErrNotFound
	}
	if person.ID == "" {
		return identity.Person{}, errors.New("database away")
	}
	return person, nil
}

// What another server vouches for never becomes the name of an app password of ours, nor
// that of somebody who is disabled.
func TestGuestNames(t *testing.T) {
	known := roll{
		"ann@example.org": {ID: "ann"}, "left@example.org": {ID: "left", Disabled: time.Unix(1, 0)}, "a+b@example.org": {ID: "ab"},
		"away@example.org": {},
	}
	g := guests{known: known, domain: "example.org"}
	for _, c := range []struct{ user, want string }{
		{"ann", "ann@example.org"}, {"Ann@EXAMPLE.org", "ann@example.org"}, {"carol", "carol@example.org"}, {"carol@elsewhere.test", "carol@elsewhere.test"},
		{"carol+x@example.org", "carol+x@example.org"}, {"a+b@example.org", "a+b@example.org"},
		{"ann+phone@example.org", "no"}, {"Ann+phone", "no"}, {"ann+phone+x@example.org", "no"}, {"a+b+c@example.org", "no"}, {"left+phone@example.org", "no"},
		{"left", "no"}, {"left@example.org", "no"}, {"a b", "no"}, {"x@y@z", "no"},
		{"away", "later"}, {"away+x", "later"},
	} {
		got, err := g.name(t.Context(), c.user)
		refused, no := errors.AsType[*credential.Refused](err)
		switch {
		case no && !refused.Proven:
			t.Errorf("%q counts as a guess", c.user)
		case no:
			got = "no"
		case err != nil:
			got = "later"
		}
		if got != c.want {
			t.Errorf("%q is %q, want %q", c.user, got, c.want)
		}
	}
}
