package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotPrivate means that others than the owner may read or change a file or
// folder that must be private, that it belongs to somebody else, or that it is not
// what it should be (a symbolic link, a device). The error is a [*PrivacyError].
var ErrNotPrivate = errors.New("not private")

// A PrivacyError says what is wrong with the rights of a file or folder and what
// its owner can do.
type PrivacyError struct {
	Path    string
	Problem string // as in "has mode 0644, others than its owner may use it"
	Remedy  string // a shell command or an advice, one line
}

// Error tells path and problem; the remedy is for a hint.
func (e *PrivacyError) Error() string { return e.Path + " " + e.Problem }

// Is makes every PrivacyError an ErrNotPrivate.
func (e *PrivacyError) Is(target error) bool { return target == ErrNotPrivate }

func wrongKind(path, want string) error {
	return &PrivacyError{Path: path, Problem: "is no regular " + want,
		Remedy: fmt.Sprintf("look at what %q is and move it away", path)}
}

func linkError(path string) error {
	return &PrivacyError{Path: path, Problem: "is a symbolic link",
		Remedy: fmt.Sprintf("put the real thing in the place of the link %q, or configure the path it leads to", path)}
}

// PrivateFolder makes sure that path is a folder of mode 0700 that belongs to the
// caller. It creates missing folders (the parents too, with 0700), and refuses, with
// ErrNotPrivate, one that is there with looser rights: silently tightening it would
// hide that somebody may have read it.
func PrivateFolder(path string) error {
	err := CheckFolder(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := createFolder(path); err != nil {
		return err
	}
	// Somebody else may have been quicker than we.
	return CheckFolder(path)
}

// CheckFolder is PrivateFolder that creates nothing: a missing folder is an
// fs.ErrNotExist.
func CheckFolder(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return linkError(path)
	}
	if !info.IsDir() {
		return wrongKind(path, "folder")
	}
	return checkPrivate(path, info)
}

// createFolder is os.MkdirAll that syncs every folder it puts a new one into; a
// power cut could otherwise take a new folder away with the durable files in it.
func createFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	parent := filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := createFolder(parent); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(parent)
}
