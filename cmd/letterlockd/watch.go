package main

import (
	"context"
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
}

// A watch sees what any instance or shell has taken away, by the database's generation
// and the audit trail, and has it felt: by our own caches at once, and by the sessions
// at the mail servers.
type watch struct {
	store   auditor
	changed func()                // our own caches
	revoke  func(names ...string) // the mail servers
	now     func() time.Time
	log     *slog.Logger

	generation int64
	seen       time.Time
}

// lookBack is how far before the last look events are read again: clocks of several
// instances differ, and an order that comes twice does no harm. At the start it is an
// hour, because what waited for a Dovecot is not kept over a restart.
const (
	lookBack      = 10 * time.Second
	firstLookBack = time.Hour
	watchPause    = time.Second
)

// look is one look; it is called every second.
func (w *watch) look(ctx context.Context) error {
	generation, err := w.store.Generation(ctx)
	if err != nil {
		return err
	}
	since := w.seen.Add(-lookBack)
	if w.seen.IsZero() {
		since = w.now().Add(-firstLookBack)
	} else if generation == w.generation {
		return nil
	}
	w.changed()
	now := w.now()
	if err := w.tell(ctx, since); err != nil {
		return err
	}
	w.generation, w.seen = generation, now
	return nil
}

func (w *watch) tell(ctx context.Context, since time.Time) error {
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
			if takesAway(e.Kind) {
				names := w.names(ctx, e)
				w.log.Info("rights were taken away", "kind", e.Kind, "names", names)
				w.revoke(names...)
			}
			filter.Before, filter.BeforeID = e.At, e.ID
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

// names are all names that a mail server may know the person of an event by.
func (w *watch) names(ctx context.Context, e identity.Event) []string {
	if e.Person == "" {
		// Of a person who is gone, and of an address, the trail keeps the address.
		name, _, _ := strings.Cut(e.Detail, ":")
		return []string{name}
	}
	var names []string
	if person, err := w.store.Person(ctx, e.Person); err == nil {
		names = append(names, person.Address)
	}
	if addresses, err := w.store.AddressesOf(ctx, e.Person); err == nil {
		for _, a := range addresses {
			names = append(names, a.Address)
		}
	}
	return names
}
