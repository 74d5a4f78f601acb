//go:build !linux

package doctor

import (
	"net"
	"os/exec"
)

// dialAs connects with the rights of whoever runs it: only Linux lets one thread take on
// those of another.
func dialAs(_, _ int, connect func() (net.Conn, error)) (net.Conn, error) { return connect() }

// runAs leaves a program ours, for the same reason.
func runAs(*exec.Cmd, int, int) {}
