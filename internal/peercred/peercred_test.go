//go:build linux || darwin || freebsd

package peercred

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if peer, err := Of(conn); err != nil || peer.UID != os.Geteuid() || peer.GID != os.Getegid() {
		t.Errorf("%+v, %v", peer, err)
	}
	conn.Close()
	if peer, err := Of(conn); err == nil || peer.UID != -1 {
		t.Errorf("of a closed socket: %+v, %v", peer, err)
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if peer, err := Of(pipe); err == nil || peer.UID != -1 {
		t.Errorf("of no socket: %+v, %v", peer, err)
	}
}
