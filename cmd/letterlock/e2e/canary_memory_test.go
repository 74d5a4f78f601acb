//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// ordinary makes cmd run as a user without rights, as whom root runs this test; others
// are one already.
func ordinary(cmd *exec.Cmd) {
	if os.Geteuid() != 0 {
		return
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
}

// TestUndumpable shows that another process of the same user can read neither memory
// nor environment of a letterlock that waits for an answer, nor trace it, and that a
// crash of it writes no core file.
func TestUndumpable(t *testing.T) {
	i := newIssuer(t, &cage{})
	h := newHome(t)
	if os.Geteuid() == 0 {
		// t.TempDir is inside folders that are for root alone.
		dir, err := os.MkdirTemp("", "e2e-home-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		for n := range h.env {
			h.env[n] = strings.Replace(h.env[n], h.dir, dir, 1)
		}
		h.dir = dir
	}
	ready := make(chan struct{})
	cmd := h.command(within(t), "letterlock", i.accountArgs("--flow", "paste")...)
	ordinary(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = watchLines(func(line string) {
		if strings.HasPrefix(line, i.server.URL+"/authorize?") {
			close(ready)
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
	select {
	case <-ready:
	case <-within(t).Done():
		t.Fatal("letterlock asks for nothing")
	}
	for _, file := range []string{"mem", "environ", "maps", "fd", "auxv", "stack"} {
		if out, err := peep(h, cmd.Process.Pid, file); err == nil {
			t.Errorf("/proc/PID/%s can be read: %.100q", file, out)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core files are not forbidden: %v %s", err, limits)
	}
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	_ = cmd.Wait()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Error("the kernel says that a core was dumped")
	}
	if cores, _ := filepath.Glob(h.path("core*")); cores != nil {
		t.Errorf("there is %v", cores)
	}
	peepAtOthers(t, h)
}

// peepAtOthers proves that it is letterlock's doing: an ordinary program in its place
// is open to the same look.
func peepAtOthers(t *testing.T, h *home) {
	cmd := h.command(within(t), "cat")
	ordinary(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Once it has answered it has become cat.
	if _, err := stdin.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if out, err := peep(h, cmd.Process.Pid, "environ"); err != nil || !bytes.Contains(out, []byte("HOME="+h.dir)) {
		t.Errorf("the look at an ordinary program: %v %q", err, out)
	}
	_ = stdin.Close()
	_ = cmd.Wait()
}

// peep reads a file of another process as its own user.
func peep(h *home, pid int, file string) ([]byte, error) {
	cmd := h.command(within(h.t), "head", "-c", "1", fmt.Sprintf("/proc/%d/%s", pid, file))
	switch file {
	case "environ":
		cmd = h.command(within(h.t), "cat", fmt.Sprintf("/proc/%d/%s", pid, file))
	case "fd":
		cmd = h.command(within(h.t), "ls", fmt.Sprintf("/proc/%d/%s", pid, file))
	}
	ordinary(cmd)
	return cmd.CombinedOutput()
}
