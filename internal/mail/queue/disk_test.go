package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var errDisk = errors.New("input/output error")

// A faulty disk fails from its operation number from on, count times; share of what was
// to be written gets there all the same.
type faulty struct {
	mu          sync.Mutex
	from, count int
	share       float64
	done        int
	hit         bool
}

func (f *faulty) fail(_ string, length int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done++
	if f.done < f.from || f.done >= f.from+f.count {
		return length, nil
	}
	f.hit = true
	return int(f.share * float64(length)), errDisk
}

func (f *faulty) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// A post is a server that remembers whom it took messages for. It defers later@ once.
type post struct {
	taken    map[string]int
	deferred bool
}

func (p *post) Carry(context.Context, Envelope, io.ReadSeeker) ([]Outcome, error) {
	return nil, errors.New("the journal was not used")
}

func (p *post) CarryJournal(_ context.Context, e Envelope, _ io.ReadSeeker, journal Journal) ([]Outcome, error) {
	var outcomes []Outcome
	for _, r := range e.To {
		if r.Address == "later@one" && !p.deferred {
			p.deferred = true
			outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Deferred, Reply: "450 later"})
			continue
		}
		if err := journal.Commit(r.Address); err != nil {
			outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Deferred, Reply: err.Error()})
			continue
		}
		p.taken[r.Address]++
		o := Outcome{Recipient: r.Address, Verdict: Delivered, Reply: "250 ok"}
		outcomes = append(outcomes, o)
		_ = journal.Record(o) // it is in what we return too
	}
	return outcomes, nil
}

// The disk fails at each operation of a drain, for a while or until the process has
// ended, before, in the middle of and after each write. Nobody gets a message twice,
// nobody loses one, and what is known to be delivered is not unknown once the disk works
// again.
func TestFailingDisk(t *testing.T) {
	recipients := []string{"a@one", "later@one", "b@two"}
	for _, share := range []float64{0, 0.5, 1} {
		for _, count := range []int{1, 2, 3, 1000} {
			for from := 1; ; from++ {
				name := fmt.Sprintf("share %v, %d failures from %d", share, count, from)
				q, clock := newQueue(t)
				put(t, q, to(recipients...))
				disk, server := &faulty{from: from, count: count, share: share}, &post{taken: map[string]int{}}
				q.disk = disk.fail
				options := DrainOptions{Destination: domainOfAddress, Schedule: Schedule{Retries: []time.Duration{time.Minute}}}
				for range 4 { // each a process of its own
					drainOnce(t, q, server, options)
					clock.forward(time.Hour)
				}
				q.disk = nil
				for range 3 {
					drainOnce(t, q, server, options)
					clock.forward(time.Hour)
				}
				unknown := map[string]bool{}
				for e, err := range q.List(t.Context()) {
					if err != nil {
						t.Fatal(name, err)
					}
					for _, r := range e.Recipients {
						if unknown[r.Address] = r.State == StateUnknown; r.State == StateQueued || r.State == StateActive || r.State == StateHeld {
							t.Errorf("%s: %s is still %v", name, r.Address, r.State)
						}
					}
				}
				for _, who := range recipients {
					switch n := server.taken[who]; {
					case n > 1:
						t.Errorf("%s: %s got it %d times", name, who, n)
					case n == 0 && !unknown[who]:
						t.Errorf("%s: %s lost it", name, who)
					case unknown[who] && count < 3:
						t.Errorf("%s: %s is unknown, taken %d times", name, who, n)
					}
				}
				if !disk.over() {
					if from < 8 {
						t.Fatalf("only %d operations", disk.done)
					}
					break
				}
			}
		}
	}
}

func domainOfAddress(_ Envelope, r Recipient) string {
	_, host, _ := strings.Cut(r.Address, "@")
	return host
}

// The same outcome written again, after a sync that failed, counts once.
func TestStuckOutcomeCountsOnce(t *testing.T) {
	q, _ := newQueue(t)
	id := put(t, q, to("a@one", "b@one"))
	disk := &faulty{from: 4, count: 1, share: 1} // begin, commit and its sync, then the outcome's write: all of it gets there
	q.disk = disk.fail
	carrier := &script{verdicts: map[string][]Verdict{"a@one": {Unknown}, "b@one": {Deferred}}}
	drainOnce(t, q, carrier, DrainOptions{OnUnknown: Resend})
	if !disk.over() {
		t.Fatal("the disk did not fail")
	}
	h, err := q.open(id, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if n := h.state.people[0].unknowns; n != 1 {
		t.Errorf("unknown %d times", n)
	}
}

func openQueue(t *testing.T) *Queue {
	t.Helper()
	q, err := Open(filepath.Join(t.TempDir(), "queue"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A drain that ends by itself waits for an entry whose Put is about to be over: that one
// trusts it to see the entry.
func TestDrainWaitsForAPut(t *testing.T) {
	q := openQueue(t)
	id := put(t, q, to("a@x"))
	h, err := q.open(id, true)
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	q.step = func(name string) {
		if name == "drain: locked out" {
			if times++; times == 3 {
				h.close()
			}
		}
	}
	carrier := &script{verdicts: map[string][]Verdict{"a@x": {Delivered}}}
	if sum := drainOnce(t, q, carrier, DrainOptions{}); sum.Delivered != 1 || times != 3 {
		t.Errorf("%+v after %d tries", sum, times)
	}
}

// A drain that has lost its patience with an entry looks once more when it has let go of
// the queue: a Put that was over meanwhile took it for one that sees its entry.
func TestDrainLooksAgainAtALockedEntry(t *testing.T) {
	for _, free := range []bool{true, false} {
		q := openQueue(t)
		q.patience = 1
		h, err := q.open(put(t, q, to("a@x")), true)
		if err != nil {
			t.Fatal(err)
		}
		times := 0
		q.step = func(name string) {
			if name == "drain: locked out" {
				if times++; free {
					h.close()
				}
			}
		}
		carrier := &script{verdicts: map[string][]Verdict{"a@x": {Delivered}}}
		if sum := drainOnce(t, q, carrier, DrainOptions{}); (sum.Delivered == 1) != free || times != 1 {
			t.Errorf("let go: %v: %+v after %d tries", free, sum, times)
		}
		h.close()
	}
}

// An entry whose acceptance failed is not sent, even when it cannot be removed.
func TestRefusedPutIsNotSent(t *testing.T) {
	for _, failing := range []string{"sync entries", "sync entries, remove"} {
		q := openQueue(t)
		q.patience = 2
		q.disk = func(op string, n int) (int, error) {
			if strings.Contains(failing, op) && op != "sync" {
				return 0, errDisk
			}
			return n, nil
		}
		carrier := &script{}
		drained := false
		q.step = func(name string) {
			if name == "put: renamed" && renamesOpenFiles { // the worst moment for a drainer to look
				drained = true
				q.step = nil
				drainOnce(t, q, carrier, DrainOptions{})
			}
		}
		if _, err := q.Put(t.Context(), to("a@x"), strings.NewReader(text)); !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		q.disk, q.step = nil, nil
		drainOnce(t, q, carrier, DrainOptions{})
		if len(carrier.calls) != 0 || drained != renamesOpenFiles {
			t.Errorf("%s: sent %v", failing, carrier.calls)
		}
	}
}
