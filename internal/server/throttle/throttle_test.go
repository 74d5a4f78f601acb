package throttle

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestRepeats: the same wrong secret counts once for an account, whatever way its name
// is written; other secrets and other accounts count.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		for range 500 {
			for _, name := range []string{"ann@example.org", "ANN@example.org", "ann+phone@example.org"} {
				if d := try(t, throttle, "203.0.113.1", name, 1); !free(d) {
					t.Fatalf("a forgotten telephone gets %+v", d)
				}
			}
			pass(time.Minute)
		}
		for n := range 10 {
			try(t, throttle, "203.0.113.1", fmt.Sprintf("user%d@example.org", n), 1)
		}
		if d := try(t, throttle, "203.0.113.1", "ann@example.org", 2); free(d) {
			t.Error("one secret at ten accounts is not seen as guessing")
		}
	})
}

// TestRepeatsHaveALimit: also the same secret is refused when it comes like a flood.
func TestRepeatsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		through := 0
		for range 20_000 {
			if !try(t, throttle, "203.0.113.1", "ann@example.org", 1).Refuse {
				through++
			}
		}
		if through > 5000 {
			t.Errorf("%d repeats let through", through)
		}
	})
}

// TestSuccessForgivesNothing: an attacker with an account of his own has no free tries.
func TestSuccessForgivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		through := 0
		for n := range 1000 {
			try(t, throttle, "203.0.113.1", "mallory@example.org", -1)
			if !try(t, throttle, "203.0.113.1", "ann@example.org", n).Refuse {
				through++
			}
		}
		if through > 30 {
			t.Errorf("%d guesses between good sign-ins", through)
		}
	})
}

// TestOwnMistakes: at a known network one's own mistakes wait, and are refused late.
func TestOwnMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		try(t, throttle, "192.0.2.1", "ann@example.org", -1)
		first, refused := -1, -1
		for n := range 1000 {
			d := try(t, throttle, "192.0.2.1", "ann@example.org", n)
			if first < 0 && d.Wait > 0 {
				first = n
			}
			if refused < 0 && d.Refuse {
				refused = n
			}
		}
		if first != 30 || refused != 300 {
			t.Errorf("waits from %d, refused from %d", first, refused)
		}
		if d := try(t, throttle, "192.0.2.1", "bob@example.org", 1); !free(d) {
			t.Errorf("another account there: %+v", d)
		}
	})
}

// TestManyAtOnce: what is worth much is counted while it is tried; other tries wait,
// and an office that hangs on a database is not refused.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		code := Attempt{Remote: netip.MustParseAddr("203.0.113.1"), Account: "ann@example.org", Weight: 10}
		let := 0
		for range 100 {
			if !throttle.Ask(t.Context(), code).Refuse {
				let++
			}
		}
		if let != 3 {
			t.Errorf("%d codes tried at once, want 3 of weight 10 under 30", let)
		}
		throttle.Release(code)
		if throttle.Ask(t.Context(), code).Refuse {
			t.Error("refused after one was given back")
		}
		pass(2 * pendingFor * time.Second)
		if d := throttle.Ask(t.Context(), code); !free(d) {
			t.Errorf("tries that nobody told the end of: %+v", d)
		}

		office := Attempt{Remote: netip.MustParseAddr("198.51.100.1"), Account: "ann@example.org"}
		try(t, throttle, "198.51.100.1", "bob@example.org", 1)
		for range 1000 {
			if throttle.Ask(t.Context(), office).Refuse {
				t.Fatal("refused for tries that nobody could judge")
			}
		}
	})
}

// TestLoopback: this very host is no network to close, its accounts are counted.
func TestLoopback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		for _, from := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
			for n := range 200 {
				if d := try(t, throttle, from, fmt.Sprintf("user%d@example.org", n), n); d.Refuse {
					t.Fatalf("the host itself is refused: %+v", d)
				}
			}
		}
		for n := range 100 {
			try(t, throttle, "127.0.0.1", "ann@example.org", n)
		}
		if d := try(t, throttle, "127.0.0.1", "ann@example.org", 100); !d.Refuse {
			t.Errorf("guessing through web mail: %+v", d)
		}
		throttle.Tell(t.Context(), Attempt{Account: "bob@example.org"}, true)
		if d := throttle.Ask(t.Context(), Attempt{Account: "bob@example.org"}); !free(d) {
			t.Errorf("without an address: %+v", d)
		}
	})
}

// TestNamelessTokens: a token without a name is known by itself where it was good.
func TestNamelessTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		try(t, throttle, "198.51.100.1", "", -1)
		for n := range 1000 {
			try(t, throttle, "198.51.100.1", "", n)
		}
		if d := try(t, throttle, "198.51.100.1", "", -1); !free(d) {
			t.Errorf("a good token beside guesses: %+v", d)
		}
		if d := try(t, throttle, "198.51.100.1", "", -2); !d.Refuse {
			t.Errorf("another token: %+v", d)
		}
	})
}

// TestRemember seeds known networks from what is on record.
func TestRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := New(Options{})
		throttle.Remember("Ann@example.org", netip.MustParseAddr("::ffff:192.0.2.1"), time.Now().Add(-24*time.Hour))
		throttle.Remember("ann@example.org", netip.Addr{}, time.Now())
		for n := range 5000 {
			try(t, throttle, fmt.Sprintf("203.0.%d.%d", n/256, n%256), "ann@example.org", n)
		}
		if d := try(t, throttle, "192.0.2.1", "ann@example.org", -1); !free(d) {
			t.Errorf("a remembered network: %+v", d)
		}
		if d := try(t, throttle, "192.0.2.2", "ann@example.org", -1); free(d) {
			t.Error("the address beside it")
		}
	})
}

// TestClockSetBack: a clock that goes back forgives nothing and blocks nobody for good.
func TestClockSetBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	throttle := New(Options{Now: func() time.Time { return now }})
	for n := range 100 {
		try(t, throttle, "203.0.113.1", "ann@example.org", n)
	}
	now = now.Add(-time.Hour)
	if d := try(t, throttle, "203.0.113.1", "ann@example.org", 1000); !d.Refuse {
		t.Errorf("after the clock went back: %+v", d)
	}
	now = now.Add(2 * time.Hour)
	if d := try(t, throttle, "203.0.113.1", "bob@example.org", 1); !free(d) {
		t.Errorf("an hour later: %+v", d)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// sprayed is one of any number of attempts, IPv4 and IPv6, each with an address, an
// account and a secret of its own.
func sprayed(n int) Attempt {
	a := Attempt{Account: fmt.Sprintf("user%d", n), Fingerprint: fmt.Sprintf("%032d", n)}
	if n%2 == 0 {
		a.Remote = netip.AddrFrom4([4]byte{byte(11 + n>>24), byte(n >> 16), byte(n >> 8), byte(n)})
	} else {
		a.Remote = netip.AddrFrom16([16]byte{0x2a, byte(n >> 16), byte(n >> 8), byte(n), 1, byte(n), 0, 1, 15: 1})
	}
	return a
}

// TestSprayIsBounded: memory stays, and who was counted before stays counted. The
// benchmark does the same with a million.
func TestSprayIsBounded(t *testing.T) {
	// However long the spray takes, the span does not end under it: mistakes just at a limit
	// are below it in the next one.
	now := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	throttle := New(Options{Store: newFakeStore(), Entries: 4096, Now: func() time.Time { return now }})
	before := heap()
	for n := range 200 {
		try(t, throttle, "203.0.113.1", "ann@example.org", n)
	}
	try(t, throttle, "192.0.2.1", "ann@example.org", -1)
	for n := range 40_000 {
		throttle.Ask(t.Context(), sprayed(n))
		throttle.Tell(t.Context(), sprayed(n), false)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes", grown)
	}
	s := &throttle.share
	for name, n := range map[string]int{
		"counters": throttle.counters.len(), "mistakes": throttle.mistakes.len(), "accounts": throttle.known.accounts.len(),
		"dirty": len(s.dirty.order), "dirty keys": len(s.dirty.in), "asked": len(s.asked), "learn": len(s.learn), "looked": s.looked.len(),
	} {
		if n > 4096 {
			t.Errorf("%d %s", n, name)
		}
	}
	if d := try(t, throttle, "203.0.113.1", "bob@example.org", -1); !d.Refuse || d.Reason != "address" {
		t.Errorf("the spray washed out a guesser: %+v", d)
	}
	if d := try(t, throttle, "192.0.2.1", "ann@example.org", -1); !free(d) {
		t.Errorf("the spray washed out an owner: %+v", d)
	}
	runtime.KeepAlive(throttle)
}

// TestKnownIsBounded: neither accounts nor networks of one account grow without end,
// and what is used stays.
func TestKnownIsBounded(t *testing.T) {
	k := newKnown(100)
	for n := range 1000 {
		k.add(digest{1}, place{byte(n), byte(n >> 8)}, uint16(10+n/100))
		k.add(digest{1}, place{1: 255}, uint16(10+n/100))
		k.add(digest{byte(n), byte(n >> 8), 1}, place{1}, 1)
	}
	if k.accounts.len() > 100 {
		t.Errorf("%d accounts", k.accounts.len())
	}
	if _, here := k.has(digest{1}, place{1: 255}); !here {
		t.Error("a network in daily use is forgotten")
	}
	if k.add(digest{1}, place{1: 255}, 19) || !k.add(digest{1}, place{1: 255}, 20) {
		t.Error("news is what is new today")
	}
}

// TestProperties: whatever happens, no wait is above the limit, who is known and made no
// mistakes is free, and the tables stay within bounds.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		throttle := New(Options{Now: func() time.Time { return now }, Entries: 50, MaxWait: time.Minute})
		good := Attempt{Remote: netip.MustParseAddr("192.0.2.1"), Account: "owner@example.org", Fingerprint: "right"}
		throttle.Tell(ctx(), good, true)
		for range rapid.IntRange(0, 300).Draw(t, "attempts") {
			raw := rapid.SliceOfN(rapid.ByteRange(0, 3), 4, 4).Draw(t, "address")
			a := Attempt{
				Account:     rapid.SampledFrom([]string{"", "owner@example.org", "a@example.org", "b@example.org"}).Draw(t, "account"),
				Fingerprint: fmt.Sprint(rapid.IntRange(0, 50).Draw(t, "secret")),
				Weight:      rapid.IntRange(-1, 20).Draw(t, "weight"),
			}
			a.Remote, _ = netip.AddrFromSlice(raw)
			d := throttle.Ask(ctx(), a)
			if d.Wait < 0 || d.Wait > mostWait || d.Refuse && d.Wait != 0 || (d.Refuse || d.Wait > 0) && d.Reason == "" {
				t.Fatalf("decision %+v", d)
			}
			switch rapid.IntRange(0, 4).Draw(t, "end") {
			case 0:
				throttle.Tell(ctx(), a, true)
			case 1:
				throttle.Release(a)
			case 2: // nobody tells
			default:
				throttle.Tell(ctx(), a, false)
			}
			now = now.Add(time.Duration(rapid.IntRange(-5, 60).Draw(t, "seconds")) * time.Second)
			if d := throttle.Ask(ctx(), good); !free(d) {
				t.Fatalf("the owner: %+v", d)
			}
			throttle.Tell(ctx(), good, true)
			if throttle.counters.len() > 50 || throttle.mistakes.len() > 50 || throttle.known.accounts.len() > 50 {
				t.Fatal("a table is over its limit")
			}
		}
	})
}

// TestNoNamesInCounters: what is shared names no account.
func TestNoNamesInCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		throttle := New(Options{Store: store})
		stop := run(t, throttle)
		for n := range 50 {
			try(t, throttle, "203.0.113.1", "ann@example.org", n)
		}
		try(t, throttle, "192.0.2.1", "ann@example.org", -1)
		pass(3 * time.Second)
		stop()
		if len(store.counts) < 5 {
			t.Errorf("%d counters shared", len(store.counts))
		}
		for key := range store.counts {
			if strings.Contains(key, "ann") || len(key) > 64 {
				t.Errorf("counter %q", key)
			}
		}
	})
}

// TestBans: own entries hold both ways, the narrowest wins, and they end.
func TestBans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.bans = []identity.Ban{
			{Network: netip.MustParsePrefix("203.0.113.0/24")},
			{Network: netip.MustParsePrefix("203.0.113.128/25"), Allow: true},
			{Network: netip.MustParsePrefix("2001:db8::/32"), Until: time.Now().Add(time.Hour)},
			{Network: netip.MustParsePrefix("::ffff:198.51.100.0/120")},
			{},
		}
		throttle := New(Options{Store: store})
		defer run(t, throttle)()
		if !try(t, throttle, "203.0.113.1", "ann@example.org", -1).Refuse || !try(t, throttle, "198.51.100.9", "ann@example.org", -1).Refuse ||
			!try(t, throttle, "2001:db8::1", "ann@example.org", -1).Refuse || try(t, throttle, "192.0.2.1", "ann@example.org", -1).Refuse {
			t.Error("own list is not obeyed")
		}
		for n := range 1000 {
			if d := try(t, throttle, "203.0.113.200", "ann@example.org", n); !free(d) {
				t.Fatalf("an allowed network: %+v", d)
			}
		}
		pass(time.Hour)
		if try(t, throttle, "2001:db8::1", "ann@example.org", -1).Refuse {
			t.Error("refused past its end")
		}
		store.set(func() { store.bans = []identity.Ban{{Network: netip.MustParsePrefix("192.0.2.0/24")}} })
		throttle.ReloadBans(t.Context())
		if !try(t, throttle, "192.0.2.1", "ann@example.org", -1).Refuse || try(t, throttle, "203.0.113.1", "bob@example.org", -1).Refuse {
			t.Error("the new list is not obeyed")
		}
		store.set(func() { store.away = true })
		pass(time.Minute)
		if !try(t, throttle, "192.0.2.1", "ann@example.org", -1).Refuse {
			t.Error("bans are forgotten when the database is away")
		}
	})
}

// TestFromEverywhereAtOnce is for the race detector, and for the sum at the end: with
// eight at work no mistake is counted twice or lost.
func TestFromEverywhereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(90 * time.Second) // not at the edge of a span
		store := newFakeStore()
		throttle := New(Options{Store: store, Rules: []Rule{{Name: "address", Kind: Network, V4: 32, V6: 64, Span: time.Hour, Slow: 1 << 20, Stop: 1 << 21}}})
		defer run(t, throttle)()
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for n := range 250 {
					try(t, throttle, "203.0.113.1", "ann@example.org", worker*1000+n)
					try(t, throttle, "203.0.113.1", "ann@example.org", -1-worker)
					throttle.Release(Attempt{Remote: netip.MustParseAddr("203.0.113.1")})
					throttle.SetList(&List{Name: fmt.Sprint(worker)})
					throttle.Remember("bob@example.org", netip.MustParseAddr("192.0.2.1"), time.Now())
					throttle.ReloadBans(t.Context())
				}
			})
		}
		wg.Wait()
		// The first good sign-in makes the network known, and later mistakes count there.
		pass(5 * time.Second)
		level := func() float64 {
			throttle.mu.Lock()
			defer throttle.mu.Unlock()
			rule := throttle.o.Rules[0]
			k, _ := rule.key(0, who{remote: netip.MustParseAddr("203.0.113.1")})
			level, _ := throttle.counters.level(k, rule.window(time.Now()), time.Now())
			return level
		}
		before := level()
		for n := range 100 {
			wg.Go(func() { try(t, throttle, "203.0.113.1", fmt.Sprintf("user%d@example.org", n), n) })
		}
		wg.Wait()
		if got := level() - before; got != 100 {
			t.Errorf("%v counted of 100 mistakes", got)
		}
		if len(*throttle.lists.Load()) != 8 {
			t.Errorf("%d lists of 8", len(*throttle.lists.Load()))
		}
	})
}

// Whatever spelling the door takes for an account counts for that account: each other one
// would be a budget of its own.
func TestSpellings(t *testing.T) {
	for _, name := range []string{" ann@bücher.example", "ANN@bücher.example.", "ann@BÜCHER.example", "ann@bu\u0308cher.example", "\"ann\"@xn--bcher-kva.example",
		"ann@bücher。example", "ann+phone@bücher.example"} {
		if got := plainAccount(name); got != "ann@xn--bcher-kva.example" {
			t.Errorf("%q counts for %q", name, got)
		}
	}
}
