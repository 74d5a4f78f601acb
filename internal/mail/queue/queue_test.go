package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const text = "From: a@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: x\r\n\r\nbody\r\n"

// A clock that tests put forward.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newQueue(t testing.TB) (*Queue, *clock) {
	t.Helper()
	c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	q, err := Open(filepath.Join(t.TempDir(), "queue"), Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return q, c
}

func to(addresses ...string) Envelope {
	e := Envelope{From: "a@example.org", Account: "work"}
	for _, a := range addresses {
		e.To = append(e.To, Recipient{Address: a})
	}
	return e
}

func put(t testing.TB, q *Queue, e Envelope) ID {
	t.Helper()
	id, err := q.Put(t.Context(), e, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A script answers for each recipient by verdicts in turn; the last repeats.
type script struct {
	mu       sync.Mutex
	verdicts map[string][]Verdict
	calls    []string
	reports  bool
	err      error
}

func (s *script) Carry(_ context.Context, e Envelope, message io.ReadSeeker) ([]Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	got, err := io.ReadAll(message)
	if err != nil || string(got) != text {
		return nil, fmt.Errorf("message arrived as %q, %v", got, err)
	}
	var outcomes []Outcome
	var names []string
	for _, r := range e.To {
		names = append(names, r.Address)
		left := s.verdicts[r.Address]
		if len(left) == 0 {
			continue // says nothing of it
		}
		if len(left) > 1 {
			s.verdicts[r.Address] = left[1:]
		}
		outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: left[0], Status: "4.2.0", Reply: "450 later", Server: "mx.example", Reports: s.reports})
	}
	s.calls = append(s.calls, strings.Join(names, "+"))
	return outcomes, nil
}

// box keeps reports.
type box struct {
	mu      sync.Mutex
	reports []string
	err     error
}

func (b *box) Bounce(_ context.Context, n Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.reports = append(b.reports, n.To+"\n"+string(n.DSN))
	return nil
}

func drainOnce(t testing.TB, q *Queue, c Carrier, o DrainOptions) Summary {
	t.Helper()
	o.Once = true
	o.Reporter = Reporter{Host: "host.example"}
	sum, err := q.Drain(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func show(t testing.TB, q *Queue, id ID) Entry {
	t.Helper()
	e, err := q.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantGone(t testing.TB, q *Queue, id ID) {
	t.Helper()
	if _, err := q.Show(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("entry %s is still there (%v)", id, err)
	}
}

func TestPutKeepsAll(t *testing.T) {
	q, c := newQueue(t)
	e := Envelope{From: "", Account: "w", EnvelopeID: "id1", Return: "HDRS", EightBit: true, UTF8: true,
		To: []Recipient{{Address: "ü@x", Notify: "SUCCESS,DELAY", Original: "rfc822;b@x"}, {Address: "\"a b\"@x"}}}
	message := strings.Repeat("0123456789abcdef\r\n", 10_000)
	id, err := q.Put(t.Context(), e, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	e.Size = int64(len(message))
	got := show(t, q, id)
	if fmt.Sprint(got.Envelope) != fmt.Sprint(e) || !got.Created.Equal(c.Now()) || got.State != StateQueued || len(got.Recipients) != 2 {
		t.Errorf("got %+v", got)
	}
	m, err := q.Message(id)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if data, err := io.ReadAll(m); err != nil || string(data) != message {
		t.Errorf("message: %d bytes, %v", len(data), err)
	}
}

type broken struct{ after int }

func (b *broken) Read(p []byte) (int, error) {
	if b.after <= 0 {
		return 0, errors.New("reader broke")
	}
	n := min(b.after, len(p))
	b.after -= n
	return n, nil
}

func TestPutThatFailsLeavesNothing(t *testing.T) {
	q, _ := newQueue(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, try := range map[string]func() error{
		"reader":     func() error { _, err := q.Put(t.Context(), to("b@x"), &broken{after: 100_000}); return err },
		"context":    func() error { _, err := q.Put(cancelled, to("b@x"), strings.NewReader(text)); return err },
		"recipients": func() error { _, err := q.Put(t.Context(), to(), strings.NewReader(text)); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if files, _ := os.ReadDir(q.entries); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// What becomes of recipients over a few drains, by verdict, policy and time.
func TestVerdicts(t *testing.T) {
	const b = "b@x"
	for _, test := range []struct {
		name     string
		verdicts []Verdict
		policy   Policy
		pauses   []time.Duration // a drain after each
		calls    int
		state    State // StateDelivered also when the entry is gone
		reports  int
	}{
		{"delivered", []Verdict{Delivered}, Ask, []time.Duration{0}, 1, StateDelivered, 0},
		{"refused", []Verdict{Refused}, Ask, []time.Duration{0}, 1, StateDelivered, 1},
		{"deferred once", []Verdict{Deferred, Delivered}, Ask, []time.Duration{0, time.Minute, 5 * time.Minute}, 2, StateDelivered, 0},
		{"deferred, not due", []Verdict{Deferred, Delivered}, Ask, []time.Duration{0, 4 * time.Minute}, 1, StateQueued, 0},
		{"schedule", []Verdict{Deferred}, Ask, []time.Duration{0, 5 * time.Minute, 9 * time.Minute, time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 119 * time.Minute}, 6, StateQueued, 0},
		{"delay is told once", []Verdict{Deferred}, Ask, []time.Duration{0, 4 * time.Hour, 10 * time.Minute, 20 * time.Minute}, 4, StateQueued, 1},
		{"given up", []Verdict{Deferred}, Ask, []time.Duration{0, 4 * time.Hour, 5 * 24 * time.Hour}, 3, StateDelivered, 2},
		{"sign-in holds", []Verdict{SignIn}, Ask, []time.Duration{0, time.Hour, 6 * 24 * time.Hour}, 1, StateHeld, 0},
		{"unknown asks", []Verdict{Unknown}, Ask, []time.Duration{0, time.Hour, 6 * 24 * time.Hour}, 1, StateUnknown, 0},
		{"unknown resends", []Verdict{Unknown, Delivered}, Resend, []time.Duration{0, 29 * time.Minute, time.Minute}, 2, StateDelivered, 0},
		{"unknown resends twice", []Verdict{Unknown}, Resend, []time.Duration{0, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute}, 3, StateDelivered, 1},
		{"nothing said", nil, Ask, []time.Duration{0, time.Hour}, 1, StateUnknown, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			q, c := newQueue(t)
			id := put(t, q, to(b))
			carrier, reports := &script{verdicts: map[string][]Verdict{b: test.verdicts}}, &box{}
			for _, pause := range test.pauses {
				c.forward(pause)
				drainOnce(t, q, carrier, DrainOptions{OnUnknown: test.policy, Bouncer: reports})
			}
			if len(carrier.calls) != test.calls {
				t.Errorf("%d attempts, want %d", len(carrier.calls), test.calls)
			}
			if len(reports.reports) != test.reports {
				t.Errorf("%d reports, want %d: %q", len(reports.reports), test.reports, reports.reports)
			}
			if test.state == StateDelivered {
				wantGone(t, q, id)
			} else if e := show(t, q, id); e.State != test.state {
				t.Errorf("state %v, want %v", e.State, test.state)
			} else if e.Attempts > 0 && len(test.verdicts) > 0 && e.Recipients[0].Last.Reply != "450 later" {
				t.Errorf("last text is %q", e.Recipients[0].Last.Reply)
			}
		})
	}
}

func TestEachRecipientHasItsFate(t *testing.T) {
	q, c := newQueue(t)
	id := put(t, q, to("ok@x", "no@x", "later@x"))
	carrier := &script{verdicts: map[string][]Verdict{"ok@x": {Delivered}, "no@x": {Refused}, "later@x": {Deferred, Delivered}}}
	reports := &box{}
	sum := drainOnce(t, q, carrier, DrainOptions{Bouncer: reports})
	if want := c.Now().Add(5 * time.Minute); sum.Delivered != 1 || sum.Bounced != 1 || sum.Deferred != 1 || !sum.Next.Equal(want) {
		t.Errorf("summary %+v, want next %v", sum, want)
	}
	var states []State
	for _, r := range show(t, q, id).Recipients {
		states = append(states, r.State)
	}
	if !slices.Equal(states, []State{StateDelivered, StateBounced, StateQueued}) {
		t.Errorf("states %v", states)
	}
	c.forward(5 * time.Minute)
	drainOnce(t, q, carrier, DrainOptions{Bouncer: reports})
	wantGone(t, q, id)
	if got := strings.Join(carrier.calls, " "); got != "ok@x+no@x+later@x later@x" {
		t.Errorf("calls: %s", got)
	}
	if len(reports.reports) != 1 || !strings.Contains(reports.reports[0], "Final-Recipient: rfc822; no@x") || strings.Contains(reports.reports[0], "ok@x") {
		t.Errorf("reports: %q", reports.reports)
	}
}

func TestNotify(t *testing.T) {
	for _, test := range []struct {
		notify  string
		verdict Verdict
		reports bool // the next server does
		from    string
		want    string
	}{
		{"", Refused, false, "a@x", "failed"},
		{"NEVER", Refused, false, "a@x", ""},
		{"SUCCESS", Refused, false, "a@x", ""},
		{"SUCCESS,FAILURE", Refused, false, "a@x", "failed"},
		{"failure", Refused, false, "a@x", "failed"},
		{"", Refused, false, "", ""},
		{"", Delivered, false, "a@x", ""},
		{"SUCCESS", Delivered, false, "a@x", "relayed"},
		{"SUCCESS", Delivered, true, "a@x", ""},
		{"", Deferred, false, "a@x", "delayed"},
		{"FAILURE", Deferred, false, "a@x", ""},
		{"DELAY", Deferred, false, "a@x", "delayed"},
	} {
		q, c := newQueue(t)
		put(t, q, Envelope{From: test.from, To: []Recipient{{Address: "b@x", Notify: test.notify}}})
		c.forward(4 * time.Hour)
		reports := &box{}
		drainOnce(t, q, &script{verdicts: map[string][]Verdict{"b@x": {test.verdict}}, reports: test.reports}, DrainOptions{Bouncer: reports})
		got := ""
		for _, r := range reports.reports {
			_, rest, _ := strings.Cut(r, "Action: ")
			got, _, _ = strings.Cut(rest, "\r\n")
		}
		if got != test.want {
			t.Errorf("%+v: report %q", test, got)
		}
	}
}

func TestReportIsTriedAgain(t *testing.T) {
	q, c := newQueue(t)
	id := put(t, q, to("b@x"))
	carrier, reports := &script{verdicts: map[string][]Verdict{"b@x": {Refused}}}, &box{err: errors.New("mailbox full")}
	drainOnce(t, q, carrier, DrainOptions{Bouncer: reports})
	if e := show(t, q, id); e.State != StateBounced {
		t.Fatalf("state %v", e.State)
	}
	reports.err = nil
	c.forward(reportPause)
	drainOnce(t, q, carrier, DrainOptions{Bouncer: reports})
	wantGone(t, q, id)
	if len(reports.reports) != 1 || len(carrier.calls) != 1 {
		t.Errorf("%d reports, %d attempts", len(reports.reports), len(carrier.calls))
	}
}

func TestByHand(t *testing.T) {
	q, c := newQueue(t)
	id := put(t, q, to("b@x"))
	carrier := &script{verdicts: map[string][]Verdict{"b@x": {SignIn, Unknown, Deferred, Delivered}}}
	step := func(what string, err error, calls int, want State) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		drainOnce(t, q, carrier, DrainOptions{})
		if e := show(t, q, id); e.State != want || len(carrier.calls) != calls {
			t.Fatalf("after %s: state %v, %d attempts; want %v, %d", what, e.State, len(carrier.calls), want, calls)
		}
	}
	step("hold", q.Hold(id), 0, StateHeld)
	c.forward(10 * 24 * time.Hour)
	step("release", q.Release(id), 1, StateHeld)
	if e := show(t, q, id); e.Reason != NoGrant {
		t.Errorf("reason %q", e.Reason)
	}
	c.forward(10 * 24 * time.Hour)
	n, err := q.ReleaseAccount(t.Context(), "other")
	if n != 0 {
		t.Errorf("released %d of another account", n)
	}
	step("release of another account", err, 1, StateHeld)
	n, err = q.ReleaseAccount(t.Context(), "work")
	if n != 1 {
		t.Errorf("released %d", n)
	}
	step("release of the account", err, 2, StateUnknown)
	// Twenty days held do not count: the deferral is not the end.
	step("retry", q.Retry(id), 3, StateQueued)
	if err := q.Retry(id); err != nil {
		t.Fatal(err)
	}
	drainOnce(t, q, carrier, DrainOptions{})
	wantGone(t, q, id)

	id = put(t, q, to("b@x"))
	if err := q.Remove(id); err != nil {
		t.Fatal(err)
	}
	wantGone(t, q, id)
	for name, err := range map[string]error{"hold": q.Hold(id), "remove": q.Remove(id), "path": q.Remove("../../drain.lock"), "retry": q.Retry("")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of what is not there: %v", name, err)
		}
	}
}
