//go:build windows

package queue

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// rescanEvery is short: there is no pipe to hear of changes.
const rescanEvery = 5 * time.Second

// renamesOpenFiles: a file must be closed before it can get its name.
const renamesOpenFiles = false

func tryLock(file *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

func syncFolder(string) error { return nil }

func (q *Queue) wake(ID) {}

// Attended cannot be known here: a second drainer finds the lock taken.
func (q *Queue) Attended() bool { return false }

func (q *Queue) listen() (*os.File, error) { return nil, nil }
