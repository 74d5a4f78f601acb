//go:build unix

package queue

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// rescanEvery finds what the wake pipe did not tell: it is full, or the process that
// put an entry died before telling.
const rescanEvery = time.Minute

// renamesOpenFiles: a file can be given its name while it is open and locked.
const renamesOpenFiles = true

// tryLock takes the lock of an open file; it ends with the file or the process.
// The lock is on the file we read and write: a lock by name could be on a file that
// was removed and made anew.
func tryLock(file *os.File) (bool, error) {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // some network file systems cannot, and say so
	}
	return err
}

// wake tells a running drainer of an entry. Nobody listens: nothing lost, the next
// drainer reads the folder.
func (q *Queue) wake(id ID) {
	q.toDrainer(func(pipe int) {
		// Shorter than PIPE_BUF, so it arrives whole.
		_, _ = syscall.Write(pipe, []byte(string(id)+"\n"))
	})
}

// Attended says whether a process drains the queue right now that will see every
// entry put before: it hears of it, or looks through the folder once more when it has
// let go of the lock, which it does after it has closed the pipe.
func (q *Queue) Attended() bool {
	attended := false
	q.toDrainer(func(int) { attended = true })
	return attended
}

// toDrainer opens the pipe for writing, which fails when nobody reads.
func (q *Queue) toDrainer(do func(pipe int)) {
	// Not through os.File: a write to a full pipe would wait there, and a full pipe
	// must not stop a Put.
	pipe, err := syscall.Open(filepath.Join(q.folder, "wake"), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = syscall.Close(pipe) }()
	var info syscall.Stat_t
	if err := syscall.Fstat(pipe, &info); err != nil || info.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return
	}
	do(pipe)
}

// listen opens the pipe. Reading and writing, so that it has no end of file.
func (q *Queue) listen() (*os.File, error) {
	path := filepath.Join(q.folder, "wake")
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
}
