package atomicfile

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// A Lock is held by one process at a time. The system lets go of it when the
// process dies, so there is no stale lock to clear away.
type Lock struct{ file *flock.Flock }

// pollInterval bounds how long a waiter sleeps after the holder let go. flock(2)
// has no waiting call that a context could end, so waiting means asking again.
const pollInterval = 2 * time.Millisecond

// Acquire waits until it holds the lock at path or ctx ends. The file is created
// with mode 0600 and is never deleted: deleting it would let two processes hold
// locks on two files of one name.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	file := flock.New(path, flock.SetPermissions(0o600))
	locked, err := file.TryLockContext(ctx, pollInterval)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
	}
	return &Lock{file: file}, nil
}

// Release lets go of the lock.
func (l *Lock) Release() error { return l.file.Unlock() }
