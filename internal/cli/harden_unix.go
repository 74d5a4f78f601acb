//go:build unix

package cli

import "syscall"

// noCore keeps a crash from writing tokens to disk.
func noCore() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
