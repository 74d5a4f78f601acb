package tokenstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// ErrBusy means that another process held an account's lock for as long as we were
// ready to wait. Trying again later can help.
var ErrBusy = errors.New("another process is busy with this account")

const defaultWait = 60 * time.Second

// Lock takes the account's lock across processes; call the function to let go. It
// waits at most s.Wait (then ErrBusy) or until ctx ends. With the lock taken it
// clears away what a killed writer of this account left behind.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path, err := s.path(name, lockSuffix)
	if err != nil {
		return nil, err
	}
	wait := s.Wait
	if wait == 0 {
		wait = defaultWait
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrBusy)
	defer cancel()
	lock, err := atomicfile.Acquire(ctx, path)
	if err != nil {
		return nil, err
	}
	s.sweep(name)
	return func() { _ = lock.Release() }, nil
}

// staleAfter is far above what any writer takes. Holding the lock is not proof
// enough that a temporary file is abandoned: sign-in writes without it.
const staleAfter = 10 * time.Minute

// sweep deletes old temporary files of name. They hold sealed text or filler, so a
// failure to delete one leaks nothing and stops nobody.
func (s *Store) sweep(name string) {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !s.temporaryOf(name, entry.Name()) {
			continue
		}
		info, err := entry.Info()
		if err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(s.folder, entry.Name()))
		}
	}
}

func (s *Store) temporaryOf(name, file string) bool {
	for _, suffix := range []string{grantSuffix, markSuffix, failureSuffix} {
		prefix := strings.TrimSuffix(atomicfile.TempPattern(EncodeName(name)+suffix), "*")
		// Digits only: an account may be called "x.age.tmp-y" beside one called "x".
		random, ok := strings.CutPrefix(file, prefix)
		if ok && strings.Trim(random, "0123456789") == "" {
			return true
		}
	}
	return false
}

// A Mark says that a refresh was begun and not yet ended. It holds no secret.
type Mark struct {
	Began    time.Time `json:"began"`
	PID      int       `json:"pid"`
	Resource string    `json:"resource"`
	Serial   int64     `json:"serial"` // of the grant that was being refreshed
}

const markLimit = 4 << 10

// SetMark writes the mark of name, durably.
func (s *Store) SetMark(name string, mark Mark) error {
	path, err := s.path(name, markSuffix)
	if err != nil {
		return err
	}
	data, err := json.Marshal(mark)
	if err != nil {
		return fmt.Errorf("write refresh mark: %w", err)
	}
	if err := atomicfile.Write(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write refresh mark: %w", err)
	}
	return nil
}

// ReadMark returns the mark of name, nil when there is none. A mark that cannot be
// understood is ErrDamaged: it still says that a refresh was begun.
func (s *Store) ReadMark(name string) (*Mark, error) {
	path, err := s.path(name, markSuffix)
	if err != nil {
		return nil, err
	}
	data, err := atomicfile.Read(path, markLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, atomicfile.ErrTooLarge) {
		return nil, fmt.Errorf("read refresh mark: %w: %w", err, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("read refresh mark: %w", err)
	}
	var mark Mark
	if err := json.Unmarshal(data, &mark); err != nil {
		return nil, fmt.Errorf("read refresh mark %s: %w: %w", path, err, ErrDamaged)
	}
	return &mark, nil
}

// ClearMark removes the mark of name.
func (s *Store) ClearMark(name string) error {
	path, err := s.path(name, markSuffix)
	if err != nil {
		return err
	}
	if err := atomicfile.Remove(path); err != nil {
		return fmt.Errorf("clear refresh mark: %w", err)
	}
	return nil
}

// failureLimit bounds the record of a failed refresh.
const failureLimit = 16 << 10

// SetFailure keeps what became of a refresh of name, for those who wait for the lock.
// What is in it is the caller's business; it must hold no secret.
func (s *Store) SetFailure(name string, record []byte) error {
	path, err := s.path(name, failureSuffix)
	if err != nil {
		return err
	}
	if len(record) > failureLimit {
		return fmt.Errorf("write failure: %w", atomicfile.ErrTooLarge)
	}
	if err := atomicfile.Write(path, record, 0o600); err != nil {
		return fmt.Errorf("write failure: %w", err)
	}
	return nil
}

// ReadFailure returns the record of name, nil when there is none.
func (s *Store) ReadFailure(name string) ([]byte, error) {
	path, err := s.path(name, failureSuffix)
	if err != nil {
		return nil, err
	}
	record, err := atomicfile.Read(path, failureLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read failure: %w", err)
	}
	return record, nil
}
