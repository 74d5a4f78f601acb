package main

import (
	"os/exec"
	"syscall"
)

// detach keeps Ctrl-C in the caller's console from reaching the process.
func detach(cmd *exec.Cmd) {
	const detachedProcess = 0x8
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess}
}
