package database

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// AddEvent appends to the audit trail. There is no method that changes or deletes one.
func (db *DB) AddEvent(ctx context.Context, e identity.Event) error {
	if e.ID == "" {
		id, err := identity.NewID(db.o.Random, e.At)
		if err != nil {
			return err
		}
		e.ID = id
	}
	return db.write(ctx, "add event", func(tx *tx) error { return tx.next(e) })
}

// next adds a line after those that the transaction has added: several are a microsecond
// apart, because ids order nothing, and the hook goes by the order.
func (t *tx) next(e identity.Event) error {
	e.At = e.At.Add(time.Duration(t.noted) * time.Microsecond)
	t.noted++
	return t.addEvent(e)
}

// AddNewEvents appends those events whose ids are not there yet, in one transaction, and
// tells which they were.
func (db *DB) AddNewEvents(ctx context.Context, events []identity.Event) (added []bool, err error) {
	err = db.write(ctx, "add new events", func(tx *tx) error {
		added = make([]bool, len(events))
		for i, e := range events {
			if e.ID == "" {
				return fmt.Errorf("event without an id: %w", identity.ErrInvalid)
			}
			n, err := tx.exec(insertEvent+` ON CONFLICT (id) DO NOTHING`, eventArgs(e)...)
			if err != nil {
				return err
			}
			added[i] = n > 0
		}
		return nil
	})
	return added, err
}

const insertEvent = `INSERT INTO event (id, at, kind, person, actor, origin, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)`

func eventArgs(e identity.Event) []any {
	return []any{e.ID, micros(e.At), e.Kind, string(e.Person), e.Actor, addrText(e.From), e.Detail}
}

func (t *tx) addEvent(e identity.Event) error {
	_, err := t.exec(insertEvent, eventArgs(e)...)
	return err
}

// Events lists events, the newest first.
func (db *DB) Events(ctx context.Context, filter identity.EventFilter) ([]identity.Event, error) {
	before := int64(math.MaxInt64)
	if !filter.Before.IsZero() {
		before = micros(filter.Before)
	}
	text, args := eventQuery(filter), []any{before, filter.BeforeID, filter.Kind, pageOf(filter.Limit)}
	if filter.Person != "" {
		args = append(args, string(filter.Person))
	}
	var events []identity.Event
	err := db.list(ctx, "list events", text, args, func() { events = nil }, func(scan func(...any) error) error {
		var e identity.Event
		var from netip.Addr
		err := scan(&e.ID, stamp{&e.At}, &e.Kind, &e.Person, &e.Actor, addr{&from}, &e.Detail)
		e.From = from
		events = append(events, e)
		return err
	})
	return events, err
}

// eventQuery has a text for each index; LIKE would take "_" and "%" of a kind for patterns.
func eventQuery(filter identity.EventFilter) string {
	text := `SELECT id, at, kind, person, actor, origin, detail FROM event
		WHERE (at < $1 OR at = $1 AND id < $2) AND substr(kind, 1, length($3)) = $3`
	if filter.Person != "" {
		text += ` AND person = $5`
	}
	return text + ` ORDER BY at DESC, id DESC LIMIT $4`
}
