//go:build unix

package lab

import (
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func signalProcess(p *os.Process, s syscall.Signal) { _ = p.Signal(s) }

// killGroup ends what is left of a group. The group id cannot have been given
// to somebody else while a member lives, and an empty group is ESRCH.
func killGroup(pgid int) { _ = syscall.Kill(-pgid, syscall.SIGKILL) }
