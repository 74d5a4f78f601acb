//go:build unix

package agent

import (
	"net"
	"os"
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

// Inherited returns the socket that a service manager has opened for us
// (sd_listen_fds(3)), nil when there is none.
func Inherited(getenv func(string) string) (net.Listener, error) {
	pid, _ := strconv.Atoi(getenv("LISTEN_PID"))
	if count, _ := strconv.Atoi(getenv("LISTEN_FDS")); pid != os.Getpid() || count < 1 {
		return nil, nil
	}
	file := os.NewFile(3, "agent.sock")
	defer file.Close()
	return net.FileListener(file)
}
