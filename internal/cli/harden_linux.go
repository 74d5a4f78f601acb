package cli

import "syscall"

// Harden makes the process a poorer target: no core file, and no other process of
// the same user may attach to it or read its memory through /proc. Both can fail in
// odd containers; that is no reason not to fetch mail.
func Harden() {
	noCore()
	const prSetDumpable = 4
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
}
