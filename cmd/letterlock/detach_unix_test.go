//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The process that stays behind holds nothing of who called sendmail: neither the lock of
// a cron script (flock -n 9; ... | mail) nor the end of a pipe that somebody reads.
func TestDetachedInheritsNothing(t *testing.T) {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil { // not closed on exec, as a shell's are
		t.Fatal(err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.WriteFile(gone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// It lives until the test takes the file away.
	if err := startDetached(exec.Command("/bin/sh", "-c", `while [ -e "$0" ]; do sleep 0.1; done`, gone)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(pipe[1]); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(pipe[0], true); err != nil {
		t.Fatal(err)
	}
	end := os.NewFile(uintptr(pipe[0]), "pipe")
	defer end.Close()
	if err := end.SetReadDeadline(time.Now().Add(longest)); err != nil {
		t.Fatal(err)
	}
	n, err := end.Read(make([]byte, 1))
	if n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the other end is still open in there: %d, %v", n, err)
	}
}
