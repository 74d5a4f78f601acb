//go:build lab && linux

package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// strangerChild is set in the process that listens as another user.
const strangerChild = "LETTERLOCK_TEST_STRANGER"

// A socket of another user's process is no agent of ours: mail would wait for it.
func TestListensToNoStranger(t *testing.T) {
	if path := os.Getenv(strangerChild); path != "" {
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test must be root: it works as two users")
	}
	for uid, want := range map[uint32]bool{0: true, 65534: false} {
		folder, err := os.MkdirTemp("", "stranger")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(folder) })
		if err := os.Chmod(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, "s")
		child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestListensToNoStranger$")
		child.Env = append(os.Environ(), strangerChild+"="+path)
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if got := Listens(t.Context(), path); got != want {
			t.Errorf("uid %d: %v", uid, got)
		}
		in.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	}
}
