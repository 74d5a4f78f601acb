//go:build darwin || freebsd

package peercred

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// solLocal is SOL_LOCAL, the level of options of Unix sockets.
const solLocal = 0

// ask uses LOCAL_PEERCRED of unix(4).
func ask(raw syscall.RawConn) (Peer, error) {
	var who *unix.Xucred
	err := control(raw, func(fd int) (err error) {
		who, err = unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
		return err
	})
	if err != nil {
		return Peer{}, err
	}
	if who.Ngroups < 1 {
		return Peer{}, errors.New("the peer has no group")
	}
	return Peer{UID: int(who.Uid), GID: int(who.Groups[0])}, nil
}
