package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// What belongs to the account "you@example.org", in the store's folder:
//
//	you@example.org.age         the grant, sealed
//	you@example.org.lock        the lock, empty, never deleted
//	you@example.org.refresh     the mark while a refresh is under way
//	you@example.org.failed      what the provider said to the last refresh that failed
//	.you@example.org.age.tmp-*  a grant being written, or left by a killed writer
const (
	grantSuffix   = ".age"
	lockSuffix    = ".lock"
	markSuffix    = ".refresh"
	failureSuffix = ".failed"
)

// A Store is a folder of grant files.
type Store struct {
	// Wait bounds how long a Lock is waited for; 0 means 60 s.
	Wait time.Duration

	folder string
}

// Open makes sure that folder is private (0700, ours, no link) and returns the store.
// It is created when missing.
func Open(folder string) (*Store, error) {
	if err := atomicfile.PrivateFolder(folder); err != nil {
		return nil, fmt.Errorf("open token store: %w", err)
	}
	return &Store{folder: folder}, nil
}

// OpenExisting is Open for those who only look, or change what is there: a folder
// that is missing is not made, and is a store without grants.
func OpenExisting(folder string) (*Store, error) {
	if err := atomicfile.CheckFolder(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open token store: %w", err)
	}
	return &Store{folder: folder}, nil
}

// Names lists the accounts that have a grant, sorted. Files that are no grants, as
// leftovers of a killed writer, are not looked at.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	names := []string{}
	for _, entry := range entries {
		encoded, ok := strings.CutSuffix(entry.Name(), grantSuffix)
		if !ok || !entry.Type().IsRegular() {
			continue
		}
		if name, err := DecodeName(encoded); err == nil && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Read opens the grant of name. ErrNotFound, ErrDamaged, ErrLocked, ErrNoKey, and
// atomicfile.ErrNotPrivate.
func (s *Store) Read(ctx context.Context, name string, keys Keys) ([]byte, error) {
	path, err := s.path(name, grantSuffix)
	if err != nil {
		return nil, err
	}
	sealed, err := atomicfile.Read(path, sealedLimit)
	if errors.Is(err, atomicfile.ErrTooLarge) {
		return nil, fmt.Errorf("read grant: %w: %w", err, ErrDamaged)
	}
	// Only now the key: nobody shall be asked for a passphrase for a grant that is not there.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", err)
	}
	identity, err := keys.Identity(ctx)
	if err != nil {
		return nil, fmt.Errorf("key source %s: %w", keys.Source(), err)
	}
	plain, err := open(name, identity, sealed)
	if err != nil {
		return nil, fmt.Errorf("read grant %s: %w", path, err)
	}
	return plain, nil
}

// Write replaces the grant of name, durably.
func (s *Store) Write(name string, keys Keys, plain []byte) error {
	room, err := s.reserve(name, keys, 0)
	if err != nil {
		return err
	}
	return room.Commit(plain)
}

// generousGrant is the room kept for a grant that was small so far: a refresh may
// add an access token for another resource, and some providers' are over 10 KB.
const generousGrant = 32 << 10

// Reserve proves that the store is writable and keeps room for a grant of name, so
// that nothing but a crash can fail between the token request and its Commit.
func (s *Store) Reserve(name string, keys Keys) (*Room, error) {
	path, err := s.path(name, grantSuffix)
	if err != nil {
		return nil, err
	}
	size := int64(generousGrant)
	if info, err := os.Lstat(path); err == nil {
		size = min(max(size, info.Size()+generousGrant/2), sealedLimit)
	}
	return s.reserve(name, keys, size)
}

func (s *Store) reserve(name string, keys Keys, size int64) (*Room, error) {
	path, err := s.path(name, grantSuffix)
	if err != nil {
		return nil, err
	}
	recipient, err := keys.Recipient()
	if err != nil {
		return nil, fmt.Errorf("key source %s: %w", keys.Source(), err)
	}
	reservation, err := atomicfile.Reserve(path, size, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write grant: %w", err)
	}
	return &Room{name: name, recipient: recipient, reservation: reservation}, nil
}

// A Room is reserved room for one grant. Deferring Abort is safe.
type Room struct {
	name        string
	recipient   age.Recipient
	reservation *atomicfile.Reservation
}

// Commit seals plain into the room and puts it in place, durably. A grant larger
// than the room is written as well if the disk can take it. On an error the old
// grant is still there, unless it is an atomicfile.ErrUnsynced: then the new one is,
// and only a power cut could bring the old one back.
func (r *Room) Commit(plain []byte) error {
	sealed, err := seal(r.name, r.recipient, plain)
	if err != nil {
		r.Abort()
		return fmt.Errorf("seal grant: %w", err)
	}
	if err := r.reservation.Commit(sealed); err != nil {
		return fmt.Errorf("write grant: %w", err)
	}
	return nil
}

// Abort gives the room back and leaves the grant as it was. After a Commit it does
// nothing.
func (r *Room) Abort() { r.reservation.Abort() }

// Remove deletes the grant of name and what is kept beside it, the grant first: a mark
// without a grant says nothing, a grant without its mark would hide a refresh that
// broke off.
// The lock file stays, see atomicfile.Acquire. Removing nothing is no error.
func (s *Store) Remove(name string) error {
	for _, suffix := range []string{grantSuffix, markSuffix, failureSuffix} {
		path, err := s.path(name, suffix)
		if err != nil {
			return err
		}
		if err := atomicfile.Remove(path); err != nil {
			return fmt.Errorf("remove grant: %w", err)
		}
	}
	return nil
}

func (s *Store) path(name, suffix string) (string, error) {
	encoded, err := checkName(name)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.folder, encoded+suffix), nil
}
