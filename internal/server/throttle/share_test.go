package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func pairOfThrottles(store *fakeStore) (here, there *Throttle) {
	key := []byte("shared by instances")
	return New(Options{Store: store, Key: key}), New(Options{Store: store, Key: key})
}

// TestSharedCounts: what guesses at one instance counts at the other within the poll.
func TestSharedCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		here, there := pairOfThrottles(store)
		defer run(t, here)()
		defer run(t, there)()
		for n := range 30 {
			try(t, here, "203.0.113.1", fmt.Sprintf("user%d@example.org", n), n)
		}
		pass(here.o.Sync + time.Millisecond)
		// The first attempt there makes it ask.
		if d := try(t, there, "203.0.113.1", "ann@example.org", 1000); d.Refuse {
			t.Errorf("the first attempt: %+v", d)
		}
		pass(there.o.Sync + time.Millisecond)
		if d := try(t, there, "203.0.113.1", "ann@example.org", 1001); !d.Refuse {
			t.Errorf("after the poll: %+v", d)
		}
		// Both count on: half of the limit at each is the limit.
		for n := range 15 {
			try(t, here, "198.51.100.1", "bob@example.org", n)
			try(t, there, "198.51.100.1", "bob@example.org", 100+n)
		}
		pass(3 * time.Second)
		for _, throttle := range []*Throttle{here, there} {
			if d := try(t, throttle, "198.51.100.1", "carl@example.org", 1); !d.Refuse {
				t.Errorf("half of the guesses each: %+v", d)
			}
		}
	})
}

// TestKnownElsewhere: who signed in at one instance is known at the other, and at the
// next process, when it matters.
func TestKnownElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		start := time.Now()
		here, there := pairOfThrottles(store)
		stop := run(t, here)
		stopThere := run(t, there)
		try(t, here, "192.0.2.1", "ann@example.org", -1)
		pass(2 * time.Second)
		for n := range 5000 {
			try(t, there, fmt.Sprintf("203.0.%d.%d", n/256, n%256), "ann@example.org", n)
		}
		if d := try(t, there, "192.0.2.1", "ann@example.org", -1); !free(d) {
			t.Errorf("the owner at the other instance: %+v", d)
		}
		if d := try(t, there, "192.0.2.2", "ann@example.org", -1); !d.Refuse {
			t.Errorf("a neighbour: %+v", d)
		}
		stop()
		stopThere()
		// After a restart: known for thirty days at least, and not for ever.
		for _, days := range []int{29, 75} {
			want := days == 29
			<-time.After(time.Until(start.AddDate(0, 0, days)))
			next, _ := pairOfThrottles(store)
			next.sweep(t.Context())
			for n := range 5000 {
				try(t, next, fmt.Sprintf("203.0.%d.%d", n/256, n%256), "ann@example.org", n)
			}
			d := next.Ask(t.Context(), Attempt{Remote: netip.MustParseAddr("192.0.2.1"), Account: "ann@example.org"})
			if free(d) != want {
				t.Errorf("after %d days: %+v", days, d)
			}
		}
		store.set(func() {
			for key := range store.counts {
				if key[0] == 'g' {
					for window := range store.counts[key] {
						if time.Since(window) > 49*time.Hour {
							t.Errorf("counter %s of %v is not swept", key, window)
						}
					}
				}
			}
		})
	})
}

// TestStoreAway: when the database refuses or hangs, sign-ins do not wait for it, each
// instance counts on, and what was counted meanwhile is told afterwards.
func TestStoreAway(t *testing.T) {
	for _, how := range []string{"refuses", "hangs"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				here, there := pairOfThrottles(store)
				defer run(t, here)()
				defer run(t, there)()
				store.set(func() { store.away, store.hang = how == "refuses", how == "hangs" })
				try(t, here, "192.0.2.1", "owner@example.org", -1)
				pass(10 * time.Second)
				began := time.Now()
				through := 0
				for n := range 1000 {
					if !try(t, here, "203.0.113.1", "ann@example.org", n).Refuse {
						through++
					}
				}
				if through > 30 {
					t.Errorf("%d let through without the database", through)
				}
				if waited := time.Since(began); waited != 0 {
					t.Errorf("attempts waited %v for a database that is away", waited)
				}
				pass(10 * time.Second)
				store.set(func() { store.away, store.hang = false, false })
				pass(10 * time.Second)
				try(t, there, "203.0.113.1", "bob@example.org", 1)
				pass(2 * time.Second)
				if d := try(t, there, "203.0.113.1", "carl@example.org", 2); !d.Refuse {
					t.Errorf("what was counted in the outage is not shared: %+v", d)
				}
			})
		})
	}
}

// TestHangsBeforeItIsNoticed: an attempt that would be refused waits for the database
// a moment at most.
func TestHangsBeforeItIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		throttle, _ := pairOfThrottles(store)
		for n := range 100 {
			try(t, throttle, "203.0.113.1", "ann@example.org", n)
		}
		store.set(func() { store.hang = true })
		began := time.Now()
		if d := try(t, throttle, "203.0.113.1", "bob@example.org", 1000); !d.Refuse || time.Since(began) > secondLook {
			t.Errorf("%+v after %v", d, time.Since(began))
		}
	})
}

// TestSprayWritesLittle: one guess from each of many addresses is not as many rows.
func TestSprayWritesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		throttle, _ := pairOfThrottles(store)
		defer run(t, throttle)()
		for n := range 20_000 {
			throttle.Ask(t.Context(), sprayed(n))
			throttle.Tell(t.Context(), sprayed(n), false)
		}
		pass(10*time.Second + time.Millisecond)
		store.set(func() {
			if store.writes > 11*writesEach || store.writes == 0 {
				t.Errorf("%d writes in ten seconds", store.writes)
			}
		})
	})
}
