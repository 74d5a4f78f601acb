package authserver

import (
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// guessCount bounds wrong user codes: a code has 34.5 bits and many may be waiting at
// once. A few tries for a person, more for a network that many may share, then
// ten minutes of silence: RFC 8628 section 5.1 leaves the numbers open. It counts in this
// process; where there is a Counter, all instances count together.
type guessCount struct {
	mu   sync.Mutex
	seen map[string]window
}

type window struct {
	from  time.Time
	wrong int
}

const (
	personLimit  = 5
	networkLimit = 20
	guessWindow  = 10 * time.Minute
	guessEntries = 10_000
)

// A guesser is one of those to whom a wrong code is counted.
type guesser struct {
	key   string
	limit int
}

func newGuessCount() *guessCount { return &guessCount{seen: map[string]window{}} }

// take counts a guess before it is tried, and is false when there are none left:
// counted afterwards, any number sent at once would all be tried. giveBack undoes it.
func (g *guessCount) take(now time.Time, by []guesser) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, who := range by {
		if entry, ok := g.seen[who.key]; ok && now.Before(entry.from.Add(guessWindow)) && entry.wrong >= who.limit {
			return false
		}
	}
	for _, who := range by {
		g.prune(now)
		entry := g.seen[who.key]
		if entry.from.IsZero() || !now.Before(entry.from.Add(guessWindow)) {
			entry = window{from: now}
		}
		entry.wrong++
		g.seen[who.key] = entry
	}
	return true
}

// giveBack is for a code that was right, or that nobody could look up.
func (g *guessCount) giveBack(by []guesser) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, who := range by {
		entry, ok := g.seen[who.key]
		if entry.wrong--; !ok || entry.wrong <= 0 {
			delete(g.seen, who.key)
			continue
		}
		g.seen[who.key] = entry
	}
}

// prune keeps the table bounded. When all entries are young there is a flood, and to
// forget them all would be to help it: only the oldest goes.
func (g *guessCount) prune(now time.Time) {
	if len(g.seen) < guessEntries {
		return
	}
	var oldest string
	var found time.Time
	for key, entry := range g.seen {
		if !now.Before(entry.from.Add(guessWindow)) {
			delete(g.seen, key)
		} else if oldest == "" || entry.from.Before(found) {
			oldest, found = key, entry.from
		}
	}
	if len(g.seen) >= guessEntries {
		delete(g.seen, oldest)
	}
}

// takeGuess counts a guess with all instances, or in this process while that cannot be.
func (s *Server) takeGuess(r *http.Request, now time.Time, by []guesser) bool {
	if s.Counter == nil {
		return s.guesses.take(now, by)
	}
	allowed := true
	for _, who := range by {
		sum, err := s.Counter.Count(r.Context(), guessKey(who), now.Truncate(guessWindow), 1)
		if err != nil {
			s.Log.Warn("count guesses", "error", err)
			return s.guesses.take(now, by)
		}
		allowed = allowed && sum <= who.limit
	}
	return allowed
}

// giveGuessBack undoes takeGuess for a code that was right. In the next window it is none
// of its business.
func (s *Server) giveGuessBack(r *http.Request, now time.Time, by []guesser) {
	if s.Counter == nil {
		s.guesses.giveBack(by)
		return
	}
	for _, who := range by {
		if _, err := s.Counter.Count(r.Context(), guessKey(who), now.Truncate(guessWindow), -1); err != nil {
			s.Log.Warn("count guesses", "error", err)
		}
	}
}

// guessKey names no person or network in the database.
func guessKey(who guesser) string {
	sum := identity.DigestOf("user code guesses of " + who.key)
	return "device guess " + hex.EncodeToString(sum[:16])
}
