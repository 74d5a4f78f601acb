//go:build unix

package hook

import (
	"errors"
	"os/exec"
	"syscall"
)

// ownGroup gives the program a process group of its own, so that what it has started ends
// with it, and signals that were meant for the daemon do not reach it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
}

// endGroup kills what is left of a program that was told to end: WaitDelay kills the
// program alone, and what it has started may not have listened.
func endGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
