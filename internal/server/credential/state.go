package credential

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// state is what is known of the database as a whole. It is replaced, never changed.
type state struct {
	// epoch counts the generations seen here and the calls of Changed. What was read
	// in an earlier epoch may have been revoked since.
	epoch uint64
	// round counts epochs, and returns of the database besides: one that took over may
	// have come to the same generation by other changes. What was read in an earlier
	// round is asked again where there is somebody to ask.
	round      uint64
	generation int64
	read       time.Time // when the generation was last asked for with success; zero: never
	failed     bool      // the last time it was asked for, nobody answered
}

// age is how long ago the generation was known.
func (s *state) age(now time.Time) (age time.Duration, known bool) {
	if s.read.IsZero() {
		return 0, false
	}
	return max(now.Sub(s.read), 0), true
}

// current reports whether something may be used without asking. The generation tells only
// what was taken away, and not that a disabled person was let in again.
func (d *Door) current(s *state, o *owned, now time.Time) bool {
	age, known := s.age(now)
	return known && o.round == s.round && age <= 2*d.o.Poll && o.person.Disabled.IsZero()
}

// lastKnown reports whether something may be used while the database does not answer.
func (d *Door) lastKnown(s *state, o *owned, now time.Time) bool {
	age, known := s.age(now)
	return known && o.epoch == s.epoch && age <= d.o.OutageGrace
}

// Standing tells caches beside this door how far they may trust what they were told by the
// same database: the epoch changes with every change that may have taken a right away;
// away: the database did not answer when it was asked last; good: what was read in this
// epoch may be used while it is away.
func (d *Door) Standing() (epoch uint64, away, good bool) {
	s := d.state.Load()
	age, known := s.age(d.o.Now())
	return s.epoch, s.failed, known && age <= d.o.OutageGrace
}

// Changed says that rights were taken away in the database just now, by this process:
// nothing that was read before is used again without asking.
func (d *Door) Changed() { d.update(func(s *state) { s.epoch++; s.round++ }) }

// EndCredential says that an app password was revoked in the database. It stays
// revoked here even when a database that lost the revocation takes over.
func (d *Door) EndCredential(id identity.CredentialID) {
	d.ended.add(endedKey{"credential", string(id)})
	d.Changed()
}

// EndGrant is the same for a consent and all its tokens.
func (d *Door) EndGrant(id identity.GrantID) {
	d.ended.add(endedKey{"grant", string(id)})
	d.Changed()
}

func (d *Door) update(change func(*state)) {
	d.turn.Lock()
	defer d.turn.Unlock()
	next := *d.state.Load()
	change(&next)
	d.state.Store(&next)
}

// Run asks for the generation, asks again for what a new one put in doubt, and writes
// last uses, until ctx ends.
func (d *Door) Run(ctx context.Context) error {
	var again sync.WaitGroup
	defer again.Wait()
	poll, flush := time.NewTicker(d.o.Poll), time.NewTicker(d.o.Flush)
	defer poll.Stop()
	defer flush.Stop()
	d.poll(ctx)
	var done uint64
	busy := make(chan struct{}, 1)
	for {
		if round := d.state.Load().round; round != done {
			select {
			case busy <- struct{}{}:
				done = round
				again.Go(func() { d.refresh(ctx, round); <-busy })
			default: // the one before is not over: it ends soon, for its round is past
			}
		}
		select {
		case <-ctx.Done():
			// What was used is written even when everything stops.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.o.Timeout)
			defer cancel()
			d.flush(last)
			return nil
		case <-poll.C:
			d.poll(ctx)
		case <-flush.C:
			again.Go(func() { d.flush(ctx) })
		}
	}
}

// poll asks for the generation once.
func (d *Door) poll(ctx context.Context) {
	began := d.o.Now()
	// Longer than this and sign-ins have stopped relying on it.
	asking, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	generation, err := d.o.Store.Generation(asking)
	if ctx.Err() != nil {
		return
	}
	was := d.state.Load()
	d.update(func(s *state) {
		returned := s.failed
		s.failed = err != nil
		if err != nil {
			return
		}
		// Also backwards: then another database has taken over.
		changed := s.read.IsZero() || s.generation != generation
		if changed {
			s.epoch++
		}
		if changed || returned {
			s.round++
		}
		s.generation, s.read = generation, began
	})
	switch {
	case err != nil && !was.failed:
		d.o.Log.Warn("database away: sign-ins known already go on", "for", d.o.OutageGrace, "error", err)
	case err == nil && was.failed:
		d.o.Log.Info("database back", "generation", generation)
	}
}

// refreshed is how many of each kind a new generation asks for ahead of their next use.
const refreshed = 10_000

// refresh asks again for what was in use, so that an outage right after somebody's
// revocation finds the others known. Used last comes first, and not more than some
// thousands; it stops at the first fault and when its round is past.
func (d *Door) refresh(ctx context.Context, round uint64) {
	for _, selector := range d.passwords.keys(refreshed) {
		if e, ok := d.passwords.peek(selector); ok && e.round < round {
			if _, err := d.fetchCredential(ctx, selector); !d.goOn(ctx, err, round) {
				return
			}
		}
	}
	for _, digest := range d.tokens.keys(refreshed) {
		if e, ok := d.tokens.peek(digest); ok && e.round < round {
			if _, err := d.fetchToken(ctx, digest); !d.goOn(ctx, err, round) {
				return
			}
		}
	}
}

func (d *Door) goOn(ctx context.Context, err error, round uint64) bool {
	return ctx.Err() == nil && !errors.Is(err, ErrUnavailable) && d.state.Load().round == round
}

// ended remembers what was seen revoked. A revocation is final, so what is in here
// needs no generation; only the number is bounded.
type ended struct {
	mu    sync.Mutex
	names map[endedKey]struct{}
	ring  []endedKey
	next  int
}

type endedKey struct{ kind, id string }

const endedEntries = 65_536

func newEnded() *ended { return &ended{names: map[endedKey]struct{}{}} }

func (e *ended) add(name endedKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.names[name]; ok {
		return
	}
	if len(e.ring) < endedEntries {
		e.ring = append(e.ring, name)
	} else {
		delete(e.names, e.ring[e.next])
		e.ring[e.next] = name
		e.next = (e.next + 1) % endedEntries
	}
	e.names[name] = struct{}{}
}

func (e *ended) has(name endedKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.names[name]
	return ok
}

// uses collects last uses for one write.
type uses struct {
	mu      sync.Mutex
	pending map[identity.CredentialID]identity.Use
}

// record is one map entry and no more: a sign-in never waits for a write.
func (u *uses) record(use identity.Use, limit int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pending[use.Credential]; !ok && len(u.pending) >= limit {
		return // the database has been away for long: what is lost is a date on a page
	}
	u.pending[use.Credential] = use
}

// flush writes what was collected; what cannot be written stays for the next time.
func (d *Door) flush(ctx context.Context) {
	d.uses.mu.Lock()
	taken := d.uses.pending
	d.uses.pending = map[identity.CredentialID]identity.Use{}
	d.uses.mu.Unlock()
	if len(taken) == 0 {
		return
	}
	batch := make([]identity.Use, 0, len(taken))
	for _, use := range taken {
		batch = append(batch, use)
	}
	asking, cancel := context.WithTimeout(ctx, max(d.o.Timeout, d.o.Flush/2))
	defer cancel()
	if err := d.o.Store.Used(asking, batch); err != nil {
		d.o.Log.Warn("last uses are not written yet", "number", len(batch), "error", err)
		d.uses.mu.Lock()
		defer d.uses.mu.Unlock()
		for id, use := range taken {
			if _, newer := d.uses.pending[id]; !newer && len(d.uses.pending) < d.o.Entries {
				d.uses.pending[id] = use
			}
		}
	}
}
