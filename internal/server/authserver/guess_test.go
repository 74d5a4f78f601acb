package authserver

import (
	"strconv"
	"sync"
	"testing"
	"time"
)

// A thousand guesses sent at once are a thousand guesses: none may slip in between the
// look at the count and the counting.
func TestGuessesAtOnce(t *testing.T) {
	g, now := newGuessCount(), time.Now()
	by := []guesser{{"person p1", personLimit}, {"network n", networkLimit}}
	var wait sync.WaitGroup
	var mu sync.Mutex
	tried := 0
	start := make(chan struct{})
	for range 1000 {
		wait.Go(func() {
			<-start
			if g.take(now, by) {
				mu.Lock()
				tried++
				mu.Unlock()
			}
		})
	}
	close(start)
	wait.Wait()
	if tried != personLimit {
		t.Errorf("%d of 1000 guesses were tried, want %d", tried, personLimit)
	}
}

// A code that was right costs nothing: a person may connect more than five devices.
func TestRightCodesAreNotCounted(t *testing.T) {
	g, now := newGuessCount(), time.Now()
	by := []guesser{{"person p1", personLimit}, {"network n", networkLimit}}
	for i := range 100 {
		if !g.take(now, by) {
			t.Fatalf("right code %d was refused", i)
		}
		g.giveBack(by)
	}
	if len(g.seen) != 0 {
		t.Errorf("%d entries kept", len(g.seen))
	}
}

func TestGuessCountIsBounded(t *testing.T) {
	g, now := newGuessCount(), time.Now()
	for i := range guessEntries + 50 {
		// All in one instant: then none is older than another.
		g.take(now, []guesser{{"network " + strconv.Itoa(i), networkLimit}})
	}
	if len(g.seen) > guessEntries {
		t.Errorf("%d entries, want at most %d", len(g.seen), guessEntries)
	}
}
