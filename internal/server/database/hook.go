package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Lease gives work that one instance does for all to the holder until a time, and prolongs
// it for whoever holds it; false: another holds it now.
func (db *DB) Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	if name == "" || holder == "" {
		return false, fmt.Errorf("lease without name or holder: %w", identity.ErrInvalid)
	}
	held := false
	err := db.write(ctx, "take lease", func(tx *tx) error {
		n, err := tx.exec(`INSERT INTO lease (name, holder, until) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET holder = $2, until = $3 WHERE lease.holder = $2 OR lease.until <= $4`,
			name, holder, micros(until), micros(now))
		held = n == 1
		return err
	})
	return held && err == nil, err
}

// HookMark is the time from which events wait for the hook. The first call of all sets it
// to now: what happened before there was a hook is no business of it.
func (db *DB) HookMark(ctx context.Context, now time.Time) (time.Time, error) {
	var mark time.Time
	err := db.write(ctx, "find hook mark", func(tx *tx) error {
		if _, err := tx.exec(`INSERT INTO hook_mark (id, at) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, micros(now)); err != nil {
			return err
		}
		return tx.one(`SELECT at FROM hook_mark WHERE id = 1`, nil, stamp{&mark})
	})
	return mark, err
}

// MoveHookMark says that all events before a time are done, and forgets their runs.
func (db *DB) MoveHookMark(ctx context.Context, to time.Time) error {
	return db.write(ctx, "move hook mark", func(tx *tx) error {
		if _, err := tx.exec(`UPDATE hook_mark SET at = $1 WHERE id = 1 AND at < $1`, micros(to)); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM hook_run WHERE at < $1`, micros(to))
		return err
	})
}

// HookEvents lists what happened to people and addresses since a time and is not done yet,
// the oldest first.
func (db *DB) HookEvents(ctx context.Context, since time.Time, limit int) ([]identity.Event, error) {
	var events []identity.Event
	err := db.list(ctx, "list events for the hook", `SELECT e.id, e.at, e.kind, e.person, e.actor, e.detail FROM event e
		LEFT JOIN hook_run r ON r.event = e.id
		WHERE e.at >= $1 AND (substr(e.kind, 1, 7) = 'person.' OR substr(e.kind, 1, 8) = 'address.') AND COALESCE(r.done, 0) = 0
		ORDER BY e.at, e.id LIMIT $2`, []any{micros(since), pageOf(limit)}, func() { events = nil }, func(scan func(...any) error) error {
		var e identity.Event
		err := scan(&e.ID, stamp{&e.At}, &e.Kind, &e.Person, &e.Actor, &e.Detail)
		events = append(events, e)
		return err
	})
	return events, err
}

// ClaimHook gives one event to the caller until a time and says how often it has been given
// out, this time included; identity.ErrExists: it is done, not due, or another's.
func (db *DB) ClaimHook(ctx context.Context, e identity.Event, now, until time.Time) (int, error) {
	var tries int
	err := db.write(ctx, "claim event", func(tx *tx) error {
		err := tx.returning(`INSERT INTO hook_run (event, at, tries, due, done) VALUES ($1, $2, 1, $3, 0)
			ON CONFLICT (event) DO UPDATE SET tries = hook_run.tries + 1, due = $3 WHERE hook_run.done = 0 AND hook_run.due <= $4
			RETURNING tries`, []any{e.ID, micros(e.At), micros(until), micros(now)}, &tries)
		if notThere(err) {
			return identity.ErrExists
		}
		return err
	})
	return tries, err
}

// EndHook notes how a run ended: done, or due again at a time.
func (db *DB) EndHook(ctx context.Context, event string, done bool, at time.Time) error {
	return db.write(ctx, "end run of hook", func(tx *tx) error {
		if done {
			return tx.must(`UPDATE hook_run SET done = $2 WHERE event = $1`, event, micros(at))
		}
		return tx.must(`UPDATE hook_run SET due = $2 WHERE event = $1 AND done = 0`, event, micros(at))
	})
}

// notThere reports that a statement gave no row.
func notThere(err error) bool {
	return err != nil && errors.Is(explain("", err), identity.ErrNotFound)
}
