package queue

import (
	"strings"
	"testing"
)

// What was put held is not sent before its Release, survives reopening as held, and
// brings back what the service that put it wanted kept.
func TestPutHeld(t *testing.T) {
	q, _ := newQueue(t)
	e := to("b@x")
	e.Submitter, e.Tag = "1001", "1001.abc"
	id, err := q.PutHeld(t.Context(), e, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	carrier := &script{verdicts: map[string][]Verdict{"b@x": {Delivered}}}
	if sum := drainOnce(t, q, carrier, DrainOptions{}); sum.Delivered != 0 || len(carrier.calls) != 0 {
		t.Fatalf("sent while held: %+v", sum)
	}
	if n, err := q.ReleaseAccount(t.Context(), "work"); n != 0 || err != nil {
		t.Errorf("a sign-in released it: %d, %v", n, err)
	}
	entry, err := q.Show(id)
	if err != nil || entry.State != StateHeld || entry.Reason != Incoming || entry.Envelope.Submitter != "1001" || entry.Envelope.Tag != "1001.abc" {
		t.Fatalf("%+v, %v", entry, err)
	}
	if !q.Waits(id) || q.Waits("0000000000000000") || q.Waits("../../etc/passwd") {
		t.Error("Waits is wrong")
	}
	if err := q.Release(id); err != nil {
		t.Fatal(err)
	}
	if sum := drainOnce(t, q, carrier, DrainOptions{}); sum.Delivered != 1 || q.Waits(id) {
		t.Errorf("after the release: %+v", sum)
	}
}
