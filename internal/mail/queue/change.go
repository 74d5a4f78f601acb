package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Hold keeps an entry from being sent until Release. ErrActive, ErrNotFound.
func (q *Queue) Hold(id ID) error {
	return q.change(id, "hold", record{Kind: recHold, Reason: ByHand})
}

// Release ends a hold, by hand or for a sign-in; the time held does not count
// against the time after which the queue gives up.
func (q *Queue) Release(id ID) error { return q.change(id, "release", record{Kind: recRelease}) }

// Retry makes an entry due now, even one that is held or unknown: the person who
// asks knows that an unknown one may arrive twice.
func (q *Queue) Retry(id ID) error { return q.change(id, "retry", record{Kind: recRetry}) }

func (q *Queue) change(id ID, what string, r record) error {
	h, err := q.open(id, true)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer q.wake(id)
	defer h.close()
	h.state.settle()
	r.Time = q.now().UnixMilli()
	if err := h.append(r, true); err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	return nil
}

// ReleaseAccount ends every wait for a sign-in of that account: call it after login.
// It returns how many entries it released.
func (q *Queue) ReleaseAccount(ctx context.Context, account string) (int, error) {
	released := 0
	var faults []error
	for entry, err := range q.List(ctx) {
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if entry.State != StateHeld || entry.Reason != NoGrant || entry.Envelope.Account != account {
			continue
		}
		if err := q.Release(entry.ID); err != nil {
			faults = append(faults, err)
			continue
		}
		released++
	}
	return released, errors.Join(faults...)
}

// Remove takes an entry out for good; nobody gets a report.
func (q *Queue) Remove(id ID) error {
	h, err := q.open(id, true)
	if errors.Is(err, ErrDamaged) {
		return q.removeDamaged(id)
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	defer q.wake(id)
	defer h.close()
	if err := h.remove(); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	// A person was told that it is gone: no power cut may bring it back.
	return syncFolder(q.entries)
}

// removeDamaged removes a file that no drainer can be at work on.
func (q *Queue) removeDamaged(id ID) error {
	if err := os.Remove(q.path(id)); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return syncFolder(q.entries)
}
