// Package peercred asks the kernel who is at the other end of a Unix socket. It is the
// one place where an identity on this machine comes from: what a peer says of itself is
// never used for that.
package peercred

import (
	"errors"
	"net"
	"syscall"
)

// A Peer is the process that made the connection, as it was then.
type Peer struct {
	UID int
	GID int // its effective group; further groups are asked of the user database
}

// Of returns the peer of conn, which must be a Unix socket.
func Of(conn net.Conn) (Peer, error) {
	nobody := Peer{UID: -1, GID: -1}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nobody, errors.New("no unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nobody, err
	}
	peer, err := ask(raw)
	if err != nil {
		return nobody, err
	}
	return peer, nil
}

// control runs f on the descriptor.
func control(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
