//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/daemon"
)

// A FIFO where a file should be: the start is refused in one line, and what only becomes one
// later is refused by its reader.
func TestServeWithAFIFO(t *testing.T) {
	d := bareDesk(t, "http")
	t.Cleanup(func() { _ = d.listener.Close() })
	fifo := filepath.Join(d.folder, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	d.configure("example.org", "[throttle]\ndeny = [\""+fifo+"\"]\n")
	for _, args := range [][]string{{"serve"}, {"config", "check"}} {
		_, err := d.run(args...)
		err = explain(err)
		var fault *cli.Fault
		want := ": deny in [throttle]: " + fifo + " is a FIFO and no regular file"
		if !errors.As(err, &fault) || fault.Code != cli.Config || !strings.HasSuffix(fault.What, want) || strings.Contains(fault.What, "\n") {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := os.Remove(fifo); err != nil { // nothing there is no fault of the file
		t.Fatal(err)
	}
	d.must("config", "check")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(string) error{
		"authorities of a provider": func(path string) error { _, err := roots(path); return err },
		"a certificate":             func(path string) error { _, err := daemon.LoadCertificate(path, path, time.Now, nil); return err },
		"authorities of a node":     func(path string) error { _, err := authorities(path); return err },
	} {
		if err := read(fifo); !errors.Is(err, atomicfile.ErrNotRegular) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
