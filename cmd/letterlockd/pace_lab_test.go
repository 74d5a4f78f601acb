//go:build lab

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A pace is a stopwatch that knows how long the machine let nobody go on: what is promised
// within seconds is promised of a machine that has them. Beside the one who waits somebody
// does little again and again: takes a turn, and has a word written to the disk. What that
// takes longer than it should is the machine's time, and not letterlockd's.
type pace struct {
	t     *testing.T
	begun time.Time
	stop  context.CancelFunc
	all   sync.WaitGroup
	lost  atomic.Int64 // nanoseconds
	err   error
}

// paceBeat is how long a turn and a word take on a machine with little else to do, at most.
const paceBeat = 100 * time.Millisecond

func takePace(t *testing.T) *pace {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "pace"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &pace{t: t, begun: time.Now(), stop: cancel}
	p.all.Go(func() {
		defer file.Close()
		tick := time.NewTicker(paceBeat / 2)
		defer tick.Stop()
		for {
			beat := time.Now()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			_, err := file.WriteAt([]byte("x"), 0)
			p.err = errors.Join(err, file.Sync())
			p.lost.Add(int64(max(0, time.Since(beat)-paceBeat)))
		}
	})
	t.Cleanup(func() { cancel(); p.all.Wait() })
	return p
}

// within wants that no more than limit has gone by, and what the machine has lost.
func (p *pace) within(limit time.Duration, what string) {
	p.t.Helper()
	p.judge(p.read(), limit, what)
}

// read ends the pace and says how much has gone by.
func (p *pace) read() time.Duration {
	took := time.Since(p.begun)
	p.stop()
	p.all.Wait()
	return took
}

func (p *pace) judge(took, limit time.Duration, what string) {
	p.t.Helper()
	if p.err != nil {
		p.t.Errorf("take the pace: %v", p.err)
	}
	if lost := time.Duration(p.lost.Load()); late(took, limit, lost) {
		p.t.Errorf("%s after %v, want %v; the machine itself lost %v", what, took, limit, lost)
	}
	p.t.Logf("%s after %v", what, took.Round(time.Millisecond))
}

// pass waits until what happens within a while, and says nothing, has happened.
func (p *pace) pass(while time.Duration) {
	p.t.Helper()
	tick := time.NewTicker(paceBeat)
	defer tick.Stop()
	for !late(time.Since(p.begun), while, time.Duration(p.lost.Load())) {
		<-tick.C
	}
	p.read()
}

// late judges: a machine that loses time has each of the processes lose it that wait for each
// other, mail server, letterlockd, its database and the test.
func late(took, limit, lost time.Duration) bool { return took > limit+4*lost }

// A pace forgives what the machine took, and nothing else.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		took, lost time.Duration
		late       bool
	}{{9 * time.Second, 0, false}, {11 * time.Second, 0, true}, {11 * time.Second, time.Second, false}, {time.Minute, time.Second, true}} {
		if late(c.took, 10*time.Second, c.lost) != c.late {
			t.Errorf("%+v", c)
		}
	}
	p := takePace(t)
	p.within(time.Minute, "nothing")
	if p.err != nil || p.lost.Load() > int64(time.Minute) {
		t.Errorf("%v, lost %v", p.err, time.Duration(p.lost.Load()))
	}
}
