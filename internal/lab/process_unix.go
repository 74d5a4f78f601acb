//go:build unix

package lab

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func signalProcess(p *os.Process, s syscall.Signal) { _ = p.Signal(s) }

// killGroup ends what is left of a group. The group id cannot have been given
// to somebody else while a member lives, and an empty group is ESRCH.
func killGroup(pgid int) { _ = syscall.Kill(-pgid, syscall.SIGKILL) }

// groupRuns reports whether a member of a group still runs. One that only waits for its
// parent to reap it holds nothing any more.
func groupRuns(pgid int) bool {
	if syscall.Kill(-pgid, 0) != nil {
		return false
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if stat := processStat(file); stat != nil && stat[2] == strconv.Itoa(pgid) && stat[0] != "Z" && stat[0] != "X" {
			return true
		}
	}
	return false
}

// processStat are the fields of a /proc/PID/stat behind the name, which may hold spaces:
// state, ppid, pgrp, …; nil when the process has ended.
func processStat(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	if fields := strings.Fields(rest); len(fields) > 2 {
		return fields
	}
	return nil
}
