package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// maxOnce bounds what a one-time thing may carry.
const maxOnce = 64 << 10

// PutOnce keeps something that is taken once: an invitation, a used TOTP step. ErrExists
// while one of the same digest and kind is there that has not expired.
func (db *DB) PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error {
	if len(data) > maxOnce {
		return fmt.Errorf("put once: %d bytes: %w", len(data), identity.ErrInvalid)
	}
	if data == nil {
		data = []byte{}
	}
	now := micros(db.o.Now())
	return db.write(ctx, "put once", func(tx *tx) error {
		n, err := tx.exec(`INSERT INTO once (digest, kind, data, expires) VALUES ($1, $2, $3, $4)
			ON CONFLICT (digest, kind) DO UPDATE SET data = $3, expires = $4 WHERE once.expires <= $5`,
			digest[:], kind, data, micros(expires), now)
		if err == nil && n == 0 {
			return identity.ErrExists
		}
		return err
	})
}

// TakeOnce returns it and deletes it: of any number of calls at once exactly one gets it.
func (db *DB) TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error) {
	var data []byte
	err := db.write(ctx, "take once", func(tx *tx) error {
		return tx.one(`DELETE FROM once WHERE digest = $1 AND kind = $2 AND expires > $3 RETURNING data`,
			[]any{digest[:], kind, micros(now)}, &data)
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}
