//go:build lab && linux

package queue

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// On a full disk nothing is accepted that could not be kept, and what was accepted
// before is delivered once: its records have their room already.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "letterlock-test", folder).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	q, err := Open(filepath.Join(folder, "queue"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	// The lock and the pipe need their place like everything else.
	drainOnce(t, q, &script{}, DrainOptions{})
	accepted := 0
	for {
		_, err := q.Put(t.Context(), to("b@x"), strings.NewReader(text))
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		accepted++
	}
	if _, err := q.Put(t.Context(), to("b@x"), strings.NewReader(strings.Repeat("x", 300_000))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a large message: %v", err)
	}
	files, err := os.ReadDir(q.entries)
	if err != nil || len(files) != accepted || accepted < 10 {
		t.Fatalf("%d files for %d accepted, %v", len(files), accepted, err)
	}
	carrier := &script{verdicts: map[string][]Verdict{"b@x": {Deferred, Delivered}}}
	sum := drainOnce(t, q, carrier, DrainOptions{Parallel: 1})
	if sum.Deferred != 1 || sum.Delivered != accepted-1 || len(carrier.calls) != accepted {
		t.Errorf("%+v after %d attempts for %d", sum, len(carrier.calls), accepted)
	}
}
