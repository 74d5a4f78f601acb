//go:build unix

package tokenstore

import (
	"os/exec"
	"syscall"
)

// detach puts a helper into a session of its own: it finds no terminal to ask on,
// and is killed with all its children.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
