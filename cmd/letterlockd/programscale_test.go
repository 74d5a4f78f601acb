package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// countTable is the table of counters that instances share.
type countTable struct {
	mu    sync.Mutex
	n     map[string]int
	swept bool
}

func (c *countTable) Count(_ context.Context, key string, window time.Time, add int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[key+window.String()] += add
	return c.n[key+window.String()], nil
}

func (c *countTable) Counts(_ context.Context, keys []string, window time.Time) (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]int{}
	for _, key := range keys {
		if n := c.n[key+window.String()]; n > 0 {
			found[key] = n
		}
	}
	return found, nil
}

func (c *countTable) SweepCounts(context.Context, time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept = true
	return nil
}

func (c *countTable) Bans(context.Context) ([]identity.Ban, error) {
	return []identity.Ban{{Network: netip.MustParsePrefix("203.0.113.0/24")}}, nil
}

// TestProgramScaleOfTwoInstances: a flood at one instance is one at the other within seconds,
// each kind apart, and the counters of the mail servers' throttle stay as they are.
func TestProgramScaleOfTwoInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &countTable{n: map[string]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		instance := func() programScale {
			l := &plan{conf: &config.Daemon{}, log: slog.New(slog.DiscardHandler), now: time.Now}
			scale, err := l.programScale(table)
			if err != nil {
				t.Fatal(err)
			}
			for _, service := range l.services {
				running.Go(func() { _ = service.Run(ctx) })
			}
			return scale
		}
		one, two := instance(), instance()
		flood, other := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("198.51.100.5")
		for range 60 {
			one.Count(ctx, authserver.ThrottleRegister, flood)
		}
		if two.Refuse(ctx, authserver.ThrottleRegister, flood) {
			t.Error("refused before anybody could know")
		}
		refused := false
		for range 10 {
			<-time.After(time.Second)
			refused = refused || two.Refuse(ctx, authserver.ThrottleRegister, flood)
		}
		if !refused {
			t.Error("the other instance lets the flood through")
		}
		if two.Refuse(ctx, authserver.ThrottleToken, flood) || two.Refuse(ctx, authserver.ThrottleRegister, other) {
			t.Error("another kind, or another network, is refused")
		}
		// Hours later: what this throttle does not need any more may be another's.
		<-time.After(3 * time.Hour)
		cancel()
		running.Wait()
		if table.swept {
			t.Error("the counters of others were swept")
		}
		for key := range table.n {
			if !strings.HasPrefix(key, authserver.ThrottleRegister+" ") {
				t.Errorf("a counter named %q", key)
			}
		}
	})
}
