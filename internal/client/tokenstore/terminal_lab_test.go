//go:build lab && linux

package tokenstore

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudo terminal with a test in the place of the person.
type terminal struct {
	t      testing.TB
	person *os.File
	name   string
}

func newTerminal(t testing.TB) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	raw, err := person.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	var unlockErr, numberErr error
	err = raw.Control(func(fd uintptr) {
		unlockErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numberErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	})
	if err != nil || unlockErr != nil || numberErr != nil {
		t.Fatal(err, unlockErr, numberErr)
	}
	return &terminal{t, person, fmt.Sprintf("/dev/pts/%d", number)}
}

// run runs argv with this as its controlling terminal and nothing else on it, types
// answer when the screen shows prompt, and returns what was shown and written.
func (l *terminal) run(argv, environ []string, prompt, answer string) (screen, out string) {
	l.t.Helper()
	side, err := os.OpenFile(l.name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer side.Close()
	var stdout bytes.Buffer
	cmd := exec.CommandContext(l.t.Context(), argv[0], argv[1:]...)
	cmd.Env = append([]string{}, environ...)
	cmd.Stdout, cmd.Stderr = &stdout, &stdout
	cmd.ExtraFiles = []*os.File{side}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	_ = l.person.SetReadDeadline(time.Now().Add(patience))
	shown := make(chan string)
	go func() { shown <- l.watch(prompt, answer) }()
	if err := cmd.Wait(); err != nil {
		l.t.Errorf("%q: %v", argv[1:], err)
	}
	_ = l.person.SetReadDeadline(time.Now())
	return <-shown, stdout.String()
}

func (l *terminal) watch(prompt, answer string) string {
	var screen strings.Builder
	typed := false
	for buffer := make([]byte, 4096); ; {
		n, err := l.person.Read(buffer)
		screen.Write(buffer[:n])
		if err != nil {
			return screen.String()
		}
		if !typed && strings.Contains(screen.String(), prompt) {
			typed = true
			_, _ = l.person.WriteString(answer)
		}
	}
}

func TestFindTerminal(t *testing.T) {
	state := t.TempDir()
	newState(t, state, NewFile(state+"/keys"))
	terminal := newTerminal(t)
	for _, row := range []struct {
		environ []string
		want    string
	}{
		{nil, terminal.name},
		{[]string{"GPG_TTY=/dev/null"}, "/dev/null"}, // a device all right: the person's word counts
		{[]string{"GPG_TTY=/dev/pts/99999"}, terminal.name},
		{[]string{"GPG_TTY=/etc/passwd"}, terminal.name},
	} {
		_, out := terminal.run(helper(t, "read", state, "file"), row.environ, "never", "")
		if !strings.Contains(out, fmt.Sprintf("terminal=%q", row.want)) {
			t.Errorf("%q: %s, want %s", row.environ, out, row.want)
		}
	}
	// No controlling terminal: nobody is there, whatever GPG_TTY says.
	cmd := exec.CommandContext(t.Context(), helper(t, "read")[0], "helper:read", state, "file")
	cmd.Env = []string{"GPG_TTY=" + terminal.name}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `terminal=""`) {
		t.Errorf("without a terminal: %s, %v", out, err)
	}
}

// Each source that needs no session, in a process with nothing in its environment.
func TestEmptyEnvironment(t *testing.T) {
	pipe := NewPipe("", helper(t, "encrypt"), helper(t, "decrypt"), Surroundings{})
	for source, args := range map[string][]string{"file": nil, "pipe": pipe.decrypt} {
		state := t.TempDir()
		keys := map[string]Keys{"file": NewFile(state + "/keys"), "pipe": NewPipe(state+"/keys", pipe.encrypt, pipe.decrypt, Surroundings{})}[source]
		newState(t, state, keys)
		argv := append([]string{"-i"}, helper(t, "read", append([]string{state, source}, args...)...)...)
		cmd := exec.CommandContext(t.Context(), "env", argv...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.CombinedOutput()
		if want := `terminal="" display=false grant=` + labCanary + "\n"; err != nil || string(out) != want {
			t.Errorf("%s: %q, %v, want %q", source, out, err, want)
		}
	}
}
