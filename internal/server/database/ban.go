package database

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// PutBan keeps an entry of the deny and allow list, or replaces the one for its network.
func (db *DB) PutBan(ctx context.Context, b identity.Ban) error {
	if !b.Network.IsValid() {
		return fmt.Errorf("put ban: network: %w", identity.ErrInvalid)
	}
	return db.write(ctx, "put ban", func(tx *tx) error {
		tx.ended = true
		_, err := tx.exec(`INSERT INTO ban (network, allow, until, reason, made) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (network) DO UPDATE SET allow = $2, until = $3, reason = $4, made = $5`,
			b.Network.Masked().String(), b.Allow, micros(b.Until), b.Reason, micros(b.Made))
		return err
	})
}

// DeleteBan removes the entry for a network.
func (db *DB) DeleteBan(ctx context.Context, network netip.Prefix) error {
	return db.write(ctx, "delete ban", func(tx *tx) error {
		tx.ended = true // an entry that allows is a right
		return tx.must(`DELETE FROM ban WHERE network = $1`, network.Masked().String())
	})
}

// Bans lists all entries, those that are over too.
func (db *DB) Bans(ctx context.Context) ([]identity.Ban, error) {
	var bans []identity.Ban
	err := db.list(ctx, "list bans", `SELECT network, allow, until, reason, made FROM ban ORDER BY network`, nil,
		func() { bans = nil }, func(scan func(...any) error) error {
			var b identity.Ban
			err := scan(prefix{&b.Network}, &b.Allow, stamp{&b.Until}, &b.Reason, stamp{&b.Made})
			bans = append(bans, b)
			return err
		})
	return bans, err
}
