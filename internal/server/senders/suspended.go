package senders

import (
	"context"
	"errors"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Suspended reports whether an address is a mailbox that takes no mail only because
// everybody who may open it is disabled. Such a mailbox may be back tomorrow, which a
// postmaster may want senders to wait for.
func (b *Book) Suspended(ctx context.Context, address string) (bool, error) {
	canonical, err := identity.CanonicalAddress(address)
	if err != nil {
		return false, nil
	}
	for _, key := range b.keys(canonical) {
		entry, err := b.store.Address(ctx, key)
		if err == nil {
			if len(entry.Targets) > 0 || strings.HasPrefix(key, "@") || !hasLogin(entry) {
				return false, nil
			}
			owners, err := b.active(ctx, entry, identity.RoleLogin)
			return err == nil && len(owners) == 0, err
		}
		if !errors.Is(err, identity.ErrNotFound) {
			return false, err
		}
		person, err := b.store.PersonByAddress(ctx, key)
		if err == nil {
			return !person.Disabled.IsZero(), nil
		}
		if !errors.Is(err, identity.ErrNotFound) {
			return false, err
		}
	}
	return false, nil
}
