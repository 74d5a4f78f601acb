//go:build lab && linux

package account

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A real disk that is full, and a real one that has become read-only.
func TestRealDiskFaults(t *testing.T) {
	disk := t.TempDir()
	mount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("letterlock-test", disk, "tmpfs", flags, "size=96k,mode=0700"); err != nil {
			t.Fatalf("mount a small tmpfs (this test must run as root): %v", err)
		}
	}
	mount(0)
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	m, err := sealedManager(filepath.Join(disk, "state"))
	if err != nil {
		t.Fatal(err)
	}
	exchange := rotating(time.Now)
	m.Exchange = exchange
	mustSave(t, m, testGrant("http://127.0.0.1:1/token", "refresh-0", time.Now()))
	file := filepath.Join(disk, "state", "grants", testName+".age")
	before := mustRead(t, file)

	check := func(want syscall.Errno) {
		t.Helper()
		_, err := m.Token(t.Context(), testName, Want{})
		if errorClass(err) != "temporary" || !errors.Is(err, want) || exchange.count() != 0 {
			t.Errorf("Token = %v after %d requests, want %v", err, exchange.count(), want)
		}
		if mustRead(t, file) != before {
			t.Error("the grant file was changed")
		}
		entries, err := os.ReadDir(filepath.Dir(file))
		if err != nil || len(entries) != 2 { // the grant and its lock
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	}
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	check(syscall.ENOSPC)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	check(syscall.EROFS)
	mount(syscall.MS_REMOUNT)

	access, err := m.Token(t.Context(), testName, Want{})
	if err != nil || exchange.count() != 1 {
		t.Fatalf("afterwards: %v", err)
	}
	// A valid token is handed out from a store that cannot be written.
	mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	again, err := m.Token(t.Context(), testName, Want{Refused: secret.New("other")})
	if err != nil || !again.Token.Equal(access.Token) {
		t.Errorf("valid token from a read-only store: %v", err)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fill writes until the disk takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for page := make([]byte, 4096); ; {
		if _, err := file.Write(page); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
