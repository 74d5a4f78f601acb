//go:build unix

package queue

import (
	"testing"
	"time"
)

// Who finds the queue attended may leave: the drainer takes what was put, even when
// it was about to go.
func TestAttended(t *testing.T) {
	q, _ := newQueue(t)
	q.rescan = time.Hour
	if q.Attended() {
		t.Fatal("attended before anybody drained")
	}
	g := &gate{entered: make(chan Envelope), leave: make(chan struct{})}
	over := make(chan Summary)
	put(t, q, to("a@x"))
	go func() {
		sum, err := q.Drain(t.Context(), g, DrainOptions{Once: true, PerDestination: 1})
		if err != nil {
			t.Error(err)
		}
		over <- sum
	}()
	<-g.entered
	put(t, q, to("b@x"))
	if !q.Attended() {
		t.Error("not attended while somebody drains")
	}
	g.leave <- struct{}{}
	<-g.entered
	g.leave <- struct{}{}
	if sum := <-over; sum.Delivered != 2 {
		t.Errorf("%+v, want both", sum)
	}
	if q.Attended() {
		t.Error("attended when the drainer has gone")
	}
}

// The promise at its narrowest: an entry put after the drainer's last look at its
// folder, while its pipe can still be written to.
func TestAttendedAtTheLastMoment(t *testing.T) {
	q, _ := newQueue(t)
	q.rescan = time.Hour
	put(t, q, to("a@x"))
	late, _ := Open(q.folder, Options{})
	left := 0
	q.step = func(step string) {
		if step != "drain: removed" || left > 0 {
			return
		}
		left++
		if put(t, late, to("b@x")); !late.Attended() {
			t.Error("not attended")
		}
	}
	sum, err := q.Drain(t.Context(), null{}, DrainOptions{Once: true})
	if err != nil || sum.Delivered != 2 {
		t.Errorf("%+v, %v; want both delivered", sum, err)
	}
}
