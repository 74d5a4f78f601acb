//go:build unix

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
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// patience bounds whatever a test waits for; the machine may be busy.
const patience = 4 * time.Minute

// within ends a test's waiting.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestMain lets the test binary be the helper programs that tests need, and removes
// what build left.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if mode, ok := strings.CutPrefix(os.Args[1], "helper:"); ok {
			os.Exit(help(mode, os.Args[2:]))
		}
	}
	code := m.Run()
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// build makes the binary once for all tests and returns the folder it is in, which
// holds nothing else and goes into the PATH.
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
	// Others than us may run it: a test does.
	return dir, os.Chmod(dir, 0o755)
})

// binary is the path of letterlock.
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
	as  *syscall.Credential // nil: whoever runs the test
}

// newHome makes an empty HOME. env is added to HOME, PATH, TERM and the XDG folders.
func newHome(t testing.TB, env ...string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &home{t: t, dir: dir, env: append([]string{
		"HOME=" + dir, "PATH=" + filepath.Dir(binary(t)) + ":/usr/bin:/bin:/usr/sbin:/sbin", "TERM=xterm",
		"XDG_CONFIG_HOME=" + dir + "/.config", "XDG_STATE_HOME=" + dir + "/.local/state", "XDG_CACHE_HOME=" + dir + "/.cache", "XDG_DATA_HOME=" + dir + "/.local/share",
	}, env...)}
}

// ordinary gives the home to an ordinary user when root runs the test: getmail and
// fetchmail behave differently as root, and nobody reads mail as that.
func (h *home) ordinary() {
	h.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	h.as = &syscall.Credential{Uid: nobody, Gid: nobody}
	if err := os.Chown(h.dir, nobody, nobody); err != nil {
		h.t.Fatal(err)
	}
}

// path turns ~/x into a path in this home.
func (h *home) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(h.dir, strings.TrimPrefix(name, "~/"))
}

// write puts a file into the home, for its owner alone.
func (h *home) write(name, text string) string {
	h.t.Helper()
	path := h.path(name)
	h.mkdir(filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.own(path)
	return path
}

// mkdir makes a folder and its parents.
func (h *home) mkdir(name string) {
	h.t.Helper()
	path := h.path(name)
	if _, err := os.Stat(path); err == nil {
		return
	}
	h.mkdir(filepath.Dir(path))
	if err := os.Mkdir(path, 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.own(path)
}

func (h *home) own(path string) {
	h.t.Helper()
	if h.as == nil {
		return
	}
	if err := os.Chown(path, int(h.as.Uid), int(h.as.Gid)); err != nil {
		h.t.Fatal(err)
	}
}

// command prepares a program in the home. It is killed, children too, when ctx ends.
func (h *home) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	h.t.Helper()
	path := h.look(name)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = name
	cmd.Dir, cmd.Env = h.dir, h.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.as}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// look finds a program in the PATH of the home, not in that of the test.
func (h *home) look(name string) string {
	h.t.Helper()
	if filepath.IsAbs(name) {
		return name
	}
	for _, dir := range []string{filepath.Dir(binary(h.t)), "/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	h.t.Fatal(&lab.Missing{Program: name, Package: "its Debian package"})
	return ""
}

// A result is what a program left behind.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// run runs a program to its end.
func (h *home) run(stdin, name string, args ...string) result {
	h.t.Helper()
	return h.finish(h.command(within(h.t), name, args...), stdin)
}

// finish runs a prepared command to its end. Only one that does not end, or does not
// start, fails the test.
func (h *home) finish(cmd *exec.Cmd, stdin string) result {
	h.t.Helper()
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

// must is run for a program that has to succeed.
func (h *home) must(stdin, name string, args ...string) result {
	h.t.Helper()
	r := h.run(stdin, name, args...)
	if r.code != 0 {
		h.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return r
}

// letterlock runs it to its end.
func (h *home) letterlock(args ...string) result {
	h.t.Helper()
	return h.run("", "letterlock", args...)
}

// token is the access token that letterlock hands out.
func (h *home) token(name string, args ...string) string {
	h.t.Helper()
	return strings.TrimSpace(h.must("", "letterlock", append([]string{"token", name}, args...)...).stdout)
}

// noTerminal runs a command in a session without one: nobody is there.
func noTerminal(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// alone runs letterlock where nobody is there, with exactly this environment.
func (h *home) alone(env []string, args ...string) (result, time.Duration) {
	h.t.Helper()
	cmd := h.command(within(h.t), "letterlock", args...)
	noTerminal(cmd)
	cmd.Env = env
	if env == nil {
		cmd.Env = []string{}
	}
	began := time.Now()
	r := h.finish(cmd, "")
	return r, time.Since(began)
}
