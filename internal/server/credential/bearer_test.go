package credential

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestBearer: what the authorization server asks is answered from memory, until a right is
// taken away through this door or another; then it asks the database once more.
func TestBearer(t *testing.T) {
	ends := map[string]struct {
		do   func(f *fakeStore, d *Door)
		good func(identity.AccessToken, identity.Grant, identity.Person, error) bool
	}{
		"grant": {func(f *fakeStore, d *Door) {
			f.change(func() {
				for id, g := range f.grants {
					g.Revoked = time.Now()
					f.grants[id] = g
				}
			})
			for id := range f.grants {
				d.EndGrant(id)
			}
		}, func(_ identity.AccessToken, _ identity.Grant, _ identity.Person, err error) bool {
			return !errors.Is(err, identity.ErrRevoked)
		}},
		"token": {func(f *fakeStore, d *Door) {
			f.change(func() {
				for digest, token := range f.tokens {
					token.Revoked = time.Now()
					f.tokens[digest] = token
				}
			})
			d.Changed()
		}, func(_ identity.AccessToken, _ identity.Grant, _ identity.Person, err error) bool {
			return !errors.Is(err, identity.ErrRevoked)
		}},
		"row": {func(f *fakeStore, d *Door) {
			f.change(func() { clear(f.tokens) })
			d.Changed()
		}, func(_ identity.AccessToken, _ identity.Grant, _ identity.Person, err error) bool {
			return !errors.Is(err, identity.ErrNotFound)
		}},
		"person": {func(f *fakeStore, d *Door) {
			f.change(func() { p := f.people["ann"]; p.Disabled = time.Now(); f.people["ann"] = p })
			d.Changed()
		}, func(_ identity.AccessToken, _ identity.Grant, p identity.Person, err error) bool {
			return err != nil || p.Disabled.IsZero()
		}},
		"person deleted": {func(f *fakeStore, d *Door) {
			f.change(func() { delete(f.people, "ann") })
			d.Changed()
		}, func(_ identity.AccessToken, _ identity.Grant, _ identity.Person, err error) bool {
			return !errors.Is(err, identity.ErrNotFound)
		}},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.person(t, "ann", "ann@example.org")
				digest := identity.DigestOf(store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail).Reveal())
				here, there := New(Options{Store: store, Tokens: store}), New(Options{Store: store, Tokens: store})
				defer run(t, here)()
				defer run(t, there)()
				for _, d := range []*Door{here, there} {
					before := store.asked.Load()
					for range 1000 {
						token, grant, person, err := d.Bearer(t.Context(), digest)
						if err != nil || token.Digest != digest || grant.ID != token.Grant || person.ID != "ann" {
							t.Fatalf("%+v, %+v, %+v, %v", token, grant, person, err)
						}
					}
					if n := store.asked.Load() - before; n != 1 {
						t.Errorf("%d questions for a thousand answers", n)
					}
				}
				end.do(store, here)
				if end.good(here.Bearer(t.Context(), digest)) {
					t.Error("still good where it ended")
				}
				pass(there.o.Poll)
				if end.good(there.Bearer(t.Context(), digest)) {
					t.Error("still good at the other door after a poll")
				}
			})
		})
	}
}

// TestBearerWithoutDatabase: what was told of a token goes on for the grace, and never
// longer; of others nobody can say anything.
func TestBearerWithoutDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		known := identity.DigestOf(store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail).Reveal())
		other := identity.DigestOf(store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail).Reveal())
		d := New(Options{Store: store, Tokens: store})
		defer run(t, d)()
		ask := func(digest identity.Digest) error {
			_, _, _, err := d.Bearer(context.WithoutCancel(t.Context()), digest)
			return err
		}
		if err := ask(known); err != nil {
			t.Fatal(err)
		}
		store.set(func() { store.away = errAway })
		pass(10 * time.Minute)
		if err := ask(known); err != nil {
			t.Errorf("known, within the grace: %v", err)
		}
		if err := ask(other); !errors.Is(err, ErrUnavailable) || errors.Is(err, identity.ErrNotFound) {
			t.Errorf("never asked about before: %v", err)
		}
		pass(6 * time.Minute)
		if err := ask(known); !errors.Is(err, ErrUnavailable) {
			t.Errorf("past the grace: %v", err)
		}
	})
}

// TestEnabledAgain: letting somebody in again takes no right away, so no generation tells
// of it. A door that has seen them shut out asks again all the same.
func TestEnabledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, _ := store.appPassword(t, "ann", nil)
		token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
		d := New(Options{Store: store, Tokens: store})
		defer run(t, d)()
		try := func(when string, want Reason) {
			t.Helper()
			_, err := d.Password(t.Context(), present("ann@example.org", password))
			_, errToken := d.Token(t.Context(), present("", token))
			if reasonOf(err) != string(want) || reasonOf(errToken) != string(want) {
				t.Errorf("%s: %q, %q", when, reasonOf(err), reasonOf(errToken))
			}
		}
		try("before", "")
		set := func(at time.Time) { p := store.people["ann"]; p.Disabled = at; store.people["ann"] = p }
		store.change(func() { set(time.Now()) })
		pass(d.o.Poll)
		try("disabled", ReasonDisabled)
		store.set(func() { set(time.Time{}) })
		try("enabled", "")
		// And in an outage who was seen shut out stays so.
		store.change(func() { set(time.Now()) })
		pass(d.o.Poll)
		try("disabled again", ReasonDisabled)
		store.set(func() { store.away = errAway })
		pass(10 * time.Second)
		try("in the outage", ReasonDisabled)
	})
}
