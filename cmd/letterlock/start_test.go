package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Start-up is checked by counts, which do not jitter as times do: what the init
// functions of everything linked into the binary allocate before main begins. Raise
// the ceilings only with a reason in the commit: every cron job pays for them.
func TestStartIsCheap(t *testing.T) {
	const (
		allocsCeiling = 440   // measured 400 with go1.26.8
		bytesCeiling  = 75000 // measured 70,984
		oursCeiling   = 8     // of any one package of this module
	)
	binary := filepath.Join(t.TempDir(), "letterlock")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	trace, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, trace)
	}
	allocs, size := 0, 0
	for line := range strings.Lines(string(trace)) {
		// init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs
		words := strings.Fields(line)
		if len(words) < 11 || words[0] != "init" {
			continue
		}
		bytes, _ := strconv.Atoi(words[7])
		count, _ := strconv.Atoi(words[9])
		allocs, size = allocs+count, size+bytes
		if strings.Contains(words[1], "letterlock") && count > oursCeiling {
			t.Errorf("%s allocates %d times before main: move it into a function or a sync.OnceValue", words[1], count)
		}
	}
	t.Logf("%d allocations, %d bytes", allocs, size)
	if allocs == 0 || allocs > allocsCeiling || size > bytesCeiling {
		t.Errorf("init allocates %d times and %d bytes, the ceilings are %d and %d", allocs, size, allocsCeiling, bytesCeiling)
	}
}
