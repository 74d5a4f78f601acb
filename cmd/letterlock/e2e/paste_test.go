//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// accountArgs are the arguments of login for the one person of the issuer.
func (i *issuer) accountArgs(more ...string) []string {
	return append([]string{"login", "you@example.org", "--issuer", i.server.URL, "--client-id", issuerClient, "--ca-file", i.ca.File, "--key", "file"}, more...)
}

// paste runs a login whose person opens the printed address and pastes back where it
// led, into a pipe.
func (h *home) paste(i *issuer, args ...string) result {
	h.t.Helper()
	return h.pasteInto(h.commandFor(args...), i)
}

// An unstarted letterlock of this home that ends with the test.
func (h *home) commandFor(args ...string) *exec.Cmd {
	h.t.Helper()
	return h.command(within(h.t), "letterlock", args...)
}

func (h *home) pasteInto(cmd *exec.Cmd, i *issuer) result {
	h.t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer stdin.Close()
	var out bytes.Buffer
	cmd.Stdout = &out
	said := watchLines(func(line string) {
		if !strings.HasPrefix(line, i.server.URL+"/authorize?") {
			return
		}
		back, err := i.approve(line)
		if err != nil {
			h.t.Error(err)
			return
		}
		_, _ = fmt.Fprintln(stdin, back)
		_ = stdin.Close()
	})
	cmd.Stderr = said
	err = cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
		h.t.Fatalf("%q: %v\n%s", cmd.Args, err, said)
	}
	return result{stdout: out.String(), stderr: said.String(), code: cmd.ProcessState.ExitCode()}
}

// mustPaste is paste that has to succeed.
func (h *home) mustPaste(i *issuer, args ...string) result {
	h.t.Helper()
	r := h.paste(i, args...)
	if r.code != 0 {
		h.t.Fatalf("sign in: %v", r)
	}
	return r
}

// A lineWatcher collects what is written and tells each whole line.
type lineWatcher struct {
	bytes.Buffer
	rest string
	told func(string)
}

func watchLines(told func(string)) *lineWatcher { return &lineWatcher{told: told} }

func (w *lineWatcher) Write(data []byte) (int, error) {
	w.rest += string(data)
	for {
		line, rest, whole := strings.Cut(w.rest, "\n")
		if !whole {
			return w.Buffer.Write(data)
		}
		w.rest = rest
		w.told(strings.TrimSpace(line))
	}
}

// ReadFrom would let io.Copy go past Write.
func (w *lineWatcher) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

// state is everything below a folder: names, modes, contents.
func state(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", strings.TrimPrefix(path, dir), info.Mode())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			b.WriteString(" -> " + target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// differences are the lines that only one of two states has.
func differences(before, after string) string {
	has := map[string]int{}
	for line := range strings.Lines(before) {
		has[line]--
	}
	for line := range strings.Lines(after) {
		has[line]++
	}
	var b strings.Builder
	for line, n := range has {
		if n != 0 {
			fmt.Fprintf(&b, "%+d %.200s\n", n, line)
		}
	}
	return b.String()
}
