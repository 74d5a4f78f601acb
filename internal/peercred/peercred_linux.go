package peercred

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ask uses SO_PEERCRED of unix(7).
func ask(raw syscall.RawConn) (Peer, error) {
	var who *unix.Ucred
	err := control(raw, func(fd int) (err error) {
		who, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(who.Uid), GID: int(who.Gid)}, nil
}
