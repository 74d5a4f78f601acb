package throttle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

var errAway = errors.New("connection refused")

// fakeStore is a database that several throttles share, that can be away or hang.
type fakeStore struct {
	mu     sync.Mutex
	away   bool
	hang   bool
	counts map[string]map[time.Time]int
	bans   []identity.Ban
	writes int
}

func newFakeStore() *fakeStore { return &fakeStore{counts: map[string]map[time.Time]int{}} }

func (f *fakeStore) enter(ctx context.Context) error {
	f.mu.Lock()
	if f.hang {
		f.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	if f.away {
		f.mu.Unlock()
		return errAway
	}
	return nil
}

func (f *fakeStore) Count(ctx context.Context, key string, window time.Time, add int) (int, error) {
	if err := f.enter(ctx); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	f.writes++
	if f.counts[key] == nil {
		f.counts[key] = map[time.Time]int{}
	}
	f.counts[key][window] += add
	return f.counts[key][window], nil
}

func (f *fakeStore) Counts(ctx context.Context, keys []string, window time.Time) (map[string]int, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	found := map[string]int{}
	for _, key := range keys {
		if n, ok := f.counts[key][window]; ok {
			found[key] = n
		}
	}
	return found, nil
}

func (f *fakeStore) SweepCounts(ctx context.Context, before time.Time) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	defer f.mu.Unlock()
	for key, windows := range f.counts {
		for window := range windows {
			if window.Before(before) {
				delete(windows, window)
			}
		}
		if len(windows) == 0 {
			delete(f.counts, key)
		}
	}
	return nil
}

func (f *fakeStore) Bans(ctx context.Context) ([]identity.Ban, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return f.bans, nil
}

func (f *fakeStore) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// run starts a throttle inside a bubble.
func run(t *testing.T, throttle *Throttle) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := throttle.Run(ctx); err != nil {
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

// try asks and, if it may, tells: n is the secret, right when negative.
func try(t testing.TB, throttle *Throttle, from, account string, n int) Decision {
	t.Helper()
	a := Attempt{Remote: netip.MustParseAddr(from), Account: account, Protocol: identity.IMAP, Fingerprint: fmt.Sprintf("fingerprint of %d", n)}
	d := throttle.Ask(t.Context(), a)
	if !d.Refuse {
		throttle.Tell(t.Context(), a, n < 0)
	}
	return d
}

func free(d Decision) bool { return !d.Refuse && d.Wait == 0 }

func ctx() context.Context { return context.Background() }
