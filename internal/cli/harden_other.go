//go:build unix && !linux

package cli

// Harden makes the process a poorer target: no core file.
func Harden() { noCore() }
