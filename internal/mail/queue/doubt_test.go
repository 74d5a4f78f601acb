package queue

import (
	"context"
	"io"
	"testing"
	"time"
)

// refusing answers everybody the same.
type refusing struct{ outcome Outcome }

func (r refusing) Carry(_ context.Context, e Envelope, _ io.ReadSeeker) ([]Outcome, error) {
	r.outcome.Recipient = e.To[0].Address
	return []Outcome{r.outcome}, nil
}

// A refusal of the sign-in that may be an outage is tried again for a while before the
// message waits for a person, also when each attempt is by another process.
func TestDoubtfulSignIn(t *testing.T) {
	q, clock := newQueue(t)
	id := put(t, q, to("b@x"))
	doubt := Outcome{Verdict: SignIn, Status: "5.7.8", Reply: "535 5.7.8 Authentication failed", Doubt: true}
	attempts := 0
	for show(t, q, id).State == StateQueued {
		if attempts++; attempts > 10 {
			t.Fatal("it never waits for a person")
		}
		drainOnce(t, q, refusing{doubt}, DrainOptions{})
		clock.forward(30 * time.Minute)
	}
	e := show(t, q, id)
	if attempts != doubtTries+1 || e.State != StateHeld || e.Reason != NoGrant {
		t.Errorf("after %d attempts: %v (%s)", attempts, e.State, e.Reason)
	}
	// After a sign-in the patience begins anew.
	if err := q.Release(id); err != nil {
		t.Fatal(err)
	}
	if drainOnce(t, q, refusing{doubt}, DrainOptions{}); show(t, q, id).State != StateQueued {
		t.Error("held at once after a sign-in")
	}
	// Without doubt it waits at once.
	id = put(t, q, to("b@x"))
	doubt.Doubt = false
	if drainOnce(t, q, refusing{doubt}, DrainOptions{}); show(t, q, id).State != StateHeld {
		t.Error("a certain refusal is tried again")
	}
}
