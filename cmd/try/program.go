package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// patience guards against waiting for ever: a step takes a second, and on a busy machine as
// long as it takes.
const patience = 5 * time.Minute

// A program is the real letterlock, with a home of its own so that it touches nothing
// of the person's.
type program struct {
	path string
	home string
	env  []string
}

func newProgram(path, home string) (*program, error) {
	p := &program{path: path, home: home}
	for _, name := range []string{"", "config", "state", "runtime", "data", "cache", "tmp"} {
		if err := os.Mkdir(filepath.Join(home, name), 0o700); err != nil {
			return nil, fmt.Errorf("make home: %w", err)
		}
	}
	in := func(name string) string { return filepath.Join(home, name) }
	// Neither display nor session bus: the key source is a file here, and nothing may
	// reach the person's own keyring.
	p.env = []string{
		"HOME=" + home, "USERPROFILE=" + home, "XDG_CONFIG_HOME=" + in("config"), "XDG_STATE_HOME=" + in("state"),
		"XDG_RUNTIME_DIR=" + in("runtime"), "XDG_DATA_HOME=" + in("data"), "XDG_CACHE_HOME=" + in("cache"),
		"APPDATA=" + in("config"), "LOCALAPPDATA=" + in("state"), "TMPDIR=" + in("tmp"), "TMP=" + in("tmp"), "TEMP=" + in("tmp"),
		"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8",
	}
	if root := os.Getenv("SYSTEMROOT"); root != "" {
		p.env = append(p.env, "SYSTEMROOT="+root) // sockets need it on Windows
	}
	return p, nil
}

func (p *program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env, cmd.Dir = p.env, p.home
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a command to its end and returns its standard output.
func (p *program) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", explain(err, errs.String())
	}
	return out.String(), nil
}

// explain joins the exit status with what the program said. Standard output is left
// out: a token may be in it.
func explain(err error, said string) error {
	if said = strings.TrimSpace(said); said != "" {
		return fmt.Errorf("%w: %s", err, cli.Line(said))
	}
	return err
}

// A signingIn is a running `letterlock login`.
type signingIn struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	said   *watched
	ended  chan struct{}
	err    error
}

func (p *program) login(ctx context.Context, args []string) *signingIn {
	ctx, cancel := context.WithCancel(ctx)
	l := &signingIn{cmd: p.command(ctx, args...), cancel: cancel, said: newWatched(), ended: make(chan struct{})}
	l.cmd.Stdout, l.cmd.Stderr = l.said, l.said
	go func() {
		defer close(l.ended)
		l.err = l.cmd.Run()
	}()
	return l
}

// url waits for the address that the person is to open.
func (l *signingIn) url(ctx context.Context, issuer string) (string, error) {
	pattern := regexp.MustCompile(regexp.QuoteMeta(issuer) + `/authorize\?\S+`)
	for {
		said, more := l.said.text()
		// A whole line, lest the address be cut.
		if at := pattern.FindStringIndex(said); at != nil && at[1] < len(said) {
			return said[at[0]:at[1]], nil
		}
		select {
		case <-more:
		case <-l.ended:
			said, _ = l.said.text()
			return "", explain(cmp.Or(l.err, errors.New("it ended before anybody signed in")), said)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// wait waits for the end of login and for that of the clicker, if there is one. The
// clicker's trouble is told first: login only waits in vain because of it.
func (l *signingIn) wait(ctx context.Context, clicked <-chan error) error {
	if clicked != nil {
		select {
		case err := <-clicked:
			if err != nil {
				return fmt.Errorf("click: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	<-l.ended // ctx ends the process
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if l.err != nil {
		said, _ := l.said.text()
		return explain(l.err, said)
	}
	return nil
}

func (l *signingIn) stop() {
	l.cancel()
	<-l.ended
}

// watched is a buffer that tells when more was written to it.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newWatched() *watched { return &watched{more: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.buf.Write(p)
}

func (w *watched) text() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String(), w.more
}
