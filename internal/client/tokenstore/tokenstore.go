// Package tokenstore keeps grants on disk, encrypted. A grant file is an age file to
// one X25519 recipient; the key sources (file, keyring, gpg, pipe) protect only the
// matching age identity. The package knows folders, files, locks and keys; what is
// inside a grant is account's business.
package tokenstore

import (
	"context"
	"errors"

	"filippo.io/age"
)

// Errors that callers branch on.
var (
	// ErrNotFound: there is no such grant.
	ErrNotFound = errors.New("no such grant")
	// ErrLocked: the key is there but locked and nobody can be asked, or did not
	// answer in time. Trying again later can help (exit code 75).
	ErrLocked = errors.New("key is locked")
	// ErrNoKey: the key source has no identity for this store, or the wrong one.
	ErrNoKey = errors.New("no key for the grants")
	// ErrDamaged: the file is no grant of this account, or was cut off or changed.
	ErrDamaged = errors.New("grant file is damaged")
)

// Keys is one key source: the keeper of the age identity that opens grants.
type Keys interface {
	// Source names it as configuration does: "file", "keyring", "gpg", "passphrase" ...
	Source() string
	// Recipient is the public half. It never asks anybody anything: writing a grant
	// must not need the key. ErrNoKey when Create was never called.
	Recipient() (age.Recipient, error)
	// Identity is the private half. It may prompt when a person is there, and ends
	// with ErrLocked otherwise, within five seconds.
	Identity(ctx context.Context) (age.Identity, error)
	// Create makes and keeps a new identity unless there is one.
	Create(ctx context.Context) error
}
