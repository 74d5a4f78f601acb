//go:build long && unix

package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// Thousands of kills from outside, at any moment, on one queue that goes on living.
func TestKilledAnywhere(t *testing.T) {
	const kills = 3000
	folder := t.TempDir()
	chance := rand.New(rand.NewPCG(1, 2))
	for range kills {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(3+chance.IntN(40_000))*time.Microsecond*2, errors.New("killed"))
		if child(t, ctx, "churn", folder, 0) {
			t.Fatal("ended by itself")
		}
		cancel()
	}
	unknown := finish(t, folder)
	taken := map[string]int{}
	for _, who := range lines(t, folder, "taken") {
		taken[who]++
		if taken[who] > 1 {
			t.Errorf("%s got it twice", who)
		}
	}
	accepted, open := lines(t, folder, "accepted"), 0
	for _, name := range accepted {
		for _, to := range []string{"b@one", "c@two"} {
			if unknown[name+to] {
				open++
			} else if taken[name+to] != 1 {
				t.Errorf("%s%s is lost", name, to)
			}
		}
	}
	t.Logf("%d kills: %d accepted, %d taken, %d unknown", kills, len(accepted), len(taken), open)
	if len(accepted) < kills/10 {
		t.Error("too few messages for a test")
	}
}
