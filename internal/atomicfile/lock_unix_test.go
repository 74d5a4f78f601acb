//go:build unix

package atomicfile

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

func background() context.Context { return context.Background() }

// countUp adds one to the number in path under its lock.
func countUp(path string) error {
	lock, err := Acquire(background(), path+".lock")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	// Not through Write: its rename alone would hide half of what a bad lock breaks.
	if err := os.WriteFile(path, []byte(strconv.Itoa(number+1)), 0o600); err != nil {
		return err
	}
	return lock.Release()
}

func TestLockBetweenProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "number")
	if err := os.WriteFile(path, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if out, err := helper(t, "count", path).CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
		})
	}
	wait.Wait()
	if got, err := os.ReadFile(path); err != nil || string(got) != "120" {
		t.Errorf("6 processes counted to %s, %v, want 120", got, err)
	}
}

func TestLockOfAKilledProcessIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := helper(t, "hold", path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the holder did not get the lock")
	}
	cause := errors.New("enough")
	short, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, cause)
	defer cancel()
	if _, err := Acquire(short, path); !errors.Is(err, cause) {
		t.Errorf("a held lock: %v, want the cause", err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	lock, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the lock file: %v, %v", info, err)
	}
}

func TestLockBetweenGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ended, path); !errors.Is(err, context.Canceled) {
		t.Errorf("held in this process: %v, want Canceled", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), filepath.Join(path, "below")); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("a lock below a file: %v", err)
	}
}

func TestPause(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{
		0: time.Millisecond, 50 * time.Millisecond: 5 * time.Millisecond, time.Minute: 20 * time.Millisecond,
	} {
		if got := pause(waited); got != want {
			t.Errorf("pause(%v) = %v, want %v", waited, got, want)
		}
	}
}
