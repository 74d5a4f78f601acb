// Package senders knows who may send as whom, and tells Postfix in two ways:
//
//	smtpd_sender_login_maps   --- socketmap ---+
//	virtual_alias_maps, ..._mailbox_maps ------+--> Book --> Store
//	smtpd_milters             --- milter ------+        \-> Counter
//
// The socketmap answers for the envelope: Postfix asks it for the owners of a sender
// address, and for the recipients and aliases there are. The milter answers for the
// message: From, Sender and Resent-From must be the sender's own, and an app password
// with limits keeps to its senders, recipients and messages an hour.
//
// Postfix asks a socketmap for the full address only. That a person also owns
// user+ext@, that "@example.org" catches what nobody else owns, and that a domain may
// come in Unicode are rules of this package.
//
// Postfix hands a milter what stands before a NUL only, so main.cf needs
// "message_reject_characters = \0" beside smtpd_milters.
//
// When the store cannot be asked the answer is "later" (TEMP, 451), never yes and never
// no. The socketmap protocol is written here because there is no library for it; the
// milter protocol is emersion/go-milter's.
package senders

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Store knows persons, addresses and rights. An error that is not
// identity.ErrNotFound means that it could not be asked.
type Store interface {
	Directory
	Rights
}

// A Directory knows who has which address.
type Directory interface {
	// Address finds an address as it stands, "@domain" for a catch-all.
	Address(ctx context.Context, address string) (identity.Address, error)
	Person(context.Context, identity.PersonID) (identity.Person, error)
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
}

// Rights are what may act for a person, those that have ended too.
type Rights interface {
	Credentials(context.Context, identity.PersonID) ([]identity.Credential, error)
	GrantsOf(context.Context, identity.PersonID) ([]identity.Grant, error)
}

// A Book answers who may send as whom and who receives.
type Book struct {
	store     Store
	delimiter string
	now       func() time.Time
	guests    bool
}

// NewBook returns a Book on the store. delimiter is Postfix's recipient_delimiter,
// usually "+"; empty: there are no extensions.
func NewBook(store Store, delimiter string, now func() time.Time) *Book {
	return &Book{store: store, delimiter: delimiter, now: now}
}

// A Who is somebody who signed in: a person, by an app password with limits or without.
type Who struct {
	Person     identity.Person
	Credential *identity.Credential // nil: no limits

	guest bool // see Guests
}

var (
	// errUnknown: nobody, or nobody any more, signs in by that name.
	errUnknown = errors.New("no such sign-in name")
	// errAmbiguous: the name is a person's and another person's app password's.
	errAmbiguous = errors.New("sign-in name means two")
)

// Login finds who stands behind the name that Postfix was told at sign-in: a person's
// address, or [identity.LoginName] of an app password with limits.
func (b *Book) Login(ctx context.Context, name string) (Who, error) {
	login, err := identity.CanonicalAddress(name)
	if err != nil {
		return Who{}, errUnknown
	}
	person, err := b.person(ctx, login)
	if err != nil {
		return Who{}, err
	}
	owner, credential, err := b.named(ctx, login)
	if err != nil {
		return Who{}, err
	}
	switch {
	case person != nil && credential != nil:
		// Either answer could give one person the other's rights.
		return Who{}, fmt.Errorf("%w: %s", errAmbiguous, login)
	case person != nil:
		return Who{Person: *person}, nil
	case credential != nil:
		return Who{Person: *owner, Credential: credential}, nil
	}
	return b.guestLogin(ctx, login)
}

// named finds an app password in force with limits by its login name: local+name@domain. Names
// hold no plus sign, so the last one ends the local part.
func (b *Book) named(ctx context.Context, login string) (*identity.Person, *identity.Credential, error) {
	local, domain, _ := strings.Cut(login, "@")
	plus := strings.LastIndexByte(local, '+')
	if plus <= 0 {
		return nil, nil, nil
	}
	person, err := b.person(ctx, local[:plus]+"@"+domain)
	if err != nil || person == nil {
		return nil, nil, err
	}
	credentials, err := b.store.Credentials(ctx, person.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range credentials {
		// A revoked one has left its name to a new one, or to a person.
		if c.Name == local[plus+1:] && c.Limited() && b.inForce(c) {
			return person, &c, nil
		}
	}
	return nil, nil, nil
}

// person finds an active person by the canonical address, nil when there is none.
func (b *Book) person(ctx context.Context, address string) (*identity.Person, error) {
	person, err := b.store.PersonByAddress(ctx, address)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case person.Address != address, !person.Disabled.IsZero():
		return nil, nil // found by an alias, which is no sign-in name here
	}
	return &person, nil
}

// Ended reports whether a right has ended since a time that a session by this name may
// stand on. A name with limits is one app password's, also of one that has left it to a
// new one; a person's own name is shared by all others and by tokens. Whoever signs in
// anew has nothing to fear from a yes.
func (b *Book) Ended(ctx context.Context, who Who, since time.Time) (bool, error) {
	credentials, err := b.store.Credentials(ctx, who.Person.ID)
	if err != nil {
		return false, err
	}
	now := b.now()
	for _, c := range credentials {
		if who.Credential != nil && c.Name != who.Credential.Name || who.Credential == nil && c.Limited() {
			continue
		}
		expired := !c.Expires.IsZero() && !now.Before(c.Expires)
		if !c.Revoked.Before(since) || expired && !c.Expires.Before(since) {
			return true, nil
		}
	}
	if who.Credential != nil {
		return false, nil
	}
	grants, err := b.store.GrantsOf(ctx, who.Person.ID)
	return slices.ContainsFunc(grants, func(g identity.Grant) bool { return !g.Revoked.Before(since) }), err
}

func (b *Book) inForce(c identity.Credential) bool {
	return c.Revoked.IsZero() && (c.Expires.IsZero() || b.now().Before(c.Expires))
}

// MaySend reports whether somebody may send as the address.
func (b *Book) MaySend(ctx context.Context, who Who, address string) (bool, error) {
	canonical, err := identity.CanonicalAddress(address)
	if err != nil || !allows(who.Credential, canonical) {
		return false, nil
	}
	if who.guest {
		return b.isGuests(ctx, canonical, who.Person.Address)
	}
	owners, err := b.owners(ctx, canonical)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(owners, func(p identity.Person) bool { return p.ID == who.Person.ID }), nil
}

// allows reports whether an app password's own list has the sender.
func allows(c *identity.Credential, canonical string) bool {
	return c == nil || len(c.Senders) == 0 || listed(c.Senders, canonical)
}

// listed reports whether a list of addresses and "@domain"s has the address.
func listed(list []string, canonical string) bool {
	_, domain, _ := strings.Cut(canonical, "@")
	return slices.ContainsFunc(list, func(entry string) bool {
		own, err := canonicalEntry(entry)
		return err == nil && (own == canonical || own == "@"+domain)
	})
}

// maxLogins bounds the answer about one sender; Postfix takes 100,000 bytes.
const maxLogins = 80_000

// Logins returns every sign-in name that may send as the address: its owners, and their
// app passwords with limits that allow it. None means that nobody may.
func (b *Book) Logins(ctx context.Context, sender string) ([]string, error) {
	canonical, err := identity.CanonicalAddress(sender)
	if err != nil {
		return nil, nil
	}
	owners, err := b.owners(ctx, canonical)
	if err != nil {
		return nil, err
	}
	var logins []string
	size := 0
	for _, person := range owners {
		logins = append(logins, person.Address)
		credentials, err := b.store.Credentials(ctx, person.ID)
		if err != nil {
			return nil, err
		}
		for _, c := range credentials {
			if c.Limited() && b.inForce(c) && allows(&c, canonical) {
				logins = append(logins, identity.LoginName(person.Address, c.Name))
			}
		}
	}
	if guest, err := b.guest(ctx, canonical); err != nil {
		return nil, err
	} else if guest != "" {
		logins = append(logins, guest)
	}
	for _, login := range logins {
		size += len(login) + 1
	}
	if size > maxLogins {
		return nil, fmt.Errorf("%d sign-in names may send as %s: more than Postfix takes", len(logins), canonical)
	}
	return logins, nil
}

// owners finds the active persons who may send as a canonical address. The nearest
// entry decides alone: who has ann+shop@ to himself does not share it with ann@, and a
// catch-all owner does not own what somebody else has.
func (b *Book) owners(ctx context.Context, canonical string) ([]identity.Person, error) {
	for _, key := range b.keys(canonical) {
		entry, err := b.store.Address(ctx, key)
		if err == nil {
			return b.active(ctx, entry, identity.RoleSend)
		}
		if !errors.Is(err, identity.ErrNotFound) {
			return nil, err
		}
		person, err := b.store.PersonByAddress(ctx, key)
		switch {
		case errors.Is(err, identity.ErrNotFound):
		case err != nil:
			return nil, err
		case person.Disabled.IsZero():
			return []identity.Person{person}, nil
		default:
			return nil, nil
		}
	}
	return nil, nil
}

// keys are the entries that can decide about an address, nearest first.
func (b *Book) keys(canonical string) []string {
	local, domain, _ := strings.Cut(canonical, "@")
	keys := []string{canonical}
	if base, _, cut := b.extension(local); cut {
		keys = append(keys, base+"@"+domain)
	}
	return append(keys, "@"+domain)
}

// extension cuts user+ext.
func (b *Book) extension(local string) (base, extension string, cut bool) {
	if b.delimiter == "" {
		return local, "", false
	}
	at := strings.IndexAny(local, b.delimiter)
	if at <= 0 {
		return local, "", false
	}
	return local[:at], local[at+1:], true
}

// active returns the persons with the role who are not disabled.
func (b *Book) active(ctx context.Context, entry identity.Address, role identity.Role) ([]identity.Person, error) {
	var persons []identity.Person
	for _, owner := range entry.Owners {
		if !owner.Has(role) {
			continue
		}
		person, err := b.store.Person(ctx, owner.Person)
		switch {
		case errors.Is(err, identity.ErrNotFound):
		case err != nil:
			return nil, err
		case person.Disabled.IsZero():
			persons = append(persons, person)
		}
	}
	return persons, nil
}
