//go:build unix

package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// TellManager tells the service manager (sd_notify(3)) that something has happened: "READY=1".
// Without one this does nothing.
func TellManager(getenv func(string) string, state string) error {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

// Inherited returns the sockets that a service manager has opened for us
// (sd_listen_fds(3)), by the name of their file: "agent.sock".
func Inherited(getenv func(string) string) (map[string]net.Listener, error) {
	pid, _ := strconv.Atoi(getenv("LISTEN_PID"))
	count, _ := strconv.Atoi(getenv("LISTEN_FDS"))
	if pid != os.Getpid() || count < 1 {
		return nil, nil
	}
	listeners := map[string]net.Listener{}
	for i := range count {
		file := os.NewFile(uintptr(firstInherited+i), "socket")
		listener, err := net.FileListener(file)
		_ = file.Close() // the listener has its own
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			return nil, fmt.Errorf("take over socket %d of the service manager: %w", i, err)
		}
		listeners[filepath.Base(listener.Addr().String())] = listener
	}
	return listeners, nil
}

// firstInherited is SD_LISTEN_FDS_START.
const firstInherited = 3
