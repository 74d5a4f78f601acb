package credential

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A queue lets a few slow hashes run at once and a bounded number wait, not for long:
// Postfix gives up after ten seconds, and memory is 19 MiB for each that runs.
type queue struct {
	slots   chan struct{}
	waiting atomic.Int64
	bound   int64
	wait    time.Duration
}

func newQueue(slots, bound int, wait time.Duration) *queue {
	return &queue{slots: make(chan struct{}, slots), bound: int64(bound), wait: wait}
}

func (q *queue) enter(ctx context.Context) error {
	select {
	case q.slots <- struct{}{}:
		return nil
	default:
	}
	if q.waiting.Add(1) > q.bound {
		q.waiting.Add(-1)
		return ErrBusy
	}
	defer q.waiting.Add(-1)
	patience := time.NewTimer(q.wait)
	defer patience.Stop()
	select {
	case q.slots <- struct{}{}:
		return nil
	case <-patience.C:
		return ErrBusy
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

func (q *queue) leave() { <-q.slots }

// flights keep it to one hash at a time for each selector: of all sign-ins that come
// with the same password after a restart one hashes and the others wait for it, and who
// floods one selector takes one place in the queue and not all.
type flights struct {
	mu   sync.Mutex
	open map[string]*flight
}

type flight struct {
	done    chan struct{}
	waiting int
}

// waitingPerSelector bounds those who wait for one selector's hash.
const waitingPerSelector = 32

// join returns the flight of a selector and whether the caller is to fly it; nil when
// too many wait already.
func (f *flights) join(selector string) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if there, ok := f.open[selector]; ok {
		if there.waiting >= waitingPerSelector {
			return nil, false
		}
		there.waiting++
		return there, false
	}
	mine := &flight{done: make(chan struct{})}
	f.open[selector] = mine
	return mine, true
}

func (f *flights) land(selector string, mine *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, selector)
	close(mine.done)
}
