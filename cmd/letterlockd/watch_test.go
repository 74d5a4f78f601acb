package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A fakeTrail is a database of events.
type fakeTrail struct {
	generation int64
	events     []identity.Event // newest first
	err        error
	gone       error // of Person and AddressesOf
	expiring   []identity.Credential
}

func (f *fakeTrail) Expiring(_ context.Context, after, until time.Time) (some []identity.Credential, err error) {
	for _, c := range f.expiring {
		if c.Expires.After(after) && !c.Expires.After(until) {
			some = append(some, c)
		}
	}
	return some, f.err
}

func (f *fakeTrail) Generation(context.Context) (int64, error) { return f.generation, f.err }

func (f *fakeTrail) Events(_ context.Context, filter identity.EventFilter) ([]identity.Event, error) {
	from := 0
	if filter.BeforeID != "" {
		from = slices.IndexFunc(f.events, func(e identity.Event) bool { return e.ID == filter.BeforeID }) + 1
	}
	return f.events[from:min(len(f.events), from+filter.Limit)], f.err
}

func (f *fakeTrail) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	return identity.Person{ID: id, Address: string(id) + "@try.test"}, f.gone
}

func (f *fakeTrail) AddressesOf(context.Context, identity.PersonID) ([]identity.Address, error) {
	return []identity.Address{{Address: "team@try.test"}}, f.gone
}

func TestWatch(t *testing.T) {
	now := time.Now()
	store := &fakeTrail{generation: 1, events: []identity.Event{
		{ID: "2", At: now.Add(-10 * time.Minute), Kind: "credential.revoked", Person: "ann"},
		{ID: "1", At: now.Add(-2 * time.Hour), Kind: "person.disabled", Person: "old"},
	}}
	var revoked []string
	changes := 0
	w := &watch{store: store, changed: func() { changes++ }, revoke: func(names ...string) { revoked = append(revoked, names...) },
		now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	look := func() {
		t.Helper()
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	if want := []string{"ann@try.test", "team@try.test"}; !slices.Equal(revoked, want) || changes != 1 {
		t.Errorf("at the start %v was revoked, %d changes; want %v: the last hour", revoked, changes, want)
	}
	revoked = nil
	now = now.Add(time.Minute)
	look()
	if len(revoked) != 0 || changes != 1 {
		t.Errorf("nothing had changed: %v, %d changes", revoked, changes)
	}
	store.generation++
	store.events = append([]identity.Event{
		{ID: "5", At: now, Kind: "person.removed", Detail: "bob@try.test"},
		{ID: "4", At: now, Kind: "credential.made", Person: "cora"},
		{ID: "3", At: now, Kind: "address.removed", Detail: "info@try.test: x"},
	}, store.events...)
	look()
	if want := []string{"bob@try.test", "info@try.test"}; !slices.Equal(revoked, want) || changes != 2 {
		t.Errorf("%v was revoked, %d changes; want %v", revoked, changes, want)
	}
}

// What expires is felt as a revocation is: once, when its time has come, at the start for
// the last hour, and in time while the database is away.
func TestWatchExpiry(t *testing.T) {
	now := time.Now()
	begun := now
	store := &fakeTrail{generation: 1, expiring: []identity.Credential{
		{ID: "1", Person: "old", Expires: now.Add(-2 * time.Hour)},
		{ID: "2", Person: "ann", Expires: now.Add(-10 * time.Minute)},
		{ID: "3", Person: "bob", Expires: now.Add(30 * time.Second)},
	}}
	told := map[string]time.Duration{}
	w := &watch{store: store, changed: func() {}, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler),
		revoke: func(names ...string) {
			if _, twice := told[names[0]]; twice {
				t.Errorf("%s is told twice", names[0])
			}
			told[names[0]] = now.Sub(begun)
		}}
	errAway := errors.New("away")
	for range 120 {
		store.err = nil
		if second := int(now.Sub(begun).Seconds()); second < 3 || second > 28 && second < 34 {
			store.err = errAway
		}
		if err := w.look(t.Context()); !errors.Is(err, store.err) {
			t.Fatal(err)
		}
		if now = now.Add(time.Second); now.Sub(begun) == 60*time.Second {
			// Made a second ago, and short of life.
			store.expiring = append(store.expiring, identity.Credential{ID: "4", Person: "cora", Expires: now.Add(2 * time.Second)})
		}
	}
	if late := told["cora@try.test"] - 62*time.Second; len(told) != 3 || told["ann@try.test"] != 3*time.Second || told["bob@try.test"] != 30*time.Second ||
		late < 0 || late > listEvery {
		t.Errorf("told of %v", told)
	}
}

// While the database is away nothing is taken as seen.
func TestWatchOutage(t *testing.T) {
	now := time.Now()
	store := &fakeTrail{err: errors.New("away"), events: []identity.Event{{ID: "1", At: now, Kind: "grant.revoked", Person: "ann"}}}
	var revoked []string
	w := &watch{store: store, changed: func() {}, revoke: func(names ...string) { revoked = append(revoked, names...) },
		now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	if err := w.look(t.Context()); err == nil {
		t.Error("an outage went unnoticed")
	}
	store.err = nil
	if err := w.look(t.Context()); err != nil || len(revoked) == 0 {
		t.Errorf("what happened before the outage was lost: %v, %v", revoked, err)
	}
}

// Many events at once are read page by page.
func TestWatchPages(t *testing.T) {
	now := time.Now()
	store := &fakeTrail{generation: 7}
	for i := range 450 {
		store.events = append(store.events, identity.Event{ID: time.Duration(i).String(), At: now.Add(-time.Duration(i) * time.Second), Kind: "person.removed", Detail: "x@try.test"})
	}
	count := 0
	w := &watch{store: store, changed: func() {}, revoke: func(...string) { count++ }, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	if err := w.look(t.Context()); err != nil || count != 450 {
		t.Errorf("%d of 450, %v", count, err)
	}
}

// A change and its line in the trail can be two transactions, of a process that may have
// another clock: whichever is seen first, sessions end after both.
func TestWatchBetweenTwoTransactions(t *testing.T) {
	now := time.Now()
	line := identity.Event{ID: "1", At: now.Add(-45 * time.Second), Kind: "credential.revoked", Person: "ann"}
	for _, lineFirst := range []bool{false, true} {
		store := &fakeTrail{generation: 1}
		told := 0
		w := &watch{store: store, changed: func() {}, revoke: func(...string) { told++ }, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
		look := func() {
			t.Helper()
			if err := w.look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		look()
		first, second := func() { store.generation++ }, func() { store.events = []identity.Event{line} }
		if lineFirst {
			first, second = second, first
		}
		first()
		look()
		told = 0
		second()
		look()
		if told != 1 {
			t.Errorf("line first: %t: told %d times after the second of both", lineFirst, told)
		}
		look()
		if told != 1 {
			t.Errorf("line first: %t: told again though nothing is new", lineFirst)
		}
	}
}

// A person who cannot be looked up now is not one who is gone.
func TestWatchOutageInBetween(t *testing.T) {
	now := time.Now()
	store := &fakeTrail{gone: fmt.Errorf("person: %w", identity.ErrUnavailable), events: []identity.Event{{ID: "1", At: now, Kind: "grant.revoked", Person: "ann"}}}
	var revoked []string
	w := &watch{store: store, changed: func() {}, revoke: func(names ...string) { revoked = append(revoked, names...) },
		now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	if err := w.look(t.Context()); err == nil {
		t.Error("taken as told")
	}
	store.gone = nil
	if err := w.look(t.Context()); err != nil || len(revoked) != 2 {
		t.Errorf("%v was revoked, %v", revoked, err)
	}
	store.gone = identity.ErrNotFound
	store.events = append([]identity.Event{{ID: "2", At: now, Kind: "grant.revoked", Person: "gone"}}, store.events...)
	if err := w.look(t.Context()); err != nil {
		t.Errorf("somebody who is gone holds up the others: %v", err)
	}
}
