//go:build unix

package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the process that is killed or runs out of room.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && strings.HasPrefix(os.Args[1], "helper:") {
		os.Exit(help(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

func help(mode, path string) int {
	switch mode {
	case "helper:rewrite": // for ever, one line after each
		for i := 0; ; i++ {
			if err := Write(path, []byte(contentOf(i)), 0o600); err != nil {
				fmt.Println(err)
				return 1
			}
			fmt.Println(i)
		}
	case "helper:count":
		for range 20 {
			if err := countUp(path); err != nil {
				fmt.Println(err)
				return 1
			}
		}
	case "helper:hold":
		lock, err := Acquire(background(), path)
		if err != nil {
			return 1
		}
		fmt.Println("held")
		forever := make(chan os.Signal, 1)
		signal.Notify(forever, syscall.SIGUSR1)
		<-forever
		_ = lock.Release()
	case "helper:reserve":
		return tryReserve(path, 100_000)
	case "helper:reserve-small": // fits, and then the commit does not
		return tryCommit(path)
	case "helper:once":
		if err := Write(path, []byte("new"), 0o600); err != nil {
			return 1
		}
	}
	return 0
}

func contentOf(i int) string {
	return strings.Repeat(strconv.Itoa(i)+" ", 2000+i%7*900)
}

// limitFileSize lets every write beyond 8 KiB fail, as on a full disk.
func limitFileSize() error {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{}
	limit.Cur, limit.Max = 8192, 8192 // their type differs between systems
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

func tryReserve(path string, size int64) int {
	if err := limitFileSize(); err != nil {
		return 3
	}
	if _, err := Reserve(path, size, 0o600); errors.Is(err, syscall.EFBIG) {
		return 0
	}
	return 1
}

func tryCommit(path string) int {
	if err := limitFileSize(); err != nil {
		return 3
	}
	r, err := Reserve(path, 4096, 0o600)
	if err != nil {
		return 2
	}
	if err := r.Commit(make([]byte, 100_000)); errors.Is(err, syscall.EFBIG) && !errors.Is(err, ErrUnsynced) {
		return 0
	}
	return 1
}

func helper(t testing.TB, mode, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), self, "helper:"+mode, path)
}

func TestKilledWriterLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	mustWrite(t, path, contentOf(0))
	leftovers := 0
	for kill := range 30 {
		cmd := helper(t, "rewrite", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The kill falls somewhere into the write after the last line that was read.
		lines := bufio.NewScanner(out)
		last := -1
		for range kill%4 + 1 {
			if lines.Scan() {
				last, _ = strconv.Atoi(lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			last, _ = strconv.Atoi(lines.Text())
		}
		_ = cmd.Wait() // "signal: killed" is what we want
		got, err := Read(path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(got), " ")
		i, err := strconv.Atoi(first)
		// Each line was written after its Write returned, so older content is a loss.
		if err != nil || string(got) != contentOf(i) || i < last {
			t.Fatalf("after kill %d: torn or lost: %.20q…, %d bytes, last reported %d", kill, got, len(got), last)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), TempPattern(path)))
		if err != nil {
			t.Fatal(err)
		}
		leftovers += len(left)
	}
	t.Logf("30 kills left %d temporary files (summed over rounds)", leftovers)
}

func TestNoRoomLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	mustWrite(t, path, "old")
	for _, mode := range []string{"reserve", "reserve-small"} {
		if out, err := helper(t, mode, path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", mode, err, out)
		}
		wantContent(t, path, "old")
	}
}
