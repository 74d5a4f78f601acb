package account

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
)

// The test binary runs itself to be a process of its own: one call of Token on the
// store in childFolder, begun when standard input ends, told on standard output.
const childFolder = "LETTERLOCK_TEST_CHILD_FOLDER"

// A childEvent is a line of a child's output. Step "ready" comes before standard input is read, "begun" before the call,
// "done" after it, and between them the steps of the rule as they are reached.
type childEvent struct {
	Step  string
	At    int64 // UnixNano
	Token string
	Error string
}

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		os.Exit(child(folder, os.Getenv("LETTERLOCK_TEST_KILL_AT")))
	}
	os.Exit(m.Run())
}

func child(folder, killAt string) int {
	out := json.NewEncoder(os.Stdout)
	tell := func(event childEvent) {
		event.At = time.Now().UnixNano()
		_ = out.Encode(event)
	}
	m, err := sealedManager(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m.step = func(step string) {
		tell(childEvent{Step: step})
		if step == killAt {
			killSelf()
		}
	}
	tell(childEvent{Step: "ready"})
	_, _ = io.Copy(io.Discard, os.Stdin)
	tell(childEvent{Step: "begun"})
	access, err := m.Token(context.Background(), testName, Want{})
	event := childEvent{Step: "done", Token: access.Token.Reveal()}
	if err != nil {
		event.Error = fmt.Sprintf("%s: %v", errorClass(err), err)
	}
	tell(event)
	return 0
}

// sealedManager is a manager as the product has it: encrypted grants, a key in a file,
// requests over HTTP. folder must be private.
func sealedManager(folder string) (*Manager, error) {
	store, err := tokenstore.Open(filepath.Join(folder, "grants"))
	if err != nil {
		return nil, err
	}
	keys := tokenstore.NewFile(filepath.Join(folder, "keys"))
	if err := keys.Create(context.Background()); err != nil {
		return nil, err
	}
	m := newManager(OnDisk(store), exchanger(time.Now), time.Now)
	m.Keys = func(string) (tokenstore.Keys, error) { return keys, nil }
	return m, nil
}

// newSealed is sealedManager in a folder of the test.
func newSealed(t testing.TB) (m *Manager, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "state")
	m, err := sealedManager(folder)
	if err != nil {
		t.Fatal(err)
	}
	return m, folder
}

// killSelf is kill -9 at this very place.
func killSelf() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kill myself:", err)
	}
	<-time.After(time.Hour) // with no timer the runtime may call it a deadlock
}

// A childProcess is a child under way.
type childProcess struct {
	cmd    *exec.Cmd
	start  io.Closer
	events *json.Decoder
}

// startChild starts a child and waits until it is ready to call Token. With start nil
// it gets a pipe of its own.
func startChild(t *testing.T, folder, killAt string, start *os.File) *childProcess {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), childFolder+"="+folder, "LETTERLOCK_TEST_KILL_AT="+killAt)
	cmd.Stderr = os.Stderr
	process := &childProcess{cmd: cmd}
	if start != nil {
		cmd.Stdin = start
	} else if process.start, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	process.events = json.NewDecoder(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if event, ok := process.next(); !ok || event.Step != "ready" {
		_ = cmd.Process.Kill()
		t.Fatalf("child begins with %+v", event)
	}
	return process
}

// next returns the child's next line, or false when it is gone.
func (p *childProcess) next() (childEvent, bool) {
	var event childEvent
	err := p.events.Decode(&event)
	return event, err == nil
}

// finish reads what is left and waits for the end.
func (p *childProcess) finish() map[string]childEvent {
	seen := map[string]childEvent{}
	for event, ok := p.next(); ok; event, ok = p.next() {
		seen[event.Step] = event
	}
	_ = p.cmd.Wait()
	return seen
}
