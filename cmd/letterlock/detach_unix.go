//go:build unix

package main

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// startDetached starts a process in a session of its own, so that the end of the
// caller's terminal or job does not end it. Nobody will wait for it; package os would
// first try out how processes are waited for, which costs a process more.
func startDetached(cmd *exec.Cmd) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	keepToOurselves()
	fd := null.Fd()
	_, err = syscall.ForkExec(cmd.Path, cmd.Args, &syscall.ProcAttr{
		Dir: cmd.Dir, Env: cmd.Environ(), Files: []uintptr{fd, fd, fd}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// keepToOurselves lets no file go on to a new program that our caller has left open: a
// script's lock would be held as long as the program runs. Go's own files are marked so
// already.
func keepToOurselves() {
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // a system without it; nothing worse than before
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
