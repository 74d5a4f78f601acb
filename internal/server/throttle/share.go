package throttle

import (
	"context"
	"encoding/base64"
	"sync"
	"time"
)

// shared is what waits to be exchanged with the store.
type shared struct {
	dirty  line                 // counted here, not told yet
	asked  map[key]uint8        // somebody was judged by it
	learn  map[pair]struct{}    // known networks, not told yet
	looked *table[pair, uint32] // networks the store does not know either: when asked
	away   bool
}

const (
	writesEach = 200   // counters told at each exchange
	readsEach  = 2_000 // and asked about
	looksEach  = 500   // counters looked at in one go, while sign-ins wait
	asksEach   = 5     // exchanges in a row after an attempt
	banEvery   = 5     // exchanges
	sweepEvery = 3_600
	// period is how long a known network is kept in the store, at least; twice that at
	// most. Its window is the end of it, so that the same sweep clears both kinds.
	period = 30 * 24 * time.Hour
	// lookAgain is when the store is asked again about a network that it did not know.
	lookAgain = 10
)

func newShared(entries int) shared {
	return shared{dirty: line{in: map[key]struct{}{}}, asked: map[key]uint8{}, learn: map[pair]struct{}{}, looked: newTable[pair](entries, byAge)}
}

func (s *shared) changed(k key, limit int) {
	if len(s.dirty.order) < limit {
		s.dirty.add(k)
	}
}

// A line is a set of keys that is taken from in the order in which they came. Looking for
// any that is left in a map would go through all the places of those that are not.
type line struct {
	in    map[key]struct{}
	order []key
}

func (l *line) add(k key) {
	if _, ok := l.in[k]; !ok {
		l.in[k] = struct{}{}
		l.order = append(l.order, k)
	}
}

func (l *line) take() (k key, ok bool) {
	if len(l.order) == 0 {
		return k, false
	}
	k = l.order[0]
	l.order = l.order[1:]
	delete(l.in, k)
	return k, true
}

func (s *shared) watch(k key) {
	if len(s.asked) < readsEach {
		s.asked[k] = asksEach
	}
}

func (s *shared) learned(account digest, p place, limit int) {
	if len(s.learn) < limit {
		s.learn[pairOf(account, p)] = struct{}{}
	}
}

// A pair is an account and a network that it is known from.
type pair [24]byte

func pairOf(account digest, p place) (both pair) {
	copy(both[:], account[:])
	copy(both[16:], p[:])
	return both
}

func (p pair) name() string { return "k" + base64.RawURLEncoding.EncodeToString(p[:]) }

func (k key) name() string { return "g" + base64.RawURLEncoding.EncodeToString(k[:]) }

// Run exchanges counts and reads lists, until ctx ends.
func (t *Throttle) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	t.loadAll(ctx)
	for _, s := range t.o.Sources {
		wg.Go(func() { t.keepLoading(ctx, s) })
	}
	if t.o.Store == nil {
		<-ctx.Done()
		return nil
	}
	t.ReloadBans(ctx)
	tick := time.NewTicker(t.o.Sync)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.o.Timeout)
			defer cancel()
			t.exchange(last)
			return nil
		case <-tick.C:
		}
		t.exchange(ctx)
		if n%banEvery == 0 {
			t.ReloadBans(ctx)
		}
		if n%sweepEvery == 0 {
			t.sweep(ctx)
		}
	}
}

// exchange tells what was counted here and asks about those who were judged.
func (t *Throttle) exchange(ctx context.Context) {
	err := t.tellKnown(ctx)
	if err == nil {
		err = t.tellCounts(ctx)
	}
	if err == nil {
		err = t.askCounts(ctx)
	}
	t.mu.Lock()
	was := t.share.away
	t.share.away = err != nil
	t.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil && !was:
		t.o.Log.Warn("counts of guesses are not shared: each instance goes on alone", "error", err)
	case err == nil && was:
		t.o.Log.Info("counts of guesses are shared again")
	}
}

// tellKnown publishes known networks.
func (t *Throttle) tellKnown(ctx context.Context) error {
	for range writesEach {
		t.mu.Lock()
		learn, ok := anyOf(t.share.learn)
		t.mu.Unlock()
		if !ok {
			return nil
		}
		if _, err := t.count(ctx, learn.name(), t.o.Now().Truncate(period).Add(2*period), 1); err != nil {
			return err
		}
		t.mu.Lock()
		delete(t.share.learn, learn)
		t.mu.Unlock()
	}
	return nil
}

func anyOf[K comparable](m map[K]struct{}) (k K, ok bool) {
	for k := range m {
		return k, true
	}
	return k, false
}

func (t *Throttle) count(ctx context.Context, name string, window time.Time, add int) (int, error) {
	asking, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	return t.o.Store.Count(asking, name, window.UTC(), add)
}

// tellCounts adds what was counted here to the shared counters. A single mistake stays
// here: a spray with one guess from each address would be a million rows.
func (t *Throttle) tellCounts(ctx context.Context) error {
	for told := 0; told < writesEach; {
		t.mu.Lock()
		k, number, unsent, more := t.nextUnsent()
		t.mu.Unlock()
		if !more {
			return nil
		}
		if unsent == 0 {
			continue
		}
		told++
		total, err := t.count(ctx, k.name(), t.o.Rules[k[0]].start(number), int(unsent))
		t.mu.Lock()
		if err != nil {
			t.share.changed(k, t.o.Entries)
			t.mu.Unlock()
			return err
		}
		if entry := t.counters.find(k); entry != nil && entry.number == number {
			entry.unsent -= min(entry.unsent, unsent)
			entry.total = max(entry.total, uint32(min(max(total, 0), 1<<31)))
		}
		t.mu.Unlock()
	}
	return nil
}

// nextUnsent takes a counter off the list of those to tell, none if all that it has looked
// at stay here; more is false at the end of the list. The lock is held.
func (t *Throttle) nextUnsent() (k key, number, unsent uint32, more bool) {
	for range looksEach {
		k, ok := t.share.dirty.take()
		if !ok {
			return k, 0, 0, false
		}
		entry := t.counters.find(k)
		if entry == nil || entry.unsent == 0 || entry.sum() < 2 && t.o.Rules[k[0]].Kind != Strangers || t.o.Rules[k[0]].Kind == Pair {
			continue
		}
		return k, entry.number, entry.unsent, true
	}
	return k, 0, 0, true
}

// askCounts learns what others have counted against those who come here.
func (t *Throttle) askCounts(ctx context.Context) error {
	now := t.o.Now()
	t.mu.Lock()
	byRule := map[byte][]key{}
	for k, left := range t.share.asked {
		byRule[k[0]] = append(byRule[k[0]], k)
		// Where guesses are, others may be about to tell of theirs.
		if entry := t.counters.find(k); left > 1 && entry != nil && entry.sum() > 1 {
			t.share.asked[k] = left - 1
		} else {
			delete(t.share.asked, k)
		}
	}
	t.mu.Unlock()
	for index, keys := range byRule {
		rule := t.o.Rules[index]
		number := rule.window(now).number
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = k.name()
		}
		asking, cancel := context.WithTimeout(ctx, t.o.Timeout)
		totals, err := t.o.Store.Counts(asking, names, rule.start(number))
		cancel()
		if err != nil {
			return err
		}
		t.mu.Lock()
		for i, k := range keys {
			total := totals[names[i]]
			if total <= 0 {
				continue
			}
			entry := t.counters.get(k)
			entry.roll(number)
			entry.total = max(entry.total, uint32(min(total, 1<<31)))
		}
		t.mu.Unlock()
	}
	return nil
}

// knownElsewhere asks the store, in the little time there is, whether somebody who is
// about to wait or to be refused has signed in from there at another instance, or before
// this one was started.
func (t *Throttle) knownElsewhere(ctx context.Context, w who, now time.Time) bool {
	if t.o.Store == nil || !w.remote.IsValid() {
		return false
	}
	both := pairOf(w.account, w.home)
	name := both.name()
	second := uint32(now.Unix())
	t.mu.Lock()
	asked := t.share.looked.find(both)
	skip := t.share.away || asked != nil && second-*asked < lookAgain
	t.mu.Unlock()
	if skip {
		return false
	}
	select {
	case t.looks <- struct{}{}:
		defer func() { <-t.looks }()
	default:
		return false // a storm: enough are being looked up
	}
	asking, cancel := context.WithTimeout(ctx, secondLook)
	defer cancel()
	end := now.Truncate(period)
	for _, window := range []time.Time{end.Add(2 * period), end.Add(period)} {
		counts, err := t.o.Store.Counts(asking, []string{name}, window.UTC())
		if err != nil {
			return false
		}
		if counts[name] > 0 {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.known.add(w.account, w.home, day(now))
			return true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	*t.share.looked.get(both) = second
	return false
}

// sweep removes counters of spans that are over.
func (t *Throttle) sweep(ctx context.Context) {
	longest := time.Duration(0)
	for _, rule := range t.o.Rules {
		longest = max(longest, rule.Span)
	}
	asking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := t.o.Store.SweepCounts(asking, t.o.Now().Add(-2*longest).UTC()); err != nil && ctx.Err() == nil {
		t.o.Log.Warn("sweep counts of guesses", "error", err)
	}
}
