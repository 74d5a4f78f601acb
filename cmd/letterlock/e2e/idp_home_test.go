//go:build !lab

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file stands in for harness_test.go where only Go is there, with the same names.

const patience = 90 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestMain removes what build left.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// build makes the binary once for all tests and returns the folder it is in.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "e2e-bin-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "github.com/letterlock-mail/letterlock/cmd/letterlock")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build letterlock: %w: %s", err, out)
	}
	return dir, nil
})

func binary(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "letterlock")
}

// A home is a person's computer: a HOME folder and an environment with nothing else.
type home struct {
	t   testing.TB
	dir string
	env []string
}

func newHome(t testing.TB, env ...string) *home {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &home{t: t, dir: dir, env: append([]string{
		"HOME=" + dir, "PATH=/usr/bin:/bin", "TERM=xterm",
		"XDG_CONFIG_HOME=" + dir + "/.config", "XDG_STATE_HOME=" + dir + "/.local/state",
	}, env...)}
}

func (h *home) path(name string) string {
	return filepath.Join(h.dir, strings.TrimPrefix(name, "~/"))
}

func (h *home) write(name, text string) string {
	h.t.Helper()
	path := h.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// command prepares letterlock in the home; it is killed when ctx ends.
func (h *home) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := exec.CommandContext(ctx, binary(h.t), args...)
	cmd.Args[0] = name
	cmd.Dir, cmd.Env = h.dir, h.env
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

func (h *home) run(stdin, name string, args ...string) result {
	h.t.Helper()
	cmd := h.command(within(h.t), name, args...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	failure := cmd.Run()
	r := result{stdout: out.String(), stderr: err.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if failure != nil && (!errors.As(failure, &exit) || r.code < 0) {
		h.t.Fatalf("%s: %v\n%v", strings.Join(cmd.Args, " "), failure, r)
	}
	return r
}

func (h *home) must(stdin, name string, args ...string) result {
	h.t.Helper()
	r := h.run(stdin, name, args...)
	if r.code != 0 {
		h.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return r
}

func (h *home) letterlock(args ...string) result {
	h.t.Helper()
	return h.run("", "letterlock", args...)
}

func (h *home) token(name string, args ...string) string {
	h.t.Helper()
	return strings.TrimSpace(h.must("", "letterlock", append([]string{"token", name}, args...)...).stdout)
}
