package senders

import (
	"context"
	"errors"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Guests makes the Book know people who sign in by somebody else's word (Kerberos, PAM,
// LDAP) and stand in no list of ours: each owns the address that is the sign-in name, with
// its extensions, and nothing more. What the store knows belongs to those whom it names, and
// to nobody else, disabled ones included. It changes the Book, and is for before its first
// use.
func (b *Book) Guests() { b.guests = true }

// guest is the sign-in name that owns an address nobody here knows; empty: it is known, or
// there are no guests.
func (b *Book) guest(ctx context.Context, canonical string) (string, error) {
	if !b.guests {
		return "", nil
	}
	local, domain, _ := strings.Cut(canonical, "@")
	if local == "" {
		return "", nil
	}
	keys := b.keys(canonical)
	for _, key := range keys[:len(keys)-1] { // a catch-all knows nobody in particular
		for _, look := range []func() error{
			func() error { _, err := b.store.Address(ctx, key); return err },
			func() error { _, err := b.store.PersonByAddress(ctx, key); return err },
		} {
			err := look()
			if err == nil {
				return "", nil
			}
			if !errors.Is(err, identity.ErrNotFound) {
				return "", err
			}
		}
	}
	base, _, _ := b.extension(local)
	return base + "@" + domain, nil
}

// guestLogin is a sign-in name that is nobody's here. One with an extension is none: it
// would be the name of an app password, past ones included.
func (b *Book) guestLogin(ctx context.Context, login string) (Who, error) {
	owner, err := b.guest(ctx, login)
	switch {
	case err != nil:
		return Who{}, err
	case owner != login:
		return Who{}, errUnknown
	}
	return Who{Person: identity.Person{Address: login}, guest: true}, nil
}

func (b *Book) isGuests(ctx context.Context, canonical, login string) (bool, error) {
	owner, err := b.guest(ctx, canonical)
	return owner == login && owner != "", err
}
