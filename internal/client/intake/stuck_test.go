package intake

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A fullQueue is on a disk that takes no more records for a while.
type fullQueue struct {
	*queue.Queue
	full atomic.Bool
}

func (f *fullQueue) Release(id queue.ID) error {
	if f.full.Load() {
		return errors.New("no space left on device")
	}
	return f.Queue.Release(id)
}

// A message that was acknowledged outlives a restart even when the disk would not take
// its release and the client has said done: the server must remember it until then.
func TestDoneBeforeTheRelease(t *testing.T) {
	for _, again := range []bool{false, true} {
		s := newSite(t, nil)
		s.stop()
		full := &fullQueue{Queue: s.queue}
		full.full.Store(true)
		forgotten := make(chan struct{}, 2)
		s.step = func(name string) {
			if name == "done" {
				forgotten <- struct{}{}
			}
		}
		s.start(func(o *Options) { o.Queue = full })
		sub := newSubmission(t)
		if _, err := s.submit(sub, letter); err != nil {
			t.Fatal(err)
		}
		<-forgotten
		if again {
			if receipt, err := s.submit(sub, letter); err != nil || !receipt.Again {
				t.Fatalf("%+v, %v", receipt, err)
			}
			<-forgotten
		}
		s.server.tidy() // still full
		s.stop()
		full.full.Store(false)
		s.start(func(o *Options) { o.Queue = full })
		if _, err := s.submit(newSubmission(t), letter); err != nil { // it serves: recovery is over
			t.Fatal(err)
		}
		entries := s.entries()
		if len(entries) != 2 {
			t.Fatalf("again %v: %d messages in the queue, want both that were acknowledged", again, len(entries))
		}
		for _, e := range entries {
			if e.State != queue.StateQueued {
				t.Errorf("again %v: %s is %v (%s)", again, e.ID, e.State, e.Reason)
			}
		}
	}
}

// Once the disk takes the release, the hand-over that is done with is forgotten.
func TestForgottenAfterTheRelease(t *testing.T) {
	s := newSite(t, nil)
	s.stop()
	full := &fullQueue{Queue: s.queue}
	full.full.Store(true)
	done := make(chan struct{}, 1)
	s.step = func(name string) {
		if name == "done" {
			done <- struct{}{}
		}
	}
	s.start(func(o *Options) { o.Queue = full })
	sub := newSubmission(t)
	if _, err := s.submit(sub, letter); err != nil {
		t.Fatal(err)
	}
	<-done
	k := key{1001, sub.ID}
	if _, known := s.server.ledger.find(k); !known {
		t.Error("forgotten before its message could be sent")
	}
	full.full.Store(false)
	s.server.tidy()
	if _, known := s.server.ledger.find(k); known {
		t.Error("remembered for no use")
	}
	if entries := s.entries(); len(entries) != 1 || entries[0].State != queue.StateQueued {
		t.Errorf("%+v", entries)
	}
}
