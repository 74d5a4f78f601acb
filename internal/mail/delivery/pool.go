package delivery

import (
	"context"
	"sync"
	"time"
)

// A pool keeps signed-in connections for the next message and bounds how many there
// are to one destination.
type pool struct {
	limit int
	idle  time.Duration

	mu     sync.Mutex
	closed bool
	places map[string]*place
}

// A place is one destination. A connection is made only when none is idle and a slot
// is free, so busy and idle ones together never exceed the slots.
type place struct {
	slots   chan struct{}
	waiting []*parked
	users   int // those who hold or wait for a slot
}

// A parked session closes itself when it is not fetched in time.
type parked struct {
	session *session
	timer   *time.Timer
}

func newPool(limit int, idle time.Duration) *pool {
	return &pool{limit: limit, idle: idle, places: map[string]*place{}}
}

// enter waits for a slot at a destination, and returns an idle session if there is one.
func (p *pool) enter(ctx context.Context, key string) (*session, error) {
	p.mu.Lock()
	at := p.places[key]
	if at == nil {
		at = &place{slots: make(chan struct{}, p.limit)}
		p.places[key] = at
	}
	at.users++
	p.mu.Unlock()
	select {
	case at.slots <- struct{}{}:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		at.users--
		p.tidy(key, at)
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(at.waiting) > 0 {
		last := at.waiting[len(at.waiting)-1]
		at.waiting = at.waiting[:len(at.waiting)-1]
		if last.timer.Stop() {
			return last.session, nil
		}
	}
	return nil, nil
}

// leave gives the slot back, and the session for the next one when it is not nil.
func (p *pool) leave(key string, s *session) {
	p.mu.Lock()
	at := p.places[key]
	at.users--
	if s != nil && !p.closed {
		one := &parked{session: s}
		one.timer = time.AfterFunc(p.idle, func() { p.expire(key, one) })
		at.waiting = append(at.waiting, one)
		s = nil
	}
	<-at.slots
	p.tidy(key, at)
	p.mu.Unlock()
	if s != nil {
		s.quit()
	}
}

// expire closes a session that nobody fetched.
func (p *pool) expire(key string, one *parked) {
	p.mu.Lock()
	if at := p.places[key]; at != nil {
		for i, other := range at.waiting {
			if other == one {
				at.waiting = append(at.waiting[:i:i], at.waiting[i+1:]...)
				break
			}
		}
		p.tidy(key, at)
	}
	p.mu.Unlock()
	one.session.quit()
}

// tidy forgets a destination that nobody uses: direct delivery sees many.
func (p *pool) tidy(key string, at *place) {
	if at.users == 0 && len(at.waiting) == 0 && p.places[key] == at {
		delete(p.places, key)
	}
}

// close ends the idle sessions, and lets no new ones wait.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var left []*session
	for key, at := range p.places {
		for _, one := range at.waiting {
			if one.timer.Stop() {
				left = append(left, one.session)
			}
		}
		at.waiting = nil
		p.tidy(key, at)
	}
	p.mu.Unlock()
	for _, s := range left {
		s.quit()
	}
}
