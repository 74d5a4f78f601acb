//go:build lab && linux

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The state folder on a small disk of its own, which fills up, becomes read-only, and
// is given back: nothing is asked for that could not be kept.
func TestRefreshDiskFaults(t *testing.T) {
	disk := t.TempDir()
	mount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("letterlock-test", disk, "tmpfs", flags, "size=128k,mode=0700"); err != nil {
			t.Fatalf("mount a small tmpfs (this test must run as root): %v", err)
		}
	}
	mount(0)
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	r := newRotation(t, rotationOptions{state: disk})
	r.expire()
	count := r.fault.Requests("/token")
	nothingAsked := func() {
		t.Helper()
		if n := r.fault.Requests("/token") - count; n != 0 {
			t.Errorf("%d requests", n)
		}
		entries, err := os.ReadDir(r.grants())
		if err != nil || len(entries) != 2 { // the grant and its lock
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	}

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	r.harmless(t, "no space left on device", "make room")
	nothingAsked()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}

	mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	r.harmless(t, "read-only file system", "make that folder writable")
	nothingAsked()
	mount(syscall.MS_REMOUNT)
	r.works(t)

	// A valid token comes from a store that is full and read-only as well.
	token := r.token()
	fill(t, filler)
	mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	if again := r.token(); again.code != 0 || again.stdout != token.stdout {
		t.Errorf("a valid token from a full, read-only store: %v", again)
	}
}

// A crowd on a full disk asks nothing either, and nobody waits for the others' sake.
func TestRefreshCrowdOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("letterlock-test", disk, "tmpfs", 0, "size=128k,mode=0700"); err != nil {
		t.Fatalf("mount a small tmpfs (this test must run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	r := newRotation(t, rotationOptions{state: disk})
	r.expire()
	file, count := r.file(), r.fault.Requests("/token")
	fill(t, filepath.Join(disk, "filler"))
	for i, m := range r.crowd(true) {
		if m.code != 75 || m.stdout != "" {
			t.Errorf("process %d: %v", i, m.result)
		}
	}
	if n := r.fault.Requests("/token") - count; n != 0 || r.file() != file {
		t.Errorf("%d requests, grant file kept: %t", n, r.file() == file)
	}
}

// fill writes until the disk takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for page := bytes.Repeat([]byte("x"), 4096); ; {
		if _, err := file.Write(page); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
