//go:build darwin || freebsd

package agent

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// solLocal is SOL_LOCAL, the level of options of Unix sockets.
const solLocal = 0

// peerUID asks the kernel who is at the other end.
func peerUID(conn net.Conn) (int, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, errors.New("no unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	var peer *unix.Xucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptXucred(int(fd), solLocal, unix.LOCAL_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return -1, err
	}
	return int(peer.Uid), nil
}
