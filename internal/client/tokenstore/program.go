package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// A program is one run of a helper: secrets go in and out through pipes only, and
// whatever it does ends after a while.
type program struct {
	argv  []string
	stdin []byte
	where Surroundings
}

// errSilent means that a helper neither ended nor answered in time.
var errSilent = errors.New("did not answer in time")

// errFlood means that a helper wrote more than any key takes.
var errFlood = errors.New("wrote more than 64 KiB")

// A failure is a helper's unhappy end. Status is its exit status, or -1 when it did
// not start, was killed or wrote too much.
type failure struct {
	program string
	status  int
	stderr  string
	err     error
}

// Error is one printable line.
func (f *failure) Error() string {
	text := fmt.Sprintf("%s: %v", f.program, f.err)
	if note := printable(f.stderr); note != "" {
		text += ": " + note
	}
	return text
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// interrupted says that a signal ended the helper that was not ours: somebody
// pressed Ctrl-C at its question, which reaches it before it reaches us.
func (f *failure) interrupted() bool {
	var exit *exec.ExitError
	return f.status < 0 && errors.As(f.err, &exit)
}

const (
	stdoutLimit = keyFileLimit
	stderrLimit = 16 << 10
)

// run runs the program and returns what it wrote. It never takes longer than
// Surroundings.patience and a moment.
func (p program) run(ctx context.Context) (stdout []byte, stderr string, err error) {
	name := filepath.Base(p.argv[0])
	path, err := p.where.find(p.argv[0])
	if err != nil {
		return nil, "", &failure{program: name, status: -1, err: errors.New("no such program")}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.where.patience(), errSilent)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, p.argv[1:]...)
	out, notes := &limited{room: stdoutLimit, strict: true}, &limited{room: stderrLimit}
	cmd.Env = p.where.complete()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(p.stdin), out, notes
	// A grandchild that keeps the pipes open must not keep us.
	cmd.WaitDelay = killLimit
	if !p.where.person() {
		detach(cmd)
	}
	err = cmd.Run()
	stderr = notes.data.String()
	if err == nil {
		return out.data.Bytes(), stderr, nil
	}
	clear(out.data.Bytes())
	status := -1
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	switch {
	case ctx.Err() != nil:
		status, err = -1, context.Cause(ctx)
	case out.data.Len() == stdoutLimit:
		// We ended it; what it died of is our doing.
		status, err = -1, errFlood
	}
	return nil, stderr, &failure{program: name, status: status, stderr: stderr, err: err}
}

// limited takes so many bytes. After them it is an error (which ends the program
// with SIGPIPE) when strict; otherwise the rest is dropped.
type limited struct {
	// Not embedded: io.Copy would find the buffer's ReadFrom, which knows no limit.
	data   bytes.Buffer
	room   int
	strict bool
}

func (l *limited) Write(data []byte) (int, error) {
	left := l.room - l.data.Len()
	if len(data) <= left {
		return l.data.Write(data)
	}
	l.data.Write(data[:left])
	if l.strict {
		return left, errFlood
	}
	return len(data), nil
}

// printable makes one safe line of a program's complaints: the last ones, which
// tell why it gave up, and no key if it should have echoed one.
func printable(stderr string) string {
	if strings.Contains(strings.ToUpper(stderr), secretPrefix) {
		return "(not shown: it holds a key)"
	}
	const limit = 300
	stderr = withoutStatus(stderr)
	line := []rune(cli.Line(stderr[max(0, len(stderr)-3*limit):]))
	if len(line) > limit {
		return "… " + string(line[len(line)-limit:])
	}
	return string(line)
}

// withoutStatus leaves out gpg's lines for programs.
func withoutStatus(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "[GNUPG:] ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// secretPrefix starts every age identity.
const secretPrefix = "AGE-SECRET-KEY-"
