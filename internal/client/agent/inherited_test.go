//go:build unix

package agent

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// inheritChild is set in the process that is given sockets.
const inheritChild = "LETTERLOCK_TEST_INHERIT"

// A service manager hands over any number of sockets, which are told apart by their
// files, and not to processes that it did not mean.
func TestInherited(t *testing.T) {
	if os.Getenv(inheritChild) != "" {
		tellInherited()
		return
	}
	folder := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestInherited$")
	child.Env = append(os.Environ(), inheritChild+"=1")
	for _, name := range []string{"submit.sock", "agent.sock"} {
		listener, err := net.Listen("unix", filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		file, err := listener.(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		child.ExtraFiles = append(child.ExtraFiles, file)
	}
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "got [agent.sock submit.sock], for others 0") {
		t.Errorf("%v\n%s", err, out)
	}
}

func tellInherited() {
	pid := fmt.Sprint(os.Getpid())
	environ := map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": "2"}
	listeners, err := Inherited(func(name string) string { return environ[name] })
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var names []string
	for name := range listeners {
		names = append(names, name)
	}
	slices.Sort(names)
	environ["LISTEN_PID"] = "1"
	others, _ := Inherited(func(name string) string { return environ[name] })
	fmt.Printf("got %v, for others %d\n", names, len(others))
}
