package main

import (
	"context"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// expiries are the app passwords that will have ended by themselves soon. The door refuses
// them then, but a session that one of them opened at Dovecot would go on for days: its
// end is felt as a revocation is, also while the database is away.
type expiries struct {
	listed time.Time
	near   map[string]expiry
}

type expiry struct {
	names []string
	at    time.Time
}

// listEvery is how often the database is asked. Each time it is asked for twice as long
// ahead, and back, so that one whose life is shorter is late by no more than that.
const listEvery = 15 * time.Second

// expire has those whose time has come felt by the mail servers.
func (w *watch) expire(ctx context.Context) error {
	now := w.now()
	var err error
	if since := now.Sub(w.expiries.listed); since < 0 || since >= listEvery {
		err = w.listExpiries(ctx, now)
	}
	for key, one := range w.expiries.near {
		if now.Before(one.at) {
			continue
		}
		w.log.Info("an app password has expired", "names", one.names)
		w.revoke(one.names...)
		delete(w.expiries.near, key)
		w.told[key] = now
	}
	return err
}

func (w *watch) listExpiries(ctx context.Context, now time.Time) error {
	back := 2 * listEvery
	if w.expiries.listed.IsZero() {
		// What waited for a Dovecot is not kept over a restart.
		back = firstLookBack
	}
	all, err := w.store.Expiring(ctx, now.Add(-back), now.Add(2*listEvery))
	if err != nil {
		return err
	}
	// Anew: one that was revoked meanwhile is told as that.
	near := map[string]expiry{}
	for _, c := range all {
		key := "expired " + string(c.ID)
		if _, told := w.told[key]; told {
			continue
		}
		names, err := w.names(ctx, identity.Event{Person: c.Person})
		if err != nil {
			return err
		}
		near[key] = expiry{names, c.Expires}
	}
	w.expiries = expiries{now, near}
	return nil
}
