package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// DrainOptions bound and direct a drain.
type DrainOptions struct {
	Once           bool // return when nothing is due, instead of waiting for more
	Parallel       int  // attempts at a time; 0 means 20
	PerDestination int  // of them to one destination; 0 means 5
	// Destination says what PerDestination counts, and which recipients of one
	// message travel in one Carry; nil means the account.
	Destination func(Envelope, Recipient) string
	OnUnknown   Policy
	Schedule    Schedule     // zero fields mean DefaultSchedule's
	Bouncer     Bouncer      // nil: failures are only logged
	Reporter    Reporter     // who signs reports
	Log         *slog.Logger // nil discards
	Notice      func(Event)  // nil; called from several goroutines
}

func (o DrainOptions) filled() DrainOptions {
	if o.Parallel == 0 {
		o.Parallel = 20
	}
	if o.PerDestination == 0 {
		o.PerDestination = 5
	}
	if o.Destination == nil {
		o.Destination = func(e Envelope, _ Recipient) string { return e.Account }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Schedule = o.Schedule.filled()
	return o
}

// An Event is what happened to some recipients of an entry, for progress on a
// terminal and for notifications.
type Event struct {
	ID       ID
	Account  string
	Outcomes []Outcome // what the attempt brought; Refused also for given up
	State    State     // of the entry now
}

// A Summary counts what a drain did with recipients.
type Summary struct {
	Delivered, Deferred, Bounced, Held, Unknown int
	Next                                        time.Time // when the queue is due again; zero when empty or all waits for somebody
}

func (s *Summary) add(more Summary) {
	s.Delivered += more.Delivered
	s.Deferred += more.Deferred
	s.Bounced += more.Bounced
	s.Held += more.Held
	s.Unknown += more.Unknown
}

// Drain hands what is due to the carrier: until nothing is (Once), or until ctx ends.
// One process drains at a time: with Once a second one gets ErrBusy at once, without
// it waits. An entry put while a drainer lets go is seen by it or by the next.
//
// The recipients of one message that go to different destinations are tried one
// destination after the other.
func (q *Queue) Drain(ctx context.Context, carrier Carrier, options DrainOptions) (Summary, error) {
	d := &drain{q: q, carrier: carrier, options: options.filled(), known: map[ID]*item{}, lanes: map[string]*lane{}}
	d.log = d.options.Log
	for round := 0; ; round++ {
		err := d.locked(ctx)
		if round > 0 && errors.Is(err, ErrBusy) {
			return d.sum, nil // the next one has it, and what we missed
		}
		if err != nil {
			return d.sum, err
		}
		// A Put that found us still holding the lock trusts us to see its entry.
		missed, err := d.scan()
		if missed = d.unlocked() || missed; err != nil || !missed || ctx.Err() != nil {
			return d.sum, err
		}
	}
}

// unlocked says whether an entry that somebody else had open is free by now.
func (d *drain) unlocked() bool {
	free := false
	for _, it := range d.known {
		if it.locked == 0 {
			continue
		}
		if h, err := d.q.open(it.id, true); err == nil {
			h.close()
			it.locked, free = 0, true
			d.load(it.id)
		}
	}
	return free
}

// locked drains while it holds the lock.
func (d *drain) locked(ctx context.Context) error {
	wait, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if d.options.Once {
		cancel(ErrBusy) // tried once, not waited for
	}
	lock, err := atomicfile.Acquire(wait, filepath.Join(d.q.folder, "drain.lock"))
	if err != nil {
		return fmt.Errorf("drain queue: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if err := d.q.sweep(); err != nil {
		return fmt.Errorf("drain queue: %w", err)
	}
	pipe, err := d.q.listen()
	if err != nil {
		return fmt.Errorf("drain queue: %w", err)
	}
	told := make(chan ID, 256)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		hear(pipe, told)
	}()
	defer func() {
		if pipe != nil {
			_ = pipe.Close() // ends hear
		}
		for range told {
		}
		<-heard
	}()
	if _, err := d.scan(); err != nil {
		return fmt.Errorf("drain queue: %w", err)
	}
	defer d.saveAllStuck()
	return d.loop(ctx, told)
}

// hear passes on the IDs that other processes write into the pipe.
func hear(pipe *os.File, told chan<- ID) {
	defer close(told)
	if pipe == nil {
		return
	}
	// Other writers than ours could write anything: bounded lines, valid names.
	lines := bufio.NewScanner(io.Reader(pipe))
	lines.Buffer(make([]byte, 4096), 4096)
	for lines.Scan() {
		if id := ID(lines.Text()); id.valid() {
			told <- id
		}
	}
}

// A drain is one call of Drain. Its loop owns everything here; workers own an item
// from dispatch to result.
type drain struct {
	q       *Queue
	carrier Carrier
	options DrainOptions
	log     *slog.Logger
	known   map[ID]*item
	waiting timetable
	lanes   map[string]*lane
	free    []*lane // that have tasks and may run one more
	running int
	sum     Summary
}

// An item is an entry as the loop knows it.
type item struct {
	id     ID
	due    time.Time
	place  int   // in the timetable; -1 when not there
	stamp  int64 // time of change of the file when it was last looked at
	busy   bool  // in a lane or on a worker
	dirty  bool  // somebody changed it meanwhile
	keys   []string
	locked int     // how often somebody else had it open
	stuck  *record // outcomes that the disk would not take yet
	sum    Summary // what its worker counted
}

// A lane is the tasks for one destination.
type lane struct {
	key     string
	tasks   []*item
	running int
	listed  bool
}

type result struct {
	item   *item
	lane   *lane
	again  bool
	remove bool
	plan   bool
	when   time.Time
}

func (r result) gone() result          { r.remove = true; return r }
func (r result) at(t time.Time) result { r.plan, r.when = true, t; return r }

func (d *drain) loop(ctx context.Context, told <-chan ID) error {
	results := make(chan result)
	tick := time.NewTicker(d.q.rescan)
	defer tick.Stop()
	for {
		d.takeDue()
		d.dispatch(ctx, results)
		if d.running == 0 && (ctx.Err() != nil || d.options.Once && d.idle()) {
			d.sum.Next = d.nextDue()
			return d.ended(ctx)
		}
		stop := ctx.Done()
		if ctx.Err() != nil {
			stop = nil // only results are waited for now
		}
		timer, cancel := d.timer()
		select {
		case <-stop:
		case r := <-results:
			d.settle(r)
		case id, open := <-told:
			if !open {
				told = nil
				break
			}
			d.changed(id)
		case <-tick.C:
			if _, err := d.scan(); err != nil {
				d.log.Error("queue folder cannot be read", "error", err)
			}
		case <-timer:
		}
		cancel()
	}
}

// ended: a context that ends is how a waiting drain is stopped, and no fault.
func (d *drain) ended(ctx context.Context) error {
	if ctx.Err() != nil && d.options.Once && !d.idle() {
		return fmt.Errorf("drain queue: %w", context.Cause(ctx))
	}
	return nil
}

// lockedTries is how often, in five seconds, a drain that ends by itself waits for an entry that somebody
// else has open: the Put of it mostly, which trusts us to see it.
const lockedTries = 10

func (d *drain) idle() bool {
	if len(d.free) > 0 || len(d.lanes) > 0 || len(d.waiting) > 0 && !d.waiting[0].due.After(d.q.now()) {
		return false
	}
	return !slices.ContainsFunc(d.waiting, func(it *item) bool { return it.locked > 0 && it.locked < d.q.patience })
}

func (d *drain) nextDue() time.Time {
	if len(d.waiting) == 0 {
		return time.Time{}
	}
	return d.waiting[0].due
}

func (d *drain) timer() (<-chan time.Time, func()) {
	if len(d.waiting) == 0 {
		return nil, func() {}
	}
	t := time.NewTimer(max(d.waiting[0].due.Sub(d.q.now()), 0))
	return t.C, func() { t.Stop() }
}
