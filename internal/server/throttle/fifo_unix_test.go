//go:build unix

package throttle

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// A list that has become a FIFO is not waited for, and the one before it holds.
func TestListBecomesAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deny.list")
	if err := os.WriteFile(path, []byte("203.0.113.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	throttle := New(Options{})
	source := Source{Name: "deny", File: path}
	throttle.load(t.Context(), source)
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	throttle.load(t.Context(), source)
	if !try(t, throttle, "203.0.113.1", "ann@example.org", -1).Refuse {
		t.Error("the list is forgotten")
	}
	if _, err := source.Load(t.Context(), nil); !errors.Is(err, atomicfile.ErrNotRegular) {
		t.Errorf("%v", err)
	}
}
