package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const deviceColumns = `digest, user_code, client, scopes, origin, created, expires, poll_every, last_poll, state, consent, auth_time`

func deviceInto(d *identity.DeviceRequest) []any {
	return []any{digest{&d.Digest}, digest{&d.UserCode}, &d.Client, list[string]{&d.Scopes, bySpace}, &d.From,
		stamp{&d.Created}, stamp{&d.Expires}, duration{&d.Interval}, stamp{&d.LastPoll}, &d.State, &d.Grant, stamp{&d.AuthTime}}
}

// AddDevice keeps a device request whose user code is free.
func (db *DB) AddDevice(ctx context.Context, d identity.DeviceRequest) error {
	scopes, err := joined(d.Scopes, bySpace)
	if err != nil {
		return fmt.Errorf("add device request: %w", err)
	}
	return db.write(ctx, "add device request", func(tx *tx) error {
		taken, err := tx.there(`SELECT 1 FROM device WHERE user_code = $1 AND expires > $2`, d.UserCode[:], micros(d.Created))
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("user code: %w", identity.ErrExists)
		}
		_, err = tx.exec(`INSERT INTO device (`+deviceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			d.Digest[:], d.UserCode[:], string(d.Client), scopes, d.From, micros(d.Created), micros(d.Expires),
			d.Interval.Microseconds(), micros(d.LastPoll), string(d.State), string(d.Grant), micros(d.AuthTime))
		return err
	})
}

// FindDevice finds the living request that waits under a user code.
func (db *DB) FindDevice(ctx context.Context, userCode identity.Digest, now time.Time) (identity.DeviceRequest, error) {
	var d identity.DeviceRequest
	err := db.one(ctx, "find device request", `SELECT `+deviceColumns+` FROM device
		WHERE user_code = $1 AND expires > $2 ORDER BY created DESC LIMIT 1`, []any{userCode[:], micros(now)}, deviceInto(&d)...)
	return d, err
}

func (t *tx) device(digest identity.Digest) (identity.DeviceRequest, error) {
	var d identity.DeviceRequest
	err := t.one(`SELECT `+deviceColumns+` FROM device WHERE digest = $1`, []any{digest[:]}, deviceInto(&d)...)
	return d, err
}

// DecideDevice writes a person's answer: with a grant approved, without denied.
func (db *DB) DecideDevice(ctx context.Context, digest identity.Digest, signedIn time.Time, grant *identity.Grant) error {
	return db.write(ctx, "decide device request", func(tx *tx) error {
		d, err := tx.device(digest)
		if err != nil {
			return err
		}
		if d.State != identity.DevicePending {
			return identity.ErrDecided
		}
		if grant == nil {
			return tx.must(`UPDATE device SET state = $2 WHERE digest = $1`, digest[:], string(identity.DeviceDenied))
		}
		if err := tx.addGrant(*grant); err != nil {
			return err
		}
		return tx.must(`UPDATE device SET state = $2, consent = $3, auth_time = $4 WHERE digest = $1`,
			digest[:], string(identity.DeviceApproved), string(grant.ID), micros(signedIn))
	})
}

// PollDevice lets the request note a poll; it returns it as it was before.
func (db *DB) PollDevice(ctx context.Context, digest identity.Digest, client identity.ClientID, at time.Time) (before identity.DeviceRequest, tooSoon bool, err error) {
	err = db.write(ctx, "poll device request", func(tx *tx) error {
		if before, err = tx.device(digest); err != nil {
			return err
		}
		if before.Client != client {
			return identity.ErrNotFound
		}
		after := before
		tooSoon = after.Poll(at)
		return tx.must(`UPDATE device SET state = $2, last_poll = $3, poll_every = $4 WHERE digest = $1`,
			digest[:], string(after.State), micros(after.LastPoll), after.Interval.Microseconds())
	})
	if err != nil {
		return identity.DeviceRequest{}, false, err
	}
	return before, tooSoon, nil
}
