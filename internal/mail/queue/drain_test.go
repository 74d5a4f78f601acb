package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gate is a carrier that waits in the middle.
type gate struct {
	entered chan Envelope
	leave   chan struct{}
}

func (g *gate) Carry(ctx context.Context, e Envelope, _ io.ReadSeeker) ([]Outcome, error) {
	g.entered <- e
	select {
	case <-g.leave:
	case <-ctx.Done():
		return []Outcome{{Recipient: e.To[0].Address, Verdict: Deferred, Reply: "stopped"}}, nil
	}
	return []Outcome{{Recipient: e.To[0].Address, Verdict: Delivered}}, nil
}

func TestRunningDrainer(t *testing.T) {
	q, _ := newQueue(t)
	q.rescan = time.Hour
	ctx, stop := context.WithCancel(t.Context())
	g := &gate{entered: make(chan Envelope), leave: make(chan struct{})}
	over := make(chan Summary)
	go func() {
		sum, err := q.Drain(ctx, g, DrainOptions{PerDestination: 2})
		if err != nil {
			t.Error(err)
		}
		over <- sum
	}()
	// Woken by the Put and not by the next look at the folder, which is an hour away.
	id := put(t, q, to("b@x"))
	<-g.entered
	if e := show(t, q, id); e.State != StateActive {
		t.Errorf("state %v", e.State)
	}
	for name, err := range map[string]error{"hold": q.Hold(id), "remove": q.Remove(id), "retry": q.Retry(id)} {
		if !errors.Is(err, ErrActive) {
			t.Errorf("%s while it is sent: %v", name, err)
		}
	}
	if _, err := q.Drain(t.Context(), g, DrainOptions{Once: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("second drainer: %v", err)
	}
	g.leave <- struct{}{}
	held := put(t, q, to("c@x"))
	<-g.entered
	g.leave <- struct{}{}
	// The bound: of three for one destination, two are under way.
	for range 3 {
		put(t, q, to("d@x"))
	}
	<-g.entered
	<-g.entered
	select {
	case <-g.entered:
		t.Error("three attempts to one destination, the bound is two")
	default:
	}
	g.leave <- struct{}{}
	<-g.entered
	stop()
	sum := <-over
	if sum.Delivered != 3 || sum.Deferred != 2 {
		t.Errorf("summary %+v", sum)
	}
	wantGone(t, q, held)
}

func TestDestinationsAreApart(t *testing.T) {
	q, _ := newQueue(t)
	put(t, q, to("a@one", "b@two", "c@one"))
	carrier := &script{verdicts: map[string][]Verdict{"a@one": {Delivered}, "b@two": {Deferred}, "c@one": {Delivered}}}
	domain := func(_ Envelope, r Recipient) string { _, d, _ := strings.Cut(r.Address, "@"); return d }
	sum := drainOnce(t, q, carrier, DrainOptions{Destination: domain})
	if got := strings.Join(carrier.calls, " "); got != "a@one+c@one b@two" || sum.Delivered != 2 || sum.Deferred != 1 {
		t.Errorf("calls %q, %+v", got, sum)
	}
}

func TestCarrierFault(t *testing.T) {
	q, _ := newQueue(t)
	id := put(t, q, to("b@x"))
	drainOnce(t, q, &script{err: errors.New("no way out configured")}, DrainOptions{})
	if e := show(t, q, id); e.State != StateQueued || e.Recipients[0].Last.Reply != "no way out configured" {
		t.Errorf("%+v", e)
	}
}

func TestDamagedFileStopsNobody(t *testing.T) {
	q, _ := newQueue(t)
	bad, good := put(t, q, to("b@x")), put(t, q, to("c@x"))
	data, err := os.ReadFile(q.path(bad))
	if err != nil {
		t.Fatal(err)
	}
	data[preambleLen+5] ^= 1
	if err := os.WriteFile(q.path(bad), data, 0o600); err != nil {
		t.Fatal(err)
	}
	drainOnce(t, q, &script{verdicts: map[string][]Verdict{"c@x": {Delivered}}}, DrainOptions{})
	wantGone(t, q, good)
	errs := 0
	for e, err := range q.List(t.Context()) {
		if errors.Is(err, ErrDamaged) && e.ID == bad {
			errs++
		}
	}
	if errs != 1 {
		t.Errorf("%d damaged entries listed", errs)
	}
	if err := q.Remove(bad); err != nil {
		t.Error(err)
	}
}

func TestLeftoversAreSwept(t *testing.T) {
	q, c := newQueue(t)
	old, young := filepath.Join(q.entries, ".0123456789abcdef"), filepath.Join(q.entries, ".0123456789abcdeg")
	for path, age := range map[string]time.Duration{old: 2 * time.Hour, young: time.Minute} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, time.Time{}, c.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	drainOnce(t, q, &script{}, DrainOptions{})
	left, _ := os.ReadDir(q.entries)
	if len(left) != 1 || left[0].Name() != filepath.Base(young) {
		t.Errorf("left: %v", left)
	}
}

func TestListIsInOrder(t *testing.T) {
	q, c := newQueue(t)
	var want []ID
	for range 20 {
		want = append(want, put(t, q, to("b@x")))
		c.forward(time.Millisecond)
	}
	var got []ID
	for e, err := range q.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// journalling talks to two servers in one call and dies between them.
type journalling struct{ script }

func (j *journalling) CarryJournal(_ context.Context, e Envelope, _ io.ReadSeeker, journal Journal) ([]Outcome, error) {
	if err := journal.Commit("a@one"); err != nil {
		return nil, err
	}
	if err := journal.Record(Outcome{Recipient: "a@one", Verdict: Delivered}); err != nil {
		return nil, err
	}
	return nil, journal.Commit("b@two")
}

func TestJournalledOutcomesStand(t *testing.T) {
	q, _ := newQueue(t)
	id := put(t, q, to("a@one", "b@two", "c@three"))
	drainOnce(t, q, &journalling{}, DrainOptions{})
	got := map[string]State{}
	for _, r := range show(t, q, id).Recipients {
		got[r.Address] = r.State
	}
	want := map[string]State{"a@one": StateDelivered, "b@two": StateUnknown, "c@three": StateQueued}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Records go over the room kept for them: the file does not grow in a usual
// delivery, and grows with room again in a long life.
func TestRoom(t *testing.T) {
	q, c := newQueue(t)
	id := put(t, q, to("b@x"))
	size := func() int64 {
		info, err := os.Stat(q.path(id))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	carrier := &script{verdicts: map[string][]Verdict{"b@x": {Deferred}}}
	drainOnce(t, q, carrier, DrainOptions{})
	if after := size(); after != before {
		t.Errorf("first attempt: %d bytes, before %d", after, before)
	}
	for range 10 {
		c.forward(4 * time.Hour)
		drainOnce(t, q, carrier, DrainOptions{})
	}
	if e := show(t, q, id); e.Attempts != 11 {
		t.Errorf("%d attempts kept of 11", e.Attempts)
	}
	data, _ := os.ReadFile(q.path(id))
	if is := parseRecords(data[len(data)-2000:]); is.room == 2000 {
		t.Error("no room at the end")
	}
	// A torn line hides nothing that comes after it.
	if err := os.WriteFile(q.path(id), append(bytes.TrimRight(data, " \n"), "\n1234abcd {\"k\":\"do"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := q.Hold(id); err != nil {
		t.Fatal(err)
	}
	if e := show(t, q, id); e.State != StateHeld || e.Attempts != 11 {
		t.Errorf("after a torn line: %+v", e)
	}
}
