package credential

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// run starts the door inside a bubble; it is stopped when the test ends.
func run(t *testing.T, d *Door) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return func() { cancel(); wg.Wait() }
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestRevocationReachesOthers: two doors on one store. A revocation through one is felt
// there at once and at the other within the poll, for every kind of right.
func TestRevocationReachesOthers(t *testing.T) {
	kinds := map[string]struct {
		end    func(f *fakeStore, selector string, d *Door)
		reason Reason
		token  Reason
	}{
		"app password": {func(f *fakeStore, selector string, d *Door) {
			f.change(func() { c := f.credentials[selector]; c.Revoked = time.Now(); f.credentials[selector] = c })
			d.EndCredential(identity.CredentialID("c-" + selector))
		}, ReasonRevoked, ""},
		"row deleted": {func(f *fakeStore, selector string, d *Door) {
			f.change(func() { delete(f.credentials, selector); clear(f.tokens) })
			d.Changed()
		}, ReasonUnknown, ReasonUnknown},
		"person disabled": {func(f *fakeStore, _ string, d *Door) {
			f.change(func() { p := f.people["ann"]; p.Disabled = time.Now(); f.people["ann"] = p })
			d.Changed()
		}, ReasonDisabled, ReasonDisabled},
		"person deleted": {func(f *fakeStore, selector string, d *Door) {
			f.change(func() { delete(f.people, "ann"); delete(f.credentials, selector) })
			d.Changed()
		}, ReasonUnknown, ReasonDisabled},
		"grant": {func(f *fakeStore, _ string, d *Door) {
			f.change(func() {
				for id, g := range f.grants {
					g.Revoked = time.Now()
					f.grants[id] = g
				}
			})
			d.Changed()
		}, "", ReasonRevoked},
		"token": {func(f *fakeStore, _ string, d *Door) {
			f.change(func() {
				for digest, token := range f.tokens {
					token.Revoked = time.Now()
					f.tokens[digest] = token
				}
			})
			d.Changed()
		}, "", ReasonRevoked},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.person(t, "ann", "ann@example.org")
				password, selector := store.appPassword(t, "ann", nil)
				token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
				here, there := New(Options{Store: store, Tokens: store}), New(Options{Store: store, Tokens: store})
				defer run(t, here)()
				defer run(t, there)()
				try := func(d *Door) (byPassword, byToken string) {
					_, err := d.Password(t.Context(), present("ann@example.org", password))
					_, errToken := d.Token(t.Context(), present("", token))
					return reasonOf(err), reasonOf(errToken)
				}
				for _, d := range []*Door{here, there} {
					if p, k := try(d); p != "" || k != "" {
						t.Fatalf("before: %q, %q", p, k)
					}
				}
				kind.end(store, selector, here)
				if p, k := try(here); p != string(kind.reason) || k != string(kind.token) {
					t.Errorf("where it was revoked: %q, %q", p, k)
				}
				pass(there.o.Poll)
				if p, k := try(there); p != string(kind.reason) || k != string(kind.token) {
					t.Errorf("at the other door after a poll: %q, %q", p, k)
				}
			})
		})
	}
}

// TestCacheAsksNobody: between two generations a thousand sign-ins ask nothing; a new
// generation costs one question and no hash.
func TestCacheAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, _ := store.appPassword(t, "ann", nil)
		token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
		d := New(Options{Store: store, Tokens: store})
		hashes := count(d)
		defer run(t, d)()
		many := func() {
			for range 1000 {
				if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
					t.Fatal(err)
				}
				if _, err := d.Token(t.Context(), present("ann@example.org", token)); err != nil {
					t.Fatal(err)
				}
			}
		}
		many()
		if n := store.asked.Load(); n != 2 || hashes.Load() != 1 {
			t.Errorf("%d questions, %d hashes; want 2 and 1", n, hashes.Load())
		}
		store.change(func() {})
		pass(d.o.Poll)
		if n := store.asked.Load(); n != 4 {
			t.Errorf("%d questions after a new generation; want 4, asked ahead of the sign-ins", n)
		}
		many()
		if n := store.asked.Load(); n != 4 || hashes.Load() != 1 {
			t.Errorf("%d questions, %d hashes; want 4 and 1", n, hashes.Load())
		}
		// Another database took over, with an older state: all is asked again.
		store.set(func() { store.generation = 1 })
		pass(d.o.Poll)
		if n := store.asked.Load(); n != 6 {
			t.Errorf("%d questions after the generation went back; want 6", n)
		}
		// A hash that was replaced is another password.
		store.change(func() {
			for selector, c := range store.credentials {
				c.Hash, _ = cheap().hash(strings.NewReader(strings.Repeat("s", 64)), "another")
				store.credentials[selector] = c
			}
		})
		pass(d.o.Poll)
		if _, err := d.Password(t.Context(), present("ann@example.org", password)); reasonOf(err) != string(ReasonWrong) {
			t.Errorf("with a replaced hash: %v", err)
		}
	})
}

// TestUnknownIsAskedOnce: a program with a dead password or token asks the store once
// in ten seconds.
func TestUnknownIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		dead, selector := store.appPassword(t, "ann", nil)
		delete(store.credentials, selector)
		deadToken := store.token(t, "ann", time.Now(), ScopeMail)
		clear(store.tokens)
		d := New(Options{Store: store, Tokens: store})
		for range 100 {
			if _, err := d.Password(t.Context(), present("ann@example.org", dead)); reasonOf(err) != string(ReasonUnknown) {
				t.Fatal(err)
			}
			if _, err := d.Token(t.Context(), present("", deadToken)); reasonOf(err) != string(ReasonUnknown) {
				t.Fatal(err)
			}
		}
		if n := store.asked.Load(); n != 2 {
			t.Errorf("%d questions", n)
		}
		pass(unknownFor)
		_, _ = d.Password(t.Context(), present("ann@example.org", dead))
		if n := store.asked.Load(); n != 3 {
			t.Errorf("%d questions after the time", n)
		}
	})
}

// TestOutage: the database goes away; who is known goes on for outage_grace after the
// last generation, who is not gets "later", and rights are still checked.
func TestOutage(t *testing.T) {
	for _, how := range []string{"refuses", "hangs"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.person(t, "ann", "ann@example.org")
				store.addresses["ann"] = []identity.Address{{Address: "info@example.org", Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleLogin}}}}}
				known, _ := store.appPassword(t, "ann", nil)
				short, _ := store.appPassword(t, "ann", func(c *identity.Credential) { c.Expires = time.Now().Add(5 * time.Minute) })
				stranger, _ := store.appPassword(t, "ann", nil)
				token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
				d := New(Options{Store: store, Tokens: store})
				defer run(t, d)()
				password := func(user string, p Presented) string {
					p.User = user
					_, err := d.Password(t.Context(), p)
					return reasonOf(err)
				}
				in := func(when string) {
					t.Helper()
					_, err := d.Token(t.Context(), present("ann@example.org", token))
					if a, b := password("ann@example.org", present("", known)), password("info@example.org", present("", known)); a != "" || b != "" || err != nil {
						t.Errorf("%s: %q, %q, %v", when, a, b, err)
					}
				}
				in("before")
				password("ann@example.org", present("", short))
				store.change(func() {}) // somebody is revoked just before: the others stay known
				pass(d.o.Poll)

				hang := make(chan struct{})
				defer close(hang)
				store.set(func() {
					if store.away = errAway; how == "hangs" {
						store.away, store.hang = nil, hang
					}
				})
				in("at once")
				pass(10 * time.Second)
				began := time.Now()
				in("ten seconds later")
				if waited := time.Since(began); waited != 0 {
					t.Errorf("known sign-ins waited %v for a database that is away", waited)
				}
				_, err := d.Password(t.Context(), present("ann@example.org", stranger))
				if !errors.Is(err, ErrUnavailable) || time.Since(began) > 4*time.Second {
					t.Errorf("a stranger after %v: %v", time.Since(began), err)
				}
				pass(5 * time.Minute)
				if got := password("ann@example.org", present("", short)); got != string(ReasonExpired) {
					t.Errorf("expired meanwhile: %q", got)
				}
				pass(9 * time.Minute)
				in("after fourteen minutes")
				pass(time.Minute)
				for name, ask := range map[string]func() error{
					"password": func() error { _, err := d.Password(t.Context(), present("ann@example.org", known)); return err },
					"token":    func() error { _, err := d.Token(t.Context(), present("ann@example.org", token)); return err },
				} {
					if err := ask(); !errors.Is(err, ErrUnavailable) {
						t.Errorf("%s past the grace: %v", name, err)
					}
				}
			})
		})
	}
}

// TestNothingRevokedComesBack: what this process saw revoked stays so in an outage and
// when a database without the revocation takes over.
func TestNothingRevokedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, selector := store.appPassword(t, "ann", nil)
		token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
		here, there := New(Options{Store: store, Tokens: store}), New(Options{Store: store, Tokens: store})
		defer run(t, here)()
		defer run(t, there)()
		refused := func(when string, d *Door) {
			t.Helper()
			if _, err := d.Password(t.Context(), present("ann@example.org", password)); err == nil {
				t.Errorf("%s: the app password is back", when)
			}
			if _, err := d.Token(t.Context(), present("ann@example.org", token)); err == nil {
				t.Errorf("%s: the token is back", when)
			}
		}
		for _, d := range []*Door{here, there} {
			if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Token(t.Context(), present("ann@example.org", token)); err != nil {
				t.Fatal(err)
			}
		}
		credential, grants := store.credentials[selector], store.grants
		var grant identity.GrantID
		store.change(func() {
			c := credential
			c.Revoked = time.Now()
			store.credentials[selector] = c
			store.grants = map[identity.GrantID]identity.Grant{}
			for id, g := range grants {
				grant = id
				g.Revoked = time.Now()
				store.grants[id] = g
			}
		})
		here.EndCredential(credential.ID)
		here.EndGrant(grant)
		// The database dies at once: here knows by itself, there has not polled.
		store.set(func() { store.away = errAway })
		refused("in the outage", here)
		pass(time.Minute)
		refused("later in the outage", here)
		// It is back, and there learns.
		store.set(func() { store.away = nil })
		pass(there.o.Poll)
		refused("after the poll", there)
		// A standby that never heard of the revocation takes over.
		store.set(func() { store.credentials[selector], store.grants, store.generation = credential, grants, 1 })
		pass(there.o.Poll)
		refused("after a lossy failover", here)
		refused("after a lossy failover", there)
	})
}

// TestEndedIsFinal: what this process was told of stays revoked although it never read
// the revocation back, because the database that had it is gone.
func TestEndedIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, selector := store.appPassword(t, "ann", nil)
		token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
		d := New(Options{Store: store, Tokens: store})
		defer run(t, d)()
		d.EndCredential(store.credentials[selector].ID)
		for id := range store.grants {
			d.EndGrant(id)
		}
		pass(time.Minute)
		if _, err := d.Password(t.Context(), present("ann@example.org", password)); reasonOf(err) != string(ReasonRevoked) {
			t.Errorf("app password: %v", err)
		}
		if _, err := d.Token(t.Context(), present("ann@example.org", token)); reasonOf(err) != string(ReasonRevoked) {
			t.Errorf("token: %v", err)
		}
	})
}

// TestLateFlight: who comes to hash after another has found out does not hash again.
func TestLateFlight(t *testing.T) {
	d := New(Options{Store: newFakeStore()})
	hashes := count(d)
	for name, found := range map[string]func(*proof, [32]byte){
		"right": func(p *proof, sum [32]byte) { p.right.Store(&sum) },
		"wrong": (*proof).addWrong,
	} {
		password := appPassword("k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p")
		e := &held{proof: &proof{hash: "x"}}
		found(e.proof, d.mac(password, "x"))
		f, mine := d.flights.join(password.selector())
		if err := d.fly(t.Context(), e, password, d.mac(password, "x"), f); err != nil || !mine || hashes.Load() != 0 {
			t.Errorf("%s: %d hashes, %v", name, hashes.Load(), err)
		}
	}
}

// TestSameGenerationElsewhere: a database that took over has come to the generation
// that was known, by another revocation.
func TestSameGenerationElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, selector := store.appPassword(t, "ann", nil)
		d := New(Options{Store: store})
		defer run(t, d)()
		in := func() string {
			_, err := d.Password(t.Context(), present("ann@example.org", password))
			return reasonOf(err)
		}
		in()
		store.set(func() { store.away = errAway })
		pass(20 * time.Second)
		if got := in(); got != "" {
			t.Errorf("in the outage: %q", got)
		}
		store.set(func() {
			store.away = nil
			c := store.credentials[selector]
			c.Revoked = time.Now()
			store.credentials[selector] = c
		})
		pass(d.o.Poll)
		if got := in(); got != string(ReasonRevoked) {
			t.Errorf("after it: %q", got)
		}
	})
}

// TestRevokedWhileHashing: a right that goes while its first hash waits is not given.
func TestRevokedWhileHashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, selector := store.appPassword(t, "ann", nil)
		d := New(Options{Store: store})
		release, slow := make(chan struct{}), d.matches
		d.matches = func(hash, password string) (bool, error) { <-release; return slow(hash, password) }
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { _, err = d.Password(t.Context(), present("ann@example.org", password)) })
		synctest.Wait()
		store.change(func() { c := store.credentials[selector]; c.Revoked = time.Now(); store.credentials[selector] = c })
		d.Changed()
		close(release)
		wg.Wait()
		if reasonOf(err) != string(ReasonRevoked) {
			t.Errorf("got %v", err)
		}
	})
}

// TestUses: last uses are written in batches, never in the way of a sign-in, not lost
// by a fault, and once more at the end.
func TestUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, selector := store.appPassword(t, "ann", nil)
		d := New(Options{Store: store, Flush: time.Second}) // less than a minute is a minute
		stop := run(t, d)
		sign := func() {
			t.Helper()
			if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
				t.Fatal(err)
			}
		}
		for range 500 {
			sign()
		}
		pass(59 * time.Second)
		if batches, _ := store.written(); batches != 0 {
			t.Error("written before the minute")
		}
		pass(2 * time.Second)
		if batches, used := store.written(); batches != 1 || len(used) != 1 || used[0].Credential != identity.CredentialID("c-"+selector) ||
			used[0].From.String() != "192.0.2.7" || used[0].Protocol != identity.IMAP {
			t.Errorf("%d batches: %+v", batches, used)
		}
		pass(2 * time.Minute)
		if batches, _ := store.written(); batches != 1 {
			t.Error("written without a use")
		}
		hang := make(chan struct{})
		store.set(func() { store.hang = hang })
		at := time.Now()
		sign()
		pass(5 * time.Minute)
		store.set(func() { store.hang = nil })
		close(hang)
		pass(2 * time.Minute)
		if _, used := store.written(); len(used) != 2 || !used[1].At.Equal(at) {
			t.Errorf("after the outage: %+v", used)
		}
		sign()
		stop()
		if _, used := store.written(); len(used) != 3 {
			t.Error("the last use was lost at the end")
		}
	})
}

// TestWithoutRun asks the store each time and bridges nothing.
func TestWithoutRun(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	password, _ := store.appPassword(t, "ann", nil)
	d := New(Options{Store: store})
	hashes := count(d)
	for range 3 {
		if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
			t.Fatal(err)
		}
	}
	if store.asked.Load() != 3 || hashes.Load() != 1 {
		t.Errorf("%d questions, %d hashes", store.asked.Load(), hashes.Load())
	}
	store.away = errAway
	if _, err := d.Password(t.Context(), present("ann@example.org", password)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errAway) {
		t.Error(err)
	}
}

// TestBounds: neither the cache nor the memory of revocations grows without end.
func TestBounds(t *testing.T) {
	c := newCache[int, int](3)
	for i := range 10 {
		c.put(i, i)
		c.get(7)
	}
	if len(c.byKey) != 3 || c.order.Len() != 3 {
		t.Errorf("%d kept", len(c.byKey))
	}
	if _, ok := c.get(7); !ok {
		t.Error("what is used is gone")
	}
	c.put(9, 99)
	if v, _ := c.get(9); v != 99 || c.keys(2)[0] != 9 || len(c.keys(2)) != 2 {
		t.Errorf("%d, %v", v, c.keys(2))
	}
	e := newEnded()
	for i := range endedEntries + 10 {
		e.add(endedKey{"token", string(rune(i + 0x10000))})
	}
	if len(e.names) != endedEntries || e.has(endedKey{"token", string(rune(0x10000))}) || !e.has(endedKey{"token", string(rune(0x10000 + 10))}) {
		t.Errorf("%d revocations kept", len(e.names))
	}
}
