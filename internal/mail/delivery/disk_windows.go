package delivery

import (
	"errors"
	"syscall"
)

// isFull reports a disk that is used up: ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL.
func isFull(err error) bool {
	return errors.Is(err, syscall.Errno(39)) || errors.Is(err, syscall.Errno(112))
}

// syncFolder: a folder cannot be opened for syncing here.
func syncFolder(string) error { return nil }
