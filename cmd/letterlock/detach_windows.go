package main

import (
	"os/exec"
	"syscall"
)

// startDetached starts a process that Ctrl-C in the caller's console does not reach.
func startDetached(cmd *exec.Cmd) error {
	const detachedProcess = 0x8
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
