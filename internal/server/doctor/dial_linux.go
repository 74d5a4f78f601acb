package doctor

import (
	"net"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"
)

// dialAs connects with the file rights of another user. The ids are those of one thread,
// which ends with its goroutine; x/sys and syscall would change all threads. Like
// Postfix's own set_ugid it keeps one group only.
func dialAs(uid, gid int, connect func() (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is not used again
		group := uint32(gid)
		for _, call := range [][3]uintptr{
			{syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&group))},
			{syscall.SYS_SETFSGID, uintptr(gid), 0},
			{syscall.SYS_SETFSUID, uintptr(uid), 0},
		} {
			if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], 0); call[0] == syscall.SYS_SETGROUPS && errno != 0 {
				done <- result{nil, errno}
				return
			}
		}
		conn, err := connect()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// runAs has a program run with the rights of another user, and of one group only.
func runAs(cmd *exec.Cmd, uid, gid int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
