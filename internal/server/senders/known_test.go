package senders

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A standing is what a door would say.
type standing struct {
	mu         sync.Mutex
	epoch      uint64
	away, good bool
}

func (s *standing) Standing() (uint64, bool, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, s.away, s.good
}

func (s *standing) set(epoch uint64, away, good bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.away, s.good = epoch, away, good
}

// While the store is away, what it said last counts: for who was known, in this epoch, and
// while that is good. Nobody else is let in or refused by it.
func TestKnownGoesOn(t *testing.T) {
	s, now := settle(), &standing{epoch: 1, good: true}
	known := NewKnown(KnownOptions{Store: s, Standing: now, Log: quietLog()})
	b := NewBook(known, "+", clock)
	set := func(away bool) {
		s.mu.Lock()
		s.away = away
		s.mu.Unlock()
	}
	logins := func() string {
		got, err := b.Logins(t.Context(), "bob@example.org")
		if err != nil {
			return "later"
		}
		return fmt.Sprint(got)
	}
	maySend := func(login, sender string) string {
		who, err := b.Login(t.Context(), login)
		if err == nil {
			var ok bool
			if ok, err = b.MaySend(t.Context(), who, sender); err == nil {
				return fmt.Sprint(ok)
			}
		}
		if errors.Is(err, errUnknown) {
			return "unknown"
		}
		return "later"
	}
	check := func(when string, wants ...string) {
		t.Helper()
		got := []string{logins(), maySend("ann@example.org", "x@ann.example"), maySend("ann@example.org", "bob@example.org"), maySend("gone@example.org", "gone@example.org"), maySend("plus@example.org", "plus@example.org")}
		if !slices.Equal(got, wants) {
			t.Errorf("%s: %q, want %q", when, got, wants)
		}
	}
	usual := []string{"[bob@example.org]", "true", "false", "unknown", "unknown"}
	check("at first", usual...)
	set(true)
	check("gone a moment ago", usual...)
	now.set(1, true, true)
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	check("known to be away", usual...)
	s.mu.Lock()
	if s.asked != asked {
		t.Errorf("%d questions went to a store that is away", s.asked-asked)
	}
	s.mu.Unlock()
	if _, err := b.Logins(t.Context(), "info@example.org"); !errors.Is(err, errAway) {
		t.Errorf("what was never asked: %v", err)
	}
	later := []string{"later", "later", "later", "later", "later"}
	now.set(1, true, false)
	check("past the grace", later...)
	now.set(2, true, true)
	check("something was revoked since", later...)
	set(false)
	now.set(2, false, true)
	check("back", usual...)
	// What has changed is seen at once: nothing is answered from memory while the store is there.
	s.mu.Lock()
	bob := s.people["bob"]
	bob.Disabled = clock()
	s.people["bob"] = bob
	s.mu.Unlock()
	if got := logins(); got != "[]" {
		t.Errorf("bob was disabled, and %s may send as him", got)
	}
	set(true)
	if got := logins(); got != "[]" {
		t.Errorf("bob was disabled, and in an outage %s may send as him", got)
	}
}

// When the epoch changes what was in use is asked for again, ahead of an outage.
func TestKnownAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, now := settle(), &standing{epoch: 1, good: true}
		known := NewKnown(KnownOptions{Store: s, Standing: now, Log: quietLog()})
		b := NewBook(known, "+", clock)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- known.Run(ctx) }()
		who, err := b.Login(ctx, "ann@example.org")
		if err != nil {
			t.Fatal(err)
		}
		if ended, err := b.Ended(ctx, who, clock()); ended || err != nil {
			t.Fatal(ended, err)
		}
		now.set(2, false, true)
		<-time.After(2 * time.Second) // of the bubble's clock
		synctest.Wait()
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		now.set(2, true, true)
		if who, err = b.Login(ctx, "ann@example.org"); err != nil || who.Person.ID != "ann" {
			t.Errorf("in the outage: %v, %v", who, err)
		}
		if ended, err := b.Ended(ctx, who, clock()); ended || err != nil {
			t.Errorf("in the outage: %t, %v", ended, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Guessing at addresses pushes out what nobody has, and no people; all of it is bounded.
func TestKnownIsBounded(t *testing.T) {
	s, now := settle(), &standing{epoch: 1, good: true}
	known := NewKnown(KnownOptions{Store: s, Standing: now, Log: quietLog(), Entries: 8})
	if _, err := known.Person(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if _, err := known.Address(t.Context(), fmt.Sprintf("guess%d@example.org", n)); !errors.Is(err, identity.ErrNotFound) {
			t.Fatal(err)
		}
	}
	s.away = true
	if p, err := known.Person(t.Context(), "ann"); err != nil || p.ID != "ann" {
		t.Errorf("ann was pushed out: %v", err)
	}
	if len(known.none.by) != 8 || known.none.order.Len() != 8 || len(known.there.by) != 1 {
		t.Errorf("%d and %d are kept", len(known.none.by), len(known.there.by))
	}
	if _, err := known.Address(t.Context(), "guess99@example.org"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("the last guess: %v", err)
	}
	if _, err := known.Address(t.Context(), "guess1@example.org"); !errors.Is(err, errAway) {
		t.Errorf("an old guess: %v", err)
	}
}
