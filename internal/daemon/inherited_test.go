//go:build unix

package daemon

import (
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

// childEnv makes the test binary the daemon that a manager started.
const childEnv = "LETTERLOCK_DAEMON_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// child answers one connection on the socket "sasl" with the names of all others.
func child() int {
	sockets, err := Inherited(func(name string) string {
		if name == "LISTEN_PID" { // the manager knows it after fork, a test does not
			return strconv.Itoa(os.Getpid())
		}
		return os.Getenv(name)
	})
	if err != nil {
		return 2
	}
	taken := sockets.Take("sasl")
	if len(taken) != 1 || len(sockets.Take("sasl")) != 0 || !slices.Equal(sockets.Left(), []string{"senders"}) {
		return 3
	}
	conn, err := taken[0].Accept()
	if err != nil {
		return 4
	}
	_, _ = io.WriteString(conn, "inherited")
	_ = conn.Close()
	return 0
}

// A connection that was made while the daemon was down is answered once it is up.
func TestInherited(t *testing.T) {
	var files []*os.File
	var address string
	for i := range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		if i == 0 {
			address = listener.Addr().String()
		}
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files = append(files, file)
	}
	early, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), childEnv+"=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=sasl:senders")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(early)
	if err != nil || string(got) != "inherited" {
		t.Errorf("%q, %v", got, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNotInherited(t *testing.T) {
	env := map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "3"}
	sockets, err := Inherited(func(name string) string { return env[name] })
	if err != nil || len(sockets.Left()) != 0 {
		t.Errorf("another process's sockets were taken: %v, %v", sockets, err)
	}
	env["LISTEN_PID"] = strconv.Itoa(os.Getpid())
	for _, count := range []string{"", "many", "-1", "65"} {
		env["LISTEN_FDS"] = count
		if _, err := Inherited(func(name string) string { return env[name] }); err == nil {
			t.Errorf("LISTEN_FDS=%q was believed", count)
		}
	}
}
