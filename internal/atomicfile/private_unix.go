//go:build unix

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openNoFollow opens for reading. O_NONBLOCK keeps a planted FIFO from hanging us.
func openNoFollow(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	// POSIX says ELOOP, FreeBSD EMLINK.
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) {
		return nil, linkError(path)
	}
	return file, err
}

// openAtOnce opens for reading and does not wait for the other end of a FIFO.
func openAtOnce(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func checkPrivate(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return &PrivacyError{Path: path,
			Problem: fmt.Sprintf("belongs to uid %d, and this runs as uid %d", stat.Uid, os.Geteuid()),
			Remedy:  fmt.Sprintf("run this as its owner, or give it over: chown %d %q", os.Geteuid(), path)}
	}
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	want := 0o600
	if info.IsDir() {
		want = 0o700
	}
	return &PrivacyError{Path: path,
		Problem: fmt.Sprintf("has mode %04o, others than its owner may use it", mode),
		Remedy:  fmt.Sprintf("chmod %o %q, and sign in again if somebody may have read it", want, path)}
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = folder.Sync()
	// Some network and FUSE file systems cannot sync a folder and say so; there is
	// nothing that we or a second try could do better.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
