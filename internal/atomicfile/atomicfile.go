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

// ErrTooLarge means that a file is larger than its reader allows.
var ErrTooLarge = errors.New("file too large")

// ErrUnsynced means that the new content is in place, but that the folder could not
// be synced after it: readers see the new file, a power cut may bring the old one
// back. Trying the whole write again is safe.
var ErrUnsynced = errors.New("in place, but not known to be on disk")

// Write replaces the file at path by data, durably: when it returns nil the new
// content survives a power cut, when it returns an error the old content is still
// there (but for ErrUnsynced).
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
	over bool // committed or given back
}

// TempPattern is the glob, in path's folder, of the temporary files that a Write or
// Reserve of path makes and that a killed process leaves behind.
func TempPattern(path string) string { return tempPrefix(path) + "*" }

func tempPrefix(path string) string { return "." + filepath.Base(path) + ".tmp-" }

// Reserve writes and syncs size bytes of filler beside path, so that a later Commit
// of at most that size needs no new disk blocks (copy-on-write file systems give no
// such promise; there it proves that the folder can be written).
func Reserve(path string, size int64, perm fs.FileMode) (*Reservation, error) {
	file, err := os.CreateTemp(filepath.Dir(path), tempPrefix(path)+"*")
	if err != nil {
		return nil, fmt.Errorf("reserve room for %s: %w", path, err)
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
// Data larger than the room is written too if the disk has room for it. The
// reservation is used up whatever Commit returns.
func (r *Reservation) Commit(data []byte) error {
	if r.over {
		return fmt.Errorf("write %s: %w", r.path, fs.ErrClosed)
	}
	if err := r.place(data); err != nil {
		r.Abort()
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	r.over = true // the temporary name is free now and may become another writer's
	if err := syncFolder(filepath.Dir(r.path)); err != nil {
		return fmt.Errorf("write %s: %w: %w", r.path, ErrUnsynced, err)
	}
	return nil
}

// place does everything up to the rename, before which nothing has changed.
func (r *Reservation) place(data []byte) error {
	// Overwriting first and cutting after it keeps the reserved blocks ours.
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
	return os.Rename(r.file.Name(), r.path)
}

// Abort gives the room back and leaves the file as it was. After a Commit it does
// nothing, so it can be deferred.
func (r *Reservation) Abort() {
	if r.over {
		return
	}
	r.over = true
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
	// Asked of the open file and not of the name, which may mean another file by now.
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, wrongKind(path, "file")
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return readLimited(file, path, info.Size(), limit)
}

// ErrNotRegular means that something else than a file is there: a FIFO, a device, a folder.
var ErrNotRegular = errors.New("no regular file")

// OpenRegular opens a file for reading. It follows symbolic links, and refuses what is no
// regular file without waiting: os.Open of a FIFO that nobody writes to never returns.
func OpenRegular(path string) (*os.File, error) {
	file, err := openAtOnce(path)
	if err != nil {
		return nil, err
	}
	// Asked of the open file and not of the name, which may mean another file by now.
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// ReadRegular reads a file of at most limit bytes, as OpenRegular opens it.
func ReadRegular(path string, limit int64) ([]byte, error) {
	file, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readLimited(file, path, 0, limit)
}

func readLimited(file io.Reader, path string, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%s: over %d bytes: %w", path, limit, ErrTooLarge)
	}
	// The size may lie (it grows while we read): the limit must not depend on it.
	data := make([]byte, 0, size+1)
	for {
		n, err := file.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if int64(len(data)) > limit {
			return nil, fmt.Errorf("%s: over %d bytes: %w", path, limit, ErrTooLarge)
		}
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}
