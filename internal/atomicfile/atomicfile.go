// Package atomicfile writes files that are either the old ones or the new ones
// whatever happens, keeps folders private, and locks across processes.
//
// The order is the usual one: a temporary file in the same folder, fsync, rename,
// fsync of the folder. google/renameio leaves out the last step and does not build
// on Windows, natefinch/atomic is from 2021; both would still leave the private
// folder and the reservation to us. The lock is gofrs/flock.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotPrivate means that others than the owner may read or change a file or
// folder that must be private, that it belongs to somebody else, or that it is not
// what it should be (a symbolic link, a device).
var ErrNotPrivate = errors.New("not private")

// ErrTooLarge means that a file is larger than its reader allows.
var ErrTooLarge = errors.New("file too large")

// Write replaces the file at path by data, durably: when it returns nil the new
// content survives a power cut, when it returns an error the old content is still
// there.
func Write(path string, data []byte, perm fs.FileMode) error {
	reservation, err := Reserve(path, 0, perm)
	if err != nil {
		return err
	}
	return reservation.Commit(data)
}

// Remove deletes the file at path durably. A file that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// A Reservation is room on disk for a file that will be written in a moment. It
// lets a caller find out that a disk is full or read-only before doing what cannot
// be undone, and not after.
type Reservation struct {
	file *os.File
	path string
}

// Reserve writes and syncs size bytes of filler beside path, so that a later Commit
// of at most that size needs no new disk blocks (copy-on-write file systems give no
// such promise; there it proves that the folder can be written).
func Reserve(path string, size int64, perm fs.FileMode) (*Reservation, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, err
	}
	r := &Reservation{file: file, path: path}
	if err := r.fill(size, perm); err != nil {
		r.Abort()
		return nil, fmt.Errorf("reserve room for %s: %w", path, err)
	}
	return r, nil
}

func (r *Reservation) fill(size int64, perm fs.FileMode) error {
	if err := r.file.Chmod(perm); err != nil {
		return err
	}
	if size == 0 {
		return nil
	}
	// Real bytes: a hole or a fallocate that the file system emulates by a larger
	// size would promise room that is not there.
	if _, err := r.file.Write(filler(size)); err != nil {
		return err
	}
	return r.file.Sync()
}

// filler returns bytes that a compressing file system cannot shrink away.
func filler(size int64) []byte {
	data := make([]byte, size)
	state := uint32(2463534242)
	for i := range data {
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		data[i] = byte(state)
	}
	return data
}

// Commit writes data into the reserved room and puts it in the place of the file.
// The reservation is used up whatever it returns.
func (r *Reservation) Commit(data []byte) error {
	if err := r.commit(data); err != nil {
		r.Abort()
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	return nil
}

func (r *Reservation) commit(data []byte) error {
	if _, err := r.file.WriteAt(data, 0); err != nil {
		return err
	}
	if err := r.file.Truncate(int64(len(data))); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := r.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(r.file.Name(), r.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(r.path))
}

// Abort gives the room back and leaves the file as it was. After a Commit it does
// nothing.
func (r *Reservation) Abort() {
	_ = r.file.Close()
	_ = os.Remove(r.file.Name())
}

// Read reads a private file of at most limit bytes. It follows no symbolic link and
// refuses, with ErrNotPrivate, a file that others may read or write or that belongs
// to another user.
func Read(path string, limit int64) ([]byte, error) {
	file, err := openNoFollow(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %w", path, ErrNotPrivate)
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return readLimited(file, path, limit)
}

func readLimited(file *os.File, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: over %d bytes: %w", path, limit, ErrTooLarge)
	}
	return data, nil
}

// PrivateFolder makes sure that path is a folder of mode 0700 that belongs to the
// caller. It creates missing folders (the parents too, with 0700), and refuses, with
// ErrNotPrivate, one that is there with looser rights: silently tightening it would
// hide that somebody may have read it.
func PrivateFolder(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createFolder(path)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder: %w", path, ErrNotPrivate)
	}
	return checkPrivate(path, info)
}

func createFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
