package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An auditor is where a watch learns what was taken away.
type auditor interface {
	Generation(ctx context.Context) (int64, error)
	Events(ctx context.Context, filter identity.EventFilter) ([]identity.Event, error)
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
	AddressesOf(ctx context.Context, id identity.PersonID) ([]identity.Address, error)
	Expiring(ctx context.Context, after, until time.Time) ([]identity.Credential, error)
}

// A watch sees what any instance or shell has taken away, by the audit trail, and has it
// felt by the sessions at the mail servers; and by the database's generation, and has it
// felt by our own caches.
//
// The two are asked apart, and not every change shares a transaction with its line (the
// authorization server's do not), so that either can be seen without the other: the line
// is told when it is new, and once more when the generation has changed since, for a
// session can come back in between.
type watch struct {
	store   auditor
	changed func()                // our own caches
	revoke  func(names ...string) // the mail servers
	now     func() time.Time
	log     *slog.Logger

	looked     bool
	generation int64
	told       map[string]time.Time // ids of events within lookBack, and of what has expired
	expiries   expiries
}

// lookBack is how far back events are read each time: clocks of several instances differ,
// and an order that comes twice does no harm. At the start it is an hour, because what
// waited for a Dovecot is not kept over a restart.
const (
	lookBack      = 2 * time.Minute
	firstLookBack = time.Hour
	// settles is how old, by the clock here, an event is told again for when the
	// generation changes.
	settles    = 20 * time.Second
	watchPause = time.Second
)

// look is one look; it is called every second.
func (w *watch) look(ctx context.Context) error {
	if w.told == nil {
		w.told = map[string]time.Time{}
	}
	return errors.Join(w.see(ctx), w.expire(ctx))
}

// see looks for what was taken away.
func (w *watch) see(ctx context.Context) error {
	generation, err := w.store.Generation(ctx)
	if err != nil {
		return err
	}
	changed := !w.looked || generation != w.generation
	if changed {
		w.changed()
	}
	since := w.now().Add(-lookBack)
	if !w.looked {
		since = w.now().Add(-firstLookBack)
	}
	if err := w.tell(ctx, since, changed); err != nil {
		return err
	}
	w.generation, w.looked = generation, true
	for id, at := range w.told {
		if at.Before(w.now().Add(-2 * firstLookBack)) {
			delete(w.told, id)
		}
	}
	return nil
}

func (w *watch) tell(ctx context.Context, since time.Time, changed bool) error {
	filter := identity.EventFilter{Limit: 200}
	for {
		page, err := w.store.Events(ctx, filter)
		if err != nil {
			return err
		}
		for _, e := range page {
			if e.At.Before(since) {
				return nil
			}
			filter.Before, filter.BeforeID = e.At, e.ID
			if !takesAway(e.Kind) {
				continue
			}
			first, told := w.told[e.ID]
			if told && !(changed && w.now().Sub(first) < settles) {
				continue
			}
			names, err := w.names(ctx, e)
			if err != nil {
				return err // and it is not told yet
			}
			w.log.Info("rights were taken away", "kind", e.Kind, "names", names)
			w.revoke(names...)
			if !told {
				w.told[e.ID] = w.now()
			}
		}
		if len(page) < filter.Limit {
			return nil
		}
	}
}

// takesAway: after such an event an open session may stand on a right that is gone.
func takesAway(kind string) bool {
	switch kind {
	case "credential.revoked", "grant.revoked", "person.disabled", "person.removed", "address.changed", "address.removed":
		return true
	}
	return false
}

// names are all names that a mail server may know the person of an event by. One that is gone
// has none; a database that does not answer is no such thing.
func (w *watch) names(ctx context.Context, e identity.Event) ([]string, error) {
	if e.Person == "" {
		// Of a person who is gone, and of an address, the trail keeps the addresses.
		text, _, _ := strings.Cut(e.Detail, ":")
		return strings.Fields(text), nil
	}
	var names []string
	person, err := w.store.Person(ctx, e.Person)
	switch {
	case errors.Is(err, identity.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		names = append(names, person.Address)
	}
	addresses, err := w.store.AddressesOf(ctx, e.Person)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	for _, a := range addresses {
		names = append(names, a.Address)
	}
	return names, nil
}
