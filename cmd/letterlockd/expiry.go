package main

import (
	"context"
	"errors"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// expiries are the app passwords that will have ended by themselves soon. The door refuses
// them then, but a session that one of them opened at Dovecot would go on for days: its
// end is felt as a revocation is.
type expiries struct {
	listed time.Time
	near   map[string]expiry
}

type expiry struct {
	person identity.PersonID
	at     time.Time
}

// listEvery is how often the database is asked. Each time it is asked for twice as long
// ahead, and back, so that one whose life is shorter is late by no more than that.
const listEvery = 15 * time.Second

// expire has those whose time has come felt by the mail servers.
func (w *watch) expire(ctx context.Context) error {
	now := w.now()
	if since := now.Sub(w.expiries.listed); since < 0 || since >= listEvery {
		if err := w.listExpiries(ctx, now); err != nil {
			return err
		}
	}
	for key, one := range w.expiries.near {
		if now.Before(one.at) {
			continue
		}
		names, err := w.names(ctx, identity.Event{Person: one.person})
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err // and it is not told yet
		}
		w.log.Info("an app password has expired", "names", names)
		w.revoke(names...)
		delete(w.expiries.near, key)
		w.told[key] = now
	}
	return nil
}

func (w *watch) listExpiries(ctx context.Context, now time.Time) error {
	back := 2 * listEvery
	if w.expiries.near == nil {
		// What waited for a Dovecot is not kept over a restart.
		back, w.expiries.near = firstLookBack, map[string]expiry{}
	}
	all, err := w.store.Expiring(ctx, now.Add(-back), now.Add(2*listEvery))
	if err != nil {
		if w.expiries.listed.IsZero() {
			w.expiries.near = nil
		}
		return err
	}
	// Anew: one that was revoked meanwhile is told as that.
	clear(w.expiries.near)
	for _, c := range all {
		key := "expired " + string(c.ID)
		if _, told := w.told[key]; !told {
			w.expiries.near[key] = expiry{c.Person, c.Expires}
		}
	}
	w.expiries.listed = now
	return nil
}
