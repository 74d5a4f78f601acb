package authserver

import (
	"sync"
	"time"
)

// guessCount bounds wrong user codes: a code has 34.5 bits and many may be waiting at
// once. Five tries for a person or a network, then ten minutes of silence, is what
// RFC 8628 section 5.1 asks for. It counts in this process only; package throttle is
// to share the count between instances.
type guessCount struct {
	mu   sync.Mutex
	seen map[string]window
}

type window struct {
	from  time.Time
	wrong int
}

const (
	guessLimit   = 5
	guessWindow  = 10 * time.Minute
	guessEntries = 10_000
)

func newGuessCount() *guessCount { return &guessCount{seen: map[string]window{}} }

func (g *guessCount) allowed(now time.Time, keys []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range keys {
		if entry, ok := g.seen[key]; ok && now.Before(entry.from.Add(guessWindow)) && entry.wrong >= guessLimit {
			return false
		}
	}
	return true
}

func (g *guessCount) wrong(now time.Time, keys []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prune(now)
	for _, key := range keys {
		entry := g.seen[key]
		if entry.from.IsZero() || !now.Before(entry.from.Add(guessWindow)) {
			entry = window{from: now}
		}
		entry.wrong++
		g.seen[key] = entry
	}
}

// prune keeps the table bounded. When all entries are young the table is full of a
// flood; to forget then would be to help it, so nothing new is admitted by dropping
// the oldest only.
func (g *guessCount) prune(now time.Time) {
	if len(g.seen) < guessEntries {
		return
	}
	oldest, found := "", now
	for key, entry := range g.seen {
		if !now.Before(entry.from.Add(guessWindow)) {
			delete(g.seen, key)
		} else if entry.from.Before(found) {
			oldest, found = key, entry.from
		}
	}
	if len(g.seen) >= guessEntries {
		delete(g.seen, oldest)
	}
}
