// Package throttle answers guessing: it counts wrong secrets by network, by account and
// over all, and tells callers to go on, to wait a little, or to refuse. One state serves
// mail, portal, token and device endpoints. It checks no secret itself and never sees
// one: callers give a fingerprint.
//
// What it holds to, because throttles elsewhere hurt those they protect:
//
//   - Somebody who signs in from a network from which they signed in before is measured
//     by their own mistakes there, and by nothing that happens elsewhere.
//   - The same wrong secret counts once, however often a forgotten telephone sends it.
//   - A success forgives nothing: else an attacker with one good account has free tries.
//   - An address alone is little in IPv6, and little for who rents a network: wider
//     networks have counters of their own.
//   - No wait is longer than four seconds: Postfix gives up after ten.
//   - Memory is bounded, and a spray cannot wash out those who were counted most.
//
// Several instances share counts and known networks through counters in the database,
// in the background: a sign-in waits for it only when it would be refused otherwise, and
// then a moment. When the database is away, each goes on with what it has counted.
//
// golang.org/x/time/rate has buckets for one key each, without a bound on the keys;
// the limiters looked at (ulule/limiter, throttled, sethvargo/go-limiter) count
// requests, not distinct mistakes, and know no networks.
package throttle

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An Attempt is one try to get in.
type Attempt struct {
	Remote   netip.Addr // zero: not known
	Account  string     // the name as given; empty with a token that names nobody
	Protocol identity.Protocol
	// Fingerprint stands for the secret: equal for equal ones and no way back to it, a
	// keyed digest or a few bits of one. Empty: repeats are not seen.
	Fingerprint string
	// Weight is how much a wrong one counts, 1 if zero. A code of six digits is worth
	// more than an app password.
	Weight int
}

// A Decision is what to do with an attempt.
type Decision struct {
	Refuse bool
	Wait   time.Duration // before going on; never above Options.MaxWait
	Reason string        // which limit or list; for logs
}

// Store is what instances share. Windows are starts of fixed spans of time; counts of
// spans that are over are swept.
type Store interface {
	Count(ctx context.Context, key string, window time.Time, add int) (int, error)
	Counts(ctx context.Context, keys []string, window time.Time) (map[string]int, error)
	SweepCounts(ctx context.Context, before time.Time) error
	Bans(ctx context.Context) ([]identity.Ban, error)
}

// Options are filled before New; zero values get the default in brackets.
type Options struct {
	Store Store // nil: this process counts alone
	// Key makes names in counters unreadable. Instances that share a store share it.
	// Empty: a random one, of this process.
	Key []byte
	Log *slog.Logger
	Now func() time.Time

	Rules   []Rule        // (DefaultRules)
	MaxWait time.Duration // (4 s, and never more)
	Sync    time.Duration // how often counts are exchanged (1 s)
	Timeout time.Duration // of one question to the store (2 s)
	Entries int           // counters, remembered mistakes and accounts kept, each (65,536)

	Sources []Source     // lists from files and addresses
	HTTP    *http.Client // for lists; nil: one of our own
}

const (
	mostWait   = 4 * time.Second
	maxWeight  = 1000
	repeatFor  = 24 * time.Hour
	secondLook = 300 * time.Millisecond // for the store, before somebody is refused
)

func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Key) == 0 {
		o.Key = make([]byte, 32)
		// Read ends the process where the system has no randomness, and returns no error.
		_, _ = rand.Read(o.Key)
	}
	if len(o.Rules) == 0 {
		o.Rules = DefaultRules()
	}
	if o.MaxWait <= 0 || o.MaxWait > mostWait {
		o.MaxWait = mostWait
	}
	if o.Sync <= 0 {
		o.Sync = time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Entries <= 0 {
		o.Entries = 65_536
	}
	if o.HTTP == nil {
		o.HTTP = listClient()
	}
}

// A Throttle holds the counts. Its methods may be called from everywhere at once.
// Without Run it counts alone and reads no list.
type Throttle struct {
	o     Options
	lists atomic.Pointer[[]*List]
	bans  atomic.Pointer[bans]

	states states // of the lists' sources

	mu       sync.Mutex
	counters counters
	mistakes *table[digest, uint32] // minute of each wrong secret, see repeated
	known    *known
	share    shared
	looks    chan struct{} // second looks at once
}

// digest is a keyed digest of a name, so that a copy of the counters names nobody.
type digest [16]byte

// New makes a Throttle.
func New(o Options) *Throttle {
	o.fill()
	// One length, whatever was given.
	key := sha256.Sum256(o.Key)
	o.Key = key[:]
	t := &Throttle{
		o: o, counters: newCounters(o.Entries), mistakes: newTable[digest](o.Entries, byAge), known: newKnown(o.Entries),
		share: newShared(o.Entries), looks: make(chan struct{}, 4),
	}
	t.lists.Store(&[]*List{})
	t.bans.Store(&bans{})
	return t
}

// who is an attempt in the form that is counted.
type who struct {
	remote   netip.Addr
	exempt   bool // this very host: counted by account only
	account  digest
	named    bool
	familiar bool // somebody has signed in under this name
	known    bool // … and from this network
	home     place
	weight   int
}

// Ask comes before a secret is checked. What it cannot know it lets pass: the secret is
// still to be checked.
func (t *Throttle) Ask(ctx context.Context, a Attempt) Decision {
	now := t.o.Now()
	remote := normal(a.Remote)
	if refuse, allow, reason := t.listed(remote, now); refuse || allow {
		return Decision{Refuse: refuse, Reason: reason}
	}
	w := t.who(a, remote)
	d := t.decide(&w, now)
	if (d.Refuse || d.Wait > 0) && !w.known && w.named && t.knownElsewhere(ctx, w, now) {
		d = t.decide(&w, now)
	}
	return d
}

// Tell is how the attempt ended. What could not be judged is not told; a secret that
// was right and not allowed here is no guess, and is told as nothing as well.
func (t *Throttle) Tell(_ context.Context, a Attempt, success bool) {
	now := t.o.Now()
	remote := normal(a.Remote)
	if _, allow, _ := t.listed(remote, now); allow {
		return
	}
	w := t.who(a, remote)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(&w)
	t.giveBack(w, now)
	if success {
		t.remember(w, now)
		return
	}
	repeat := t.repeated(w, a.Fingerprint, now)
	for i, rule := range t.o.Rules {
		if rule.Kind != Repeats && repeat || !rule.judges(w) {
			continue
		}
		if k, ok := rule.key(i, w); ok {
			t.counters.add(k, rule.window(now), w.weight)
			t.share.changed(k, t.o.Entries)
		}
	}
}

// Release gives back what Ask set aside for an attempt that could not be judged. Left
// out, it comes back by itself after some seconds.
func (t *Throttle) Release(a Attempt) {
	now, remote := t.o.Now(), normal(a.Remote)
	if _, allow, _ := t.listed(remote, now); allow {
		return // Ask set nothing aside, and what others did stays
	}
	w := t.who(a, remote)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(&w)
	t.giveBack(w, now)
}

// Remember makes a network known for an account, from what is on record elsewhere: the
// last use of an app password, a good sign-in of the audit trail.
func (t *Throttle) Remember(account string, from netip.Addr, at time.Time) {
	w := t.who(Attempt{Account: account}, normal(from))
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.named && w.remote.IsValid() {
		t.known.add(w.account, w.home, day(at))
	}
}

// normal is an address without the two ways to write it otherwise.
func normal(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (t *Throttle) who(a Attempt, remote netip.Addr) who {
	w := who{remote: remote, exempt: !remote.IsValid() || remote.IsLoopback(), home: t.place(remote), weight: min(max(a.Weight, 1), maxWeight)}
	switch {
	case a.Account != "":
		w.account, w.named = t.digest("account", plainAccount(a.Account)), true
	case len(a.Fingerprint) >= 16:
		// A token without a name is known by itself.
		w.account, w.named = t.digest("secret", a.Fingerprint), true
	}
	return w
}

// plainAccount is the account behind the spellings of one: all those that the door takes
// for it, and with a label behind the plus sign.
func plainAccount(name string) string {
	if len(name) > 512 {
		name = name[:512]
	}
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
	if canonical, err := identity.CanonicalAddress(name); err == nil {
		name = canonical
	}
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		at = len(name)
	}
	if plus := strings.IndexByte(name[:at], '+'); plus > 0 {
		return name[:plus] + name[at:]
	}
	return name
}

// digest hashes behind the key. What comes out is cut in half, which leaves nothing to
// extend: one hash does what HMAC needs two for, and this is the way of every attempt.
func (t *Throttle) digest(kind, text string) (d digest) {
	var room [192]byte
	in := append(room[:0], t.o.Key...)
	in = append(in, kind...)
	in = append(in, 0)
	in = append(in, text...)
	sum := sha256.Sum256(in)
	copy(d[:], sum[:])
	return d
}

// look finds what is known of an attempt. The lock is held.
func (t *Throttle) look(w *who) {
	if w.named {
		w.familiar, w.known = t.known.has(w.account, w.home)
		w.known = w.known && w.remote.IsValid()
	}
}

// decide goes through the rules, and sets a place aside in each if the attempt may go
// on: counted only afterwards, any number sent at once would all be tried. What is set
// aside makes others wait; it refuses only where each try is worth much, since it may as
// well be an office whose sign-ins hang on a database.
func (t *Throttle) decide(w *who, now time.Time) Decision {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(w)
	var d Decision
	for i, rule := range t.o.Rules {
		k, ok := rule.key(i, *w)
		if !ok || !rule.judges(*w) {
			continue
		}
		if t.o.Store != nil && !w.known {
			t.share.watch(k)
		}
		level, pending := t.counters.level(k, rule.window(now), now)
		if w.weight > 1 {
			level, pending = level+pending, 0
		}
		if level >= float64(rule.Stop) {
			return Decision{Refuse: true, Reason: rule.Name}
		}
		if level > 0 {
			level += pending
		}
		if over := level - float64(rule.Slow); over >= 0 {
			wait := time.Duration(float64(t.o.MaxWait) * (over + 1) / float64(max(rule.Stop-rule.Slow, 1)))
			if wait = min(wait, t.o.MaxWait); wait > d.Wait {
				d = Decision{Wait: wait, Reason: rule.Name}
			}
		}
	}
	for i, rule := range t.o.Rules {
		if k, ok := rule.key(i, *w); ok && rule.judges(*w) {
			t.counters.reserve(k, w.weight, now)
		}
	}
	return d
}

func (t *Throttle) giveBack(w who, now time.Time) {
	for i, rule := range t.o.Rules {
		if k, ok := rule.key(i, w); ok && rule.judges(w) {
			t.counters.giveBack(k, w.weight, now)
		}
	}
}

// remember makes the network known for the account. The lock is held.
func (t *Throttle) remember(w who, now time.Time) {
	if !w.named || !w.remote.IsValid() {
		return
	}
	if t.known.add(w.account, w.home, day(now)) {
		t.share.learned(w.account, w.home, t.o.Entries)
	}
}

// repeated reports whether this very secret was wrong for this account before. The
// lock is held.
func (t *Throttle) repeated(w who, fingerprint string, now time.Time) bool {
	if fingerprint == "" {
		return false
	}
	d := t.digest("mistake", string(w.account[:])+fingerprint)
	minute := uint32(now.Unix() / 60)
	at := t.mistakes.find(d)
	seen := at != nil && minute-*at < uint32(repeatFor/time.Minute)
	*t.mistakes.get(d) = minute
	return seen
}
