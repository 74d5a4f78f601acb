package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// A programScale counts floods at the end points for programs, each kind apart: who is
// refused a registration still gets tokens.
type programScale map[string]*throttle.Throttle

// programScale wires it; with a store all instances count together.
func (l *plan) programScale(store throttle.Store) (programScale, error) {
	scale := programScale{}
	for what, many := range map[string]int{authserver.ThrottleToken: 300, authserver.ThrottleDevice: 120, authserver.ThrottleRegister: 60} {
		o := throttle.Options{Rules: byNetwork(what, many)}
		if store != nil {
			o.Store = countsApart{what + " ", store}
		}
		t, err := l.scale("throttle of "+what+" requests", o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		scale[what] = t
	}
	return scale, nil
}

// sharedCounts is where instances count together; nil where there is only one.
func (l *plan) sharedCounts() throttle.Store {
	if !l.conf.Database.Shared() {
		return nil
	}
	return l.db
}

// Refuse implements authserver.Throttle.
func (s programScale) Refuse(ctx context.Context, what string, from netip.Addr) bool {
	t, visit := s[what], throttle.Attempt{Remote: from}
	if t.Ask(ctx, visit).Refuse {
		return true
	}
	t.Release(visit)
	return false
}

// Count implements authserver.Throttle.
func (s programScale) Count(ctx context.Context, what string, from netip.Addr) {
	s[what].Tell(ctx, throttle.Attempt{Remote: from}, false)
}

// countsApart are counters of one kind in the table of all: the names of networks in it are
// the same whatever is counted. Bans are for the mail servers' throttle, which also sweeps
// the whole table, and knows how long its own windows are.
type countsApart struct {
	kind  string
	store throttle.Store
}

// Count implements throttle.Store.
func (c countsApart) Count(ctx context.Context, key string, window time.Time, add int) (int, error) {
	return c.store.Count(ctx, c.kind+key, window, add)
}

// Counts implements throttle.Store.
func (c countsApart) Counts(ctx context.Context, keys []string, window time.Time) (map[string]int, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = c.kind + key
	}
	found, err := c.store.Counts(ctx, names, window)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(found))
	for name, n := range found {
		counts[strings.TrimPrefix(name, c.kind)] = n
	}
	return counts, nil
}

// SweepCounts implements throttle.Store.
func (countsApart) SweepCounts(context.Context, time.Time) error { return nil }

// Bans implements throttle.Store.
func (countsApart) Bans(context.Context) ([]identity.Ban, error) { return nil, nil }
