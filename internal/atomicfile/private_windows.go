//go:build windows

package atomicfile

import (
	"io/fs"
	"os"
)

// On Windows the profile folder's access list keeps other users out; there are no
// mode bits to check, and a folder cannot be synced.

func openNoFollow(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil, linkError(path)
	}
	return os.Open(path)
}

func openAtOnce(path string) (*os.File, error) { return os.Open(path) }

func checkPrivate(string, fs.FileInfo) error { return nil }

func syncFolder(string) error { return nil }
