package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// grace is how long the program may take to end once it was told to.
const grace = 5 * time.Second

// environment is all that the program inherits: what the daemon has in its own (sockets of
// systemd, credentials) is not for it.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
}

// run runs the program once.
func (r *Runner) run(ctx context.Context, e identity.Event, input []byte) error {
	bound, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	cmd := exec.CommandContext(bound, r.o.Command[0], r.o.Command[1:]...)
	cmd.Env, cmd.Dir = environment(), "/"
	cmd.Stdin = bytes.NewReader(input)
	out := &logWriter{say: func(text string) { r.o.Log.Info("hook says", "event", e.Kind, "id", e.ID, "text", text) }}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = grace // and then what holds its output open is let go
	ownGroup(cmd)
	err := cmd.Run()
	if bound.Err() != nil {
		endGroup(cmd)
	}
	out.end()
	if errors.Is(bound.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("not done after %v", r.o.Timeout)
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("run hook: %w", err)
	}
	return nil
}

// Bounds of what a program's output may put into the log.
const (
	maxLine  = 1000
	maxLines = 200
)

// A logWriter writes a program's output to the log, line by line.
type logWriter struct {
	say func(string)

	mu    sync.Mutex
	rest  []byte
	lines int
}

// Write implements io.Writer.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range p {
		if c == '\n' {
			w.flush()
		} else if len(w.rest) < maxLine {
			w.rest = append(w.rest, c)
		}
	}
	return len(p), nil
}

func (w *logWriter) flush() {
	switch {
	case w.lines < maxLines && len(bytes.TrimSpace(w.rest)) > 0:
		w.say(cli.Line(string(w.rest)))
	case w.lines == maxLines:
		w.say("more is not shown")
	}
	w.lines++
	w.rest = w.rest[:0]
}

// end writes what had no end of line.
func (w *logWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.flush()
	}
}
