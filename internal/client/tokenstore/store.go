package tokenstore

import (
	"context"
	"errors"
	"time"
)

var errStub = errors.New("not written yet")

// A Store is a folder of grant files.
type Store struct {
	// Wait bounds how long a Lock is waited for; 0 means 60 s.
	folder string
}

// Open makes sure that folder is private (0700, ours, no link) and returns the store.
// It is created when missing.
func Open(folder string) (*Store, error) { return &Store{folder: folder}, errStub }

// Names lists the accounts that have a grant, sorted.
func (s *Store) Names() ([]string, error) { return nil, errStub }

// Read opens the grant of name. ErrNotFound, ErrDamaged, ErrLocked, ErrNoKey.
func (s *Store) Read(ctx context.Context, name string, keys Keys) ([]byte, error) {
	return nil, errStub
}

// Write replaces the grant of name, durably.
func (s *Store) Write(name string, keys Keys, plain []byte) error { return errStub }

// Reserve proves that the store is writable and keeps room for a grant of name, so
// that nothing but a crash can fail between the token request and its Commit.
func (s *Store) Reserve(name string, keys Keys) (*Room, error) { return nil, errStub }

// A Room is reserved room for one grant.
type Room struct{}

// Commit seals plain into the room and puts it in place, durably.
func (r *Room) Commit(plain []byte) error { return errStub }

// Abort gives the room back and leaves the grant as it was.
func (r *Room) Abort() {}

// Remove deletes the grant of name and its mark.
func (s *Store) Remove(name string) error { return errStub }

// Lock takes the account's lock across processes; call the function to let go.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	return nil, errStub
}

// A Mark says that a refresh was begun and not yet ended. It holds no secret.
type Mark struct {
	Began    time.Time `json:"began"`
	PID      int       `json:"pid"`
	Resource string    `json:"resource"`
	Serial   int64     `json:"serial"` // of the grant that was being refreshed
}

// SetMark writes the mark of name, durably. ReadMark returns nil when there is none.
func (s *Store) SetMark(name string, mark Mark) error { return errStub }

// ReadMark returns the mark of name, nil when there is none.
func (s *Store) ReadMark(name string) (*Mark, error) { return nil, errStub }

// ClearMark removes the mark of name.
func (s *Store) ClearMark(name string) error { return errStub }
