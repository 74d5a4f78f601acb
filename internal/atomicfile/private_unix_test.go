//go:build unix

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// wantPrivacy fails unless err is a PrivacyError with these words.
func wantPrivacy(t testing.TB, err error, problem, remedy string) {
	t.Helper()
	var privacy *PrivacyError
	if !errors.Is(err, ErrNotPrivate) || !errors.As(err, &privacy) {
		t.Errorf("%v, want ErrNotPrivate", err)
		return
	}
	if !strings.Contains(privacy.Problem, problem) || !strings.Contains(privacy.Remedy, remedy) {
		t.Errorf("%+v, want %q and %q", privacy, problem, remedy)
	}
}

func TestReadRefuses(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	mustWrite(t, path, "x")
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o610, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path, 10)
		wantPrivacy(t, err, "has mode 0"+octal(mode), "chmod 600")
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 10); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	link, fifo := filepath.Join(folder, "link"), filepath.Join(folder, "fifo")
	if err := errors.Join(os.Symlink(path, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := Read(link, 10)
	wantPrivacy(t, err, "symbolic link", link)
	_, err = Read(fifo, 10) // must not wait for a writer
	wantPrivacy(t, err, "no regular file", fifo)
	_, err = Read(folder, 10)
	wantPrivacy(t, err, "no regular file", folder)
}

func TestOpenRegular(t *testing.T) {
	folder := t.TempDir()
	path, link, fifo := filepath.Join(folder, "x"), filepath.Join(folder, "link"), filepath.Join(folder, "fifo")
	mustWrite(t, path, "some text")
	if err := errors.Join(os.Symlink(path, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{path, link} {
		if data, err := ReadRegular(good, 9); err != nil || string(data) != "some text" {
			t.Errorf("%s: %q, %v", good, data, err)
		}
	}
	if _, err := ReadRegular(path, 8); !errors.Is(err, ErrTooLarge) {
		t.Errorf("nine bytes where eight are allowed: %v", err)
	}
	for _, bad := range []string{fifo, folder, "/dev/null"} { // nobody waits for a writer
		if _, err := OpenRegular(bad); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := OpenRegular(filepath.Join(folder, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func octal(mode fs.FileMode) string {
	digits := []byte{'0' + byte(mode>>6&7), '0' + byte(mode>>3&7), '0' + byte(mode&7)}
	return string(digits)
}

func TestWriteReplacesALink(t *testing.T) {
	folder := t.TempDir()
	target, link := filepath.Join(folder, "target"), filepath.Join(folder, "link")
	mustWrite(t, target, "keep")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, link, "new")
	wantContent(t, link, "new")
	wantContent(t, target, "keep")
}

func TestPrivateFolder(t *testing.T) {
	old := syscall.Umask(0) // the rights must not depend on it
	defer syscall.Umask(old)
	base := t.TempDir()
	deep := filepath.Join(base, "a", "b", "c")
	if err := CheckFolder(deep); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CheckFolder = %v, want ErrNotExist", err)
	}
	for range 2 {
		if err := PrivateFolder(deep); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{deep, filepath.Dir(deep), filepath.Join(base, "a")} {
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want 0700", path, info.Mode(), err)
		}
	}
	if err := os.Chmod(deep, 0o711); err != nil {
		t.Fatal(err)
	}
	wantPrivacy(t, PrivateFolder(deep), "mode 0711", "chmod 700")
	if info, err := os.Lstat(deep); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the rights were changed to %v, %v", info.Mode(), err)
	}
	link, file := filepath.Join(base, "link"), filepath.Join(base, "file")
	mustWrite(t, file, "")
	if err := os.Symlink(filepath.Dir(deep), link); err != nil {
		t.Fatal(err)
	}
	wantPrivacy(t, PrivateFolder(link), "symbolic link", "link")
	wantPrivacy(t, PrivateFolder(file), "no regular folder", file)
	if err := PrivateFolder(filepath.Join(file, "below")); err == nil || errors.Is(err, ErrNotPrivate) {
		t.Errorf("a folder below a file: %v", err)
	}
}
