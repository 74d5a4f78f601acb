//go:build unix

package lab_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// What a process says last is heard by who waited for it already, although its end comes at
// the same moment: the reader is held up until both are there.
func TestLastWordIsHeard(t *testing.T) {
	for n := range 30 {
		begun := make(chan struct{})
		p, err := lab.StartProcess(lab.ProcessOptions{Path: "/bin/sh", Args: []string{"-c", "echo first; read -r x; echo last"}, Stdin: true,
			OnLog: func(line string) {
				if line == "first" {
					close(begun)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		<-begun
		heard := make(chan error, 1)
		go func() {
			_, err := p.WaitLog(context.Background(), func(line string) bool { return line == "last" })
			heard <- err
		}()
		if err := p.Send("go"); err != nil {
			t.Fatal(err)
		}
		if err := <-heard; err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
	}
}

// All that a process said is there once it has ended, however far behind its reader is.
func TestNothingIsLostAtTheEnd(t *testing.T) {
	gone := make(chan struct{})
	p, err := lab.StartProcess(lab.ProcessOptions{Path: "/bin/sh", Args: []string{"-c", "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf unfinished"},
		OnLog: func(line string) {
			if line == "line 0" {
				<-gone
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	for !errors.Is(syscall.Kill(p.Pid(), 0), syscall.ESRCH) { // all it says fits into the pipe
		runtime.Gosched()
	}
	close(gone)
	<-p.Done()
	log := p.Log()
	if len(log) != 501 || log[500] != "unfinished" || strings.Contains(strings.Join(log, ""), "\x00") {
		t.Errorf("%d lines, the last %q", len(log), log[max(0, len(log)-1):])
	}
}

// After Stop nothing of the group holds a port any more, although its leader went at once
// and left the others behind.
func TestStopWaitsForTheGroup(t *testing.T) {
	for n := range 5 {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		p, err := lab.StartProcess(lab.ProcessOptions{Path: "/bin/sh", Files: []*os.File{file},
			Args: []string{"-c", "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 >/dev/null 2>&1 & done; echo ready; wait"}})
		if err := errors.Join(err, file.Close(), listener.Close()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		if _, err := p.WaitLog(t.Context(), func(line string) bool { return line == "ready" }); err != nil {
			t.Fatal(err)
		}
		// Their output is another one: nobody shall wait for them by that.
		if err := syscall.Kill(-p.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.Stop()
		if conn, err := net.Dial("tcp4", listener.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("round %d: the port is still held: %v, %v", n, conn, err)
		}
	}
}
