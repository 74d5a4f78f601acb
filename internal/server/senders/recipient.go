package senders

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A place is what a recipient address is: nothing, a mailbox, or an alias.
type place struct {
	mailbox string   // canonical; empty: not a mailbox
	targets []string // of an alias
}

// Mailbox returns the mailbox of an address, "" when it has none: the answer to
// virtual_mailbox_maps. A mailbox whose owners are all disabled is none.
func (b *Book) Mailbox(ctx context.Context, address string) (string, error) {
	p, err := b.place(ctx, address)
	return p.mailbox, err
}

// Alias returns where mail for an alias goes, none when the address is not one: the
// answer to virtual_alias_maps. Targets of ours that are disabled are left out, so that
// mail for them is refused at the door and not bounced later.
func (b *Book) Alias(ctx context.Context, address string) ([]string, error) {
	p, err := b.place(ctx, address)
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, target := range p.targets {
		dead, err := b.dead(ctx, target)
		if err != nil {
			return nil, err
		}
		if !dead && !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return targets, nil
}

// place finds what an address is, nearest entry first.
func (b *Book) place(ctx context.Context, address string) (place, error) {
	canonical, err := identity.CanonicalAddress(address)
	if err != nil {
		return place{}, nil
	}
	for _, key := range b.keys(canonical) {
		entry, err := b.store.Address(ctx, key)
		if err == nil {
			return b.read(ctx, key, entry)
		}
		if !errors.Is(err, identity.ErrNotFound) {
			return place{}, err
		}
		person, err := b.store.PersonByAddress(ctx, key)
		switch {
		case errors.Is(err, identity.ErrNotFound):
		case err != nil:
			return place{}, err
		case person.Disabled.IsZero():
			return place{mailbox: person.Address}, nil
		default:
			return place{}, nil
		}
	}
	return place{}, nil
}

// read makes a place of an entry.
func (b *Book) read(ctx context.Context, key string, entry identity.Address) (place, error) {
	if len(entry.Targets) > 0 {
		targets := make([]string, 0, len(entry.Targets))
		for _, target := range entry.Targets {
			// A comma or a space in a target would be two to Postfix.
			if canonical, err := identity.CanonicalAddress(target); err == nil {
				targets = append(targets, canonical)
			}
		}
		return place{targets: targets}, nil
	}
	owners, err := b.active(ctx, entry, identity.RoleLogin)
	if err != nil {
		return place{}, err
	}
	switch {
	case strings.HasPrefix(key, "@"):
		// A catch-all without targets only gives senders: it has no mailbox.
		return place{}, nil
	case len(owners) == 0 && hasLogin(entry):
		return place{}, nil // all of them are disabled
	}
	return place{mailbox: key}, nil
}

func hasLogin(entry identity.Address) bool {
	return slices.ContainsFunc(entry.Owners, func(o identity.Owner) bool { return o.Has(identity.RoleLogin) })
}

// dead reports whether a target is an address of ours that takes no mail now.
func (b *Book) dead(ctx context.Context, target string) (bool, error) {
	local, domain, _ := strings.Cut(target, "@")
	base, _, _ := b.extension(local)
	for _, key := range []string{target, base + "@" + domain} {
		entry, err := b.store.Address(ctx, key)
		if err == nil {
			p, err := b.read(ctx, key, entry)
			return p.mailbox == "" && len(p.targets) == 0, err
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
	return false, nil // somebody else's
}
