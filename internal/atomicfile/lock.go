package atomicfile

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// A Lock is held by one process at a time. The system lets go of it when the
// process dies, so there is no stale lock to clear away. It also keeps two
// goroutines of one process apart.
type Lock struct{ file *flock.Flock }

// flock(2) has no waiting call that a context could end, so waiting means asking
// again: often at first, then at a tenth of the time already waited. Sixty waiters
// that ask every millisecond would take the processor from the one they wait for.
const (
	firstPause = time.Millisecond
	lastPause  = 20 * time.Millisecond
)

// Acquire waits until it holds the lock at path or ctx ends; then the error is
// context.Cause(ctx). The file is created with mode 0600 and is never deleted:
// deleting it would let two processes hold locks on two files of one name.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	file := flock.New(path, flock.SetPermissions(0o600))
	began := time.Now()
	for {
		locked, err := file.TryLock() // closes the file again unless it locked it
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if locked {
			return &Lock{file: file}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-time.After(pause(time.Since(began))):
		}
	}
}

func pause(waited time.Duration) time.Duration {
	return min(max(waited/10, firstPause), lastPause)
}

// Release lets go of the lock.
func (l *Lock) Release() error { return l.file.Unlock() }
