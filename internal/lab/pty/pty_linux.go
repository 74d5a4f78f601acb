// Package pty runs a program in a pseudo-terminal for the lab and types at its
// prompts, as a person would.
package pty

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a program running in a pseudo-terminal of 100 by 40.
type Terminal struct {
	cmd    *exec.Cmd
	master *os.File
	name   string
	done   chan struct{}
	err    error

	mu      sync.Mutex
	screen  bytes.Buffer // everything written, control sequences too
	read    int          // how much of it Expect has passed
	changed chan struct{}
}

// Start runs a command with the terminal as its input, output, error and
// controlling terminal. cmd's own streams must be unset.
func Start(cmd *exec.Cmd) (*Terminal, error) {
	master, name, err := open()
	if err != nil {
		return nil, fmt.Errorf("open pseudo-terminal: %w", err)
	}
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open pseudo-terminal: %w", err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	// A session of its own whose controlling terminal is descriptor 0: the
	// program may open /dev/tty, and Ctrl-C reaches it.
	// The user to run as stays what the caller chose.
	attr := &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if cmd.SysProcAttr != nil {
		attr.Credential = cmd.SysProcAttr.Credential
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, fmt.Errorf("start in pseudo-terminal: %w", err)
	}
	t := &Terminal{cmd: cmd, master: master, name: name, done: make(chan struct{}), changed: make(chan struct{})}
	go t.follow()
	return t, nil
}

func open() (*os.File, string, error) {
	// Non-blocking, so that closing the file ends a read under way.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, "", err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err != nil {
		master.Close()
		return nil, "", err
	}
	return master, "/dev/pts/" + strconv.Itoa(n), nil
}

// follow owns the process: it reads its output and reaps it.
func (t *Terminal) follow() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := t.master.Read(buf)
			t.mu.Lock()
			t.screen.Write(buf[:n])
			close(t.changed)
			t.changed = make(chan struct{})
			t.mu.Unlock()
			if err != nil {
				return // EIO: the last holder of the terminal is gone
			}
		}
	}()
	t.err = t.cmd.Wait()
	select {
	case <-ended:
	case <-time.After(2 * time.Second): // a child in the background keeps the terminal
	}
	t.master.Close()
	<-ended
	close(t.done)
}

// Name is the terminal's device, for GPG_TTY.
func (t *Terminal) Name() string { return t.name }

// Type writes text as if it was typed; end a line with "\r".
func (t *Terminal) Type(text string) error {
	_, err := t.master.WriteString(text)
	return err
}

// Expect waits until text appears after what the last Expect found.
func (t *Terminal) Expect(ctx context.Context, text string) error {
	for {
		// Asked before the screen is looked at: the last words may come together with the
		// end, and select takes either.
		ended := false
		select {
		case <-t.done:
			ended = true
		default:
		}
		t.mu.Lock()
		all, changed := t.screen.Bytes(), t.changed
		at := bytes.Index(all[t.read:], []byte(text))
		if at >= 0 {
			t.read += at + len(text)
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		if ended {
			return fmt.Errorf("wait for %q on the terminal: the program ended (%v): %q", text, t.err, t.Output())
		}
		select {
		case <-changed:
		case <-t.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for %q on the terminal: %w: %q", text, ctx.Err(), t.Output())
		}
	}
}

// Echo says whether the terminal shows what is typed; a password prompt turns
// it off.
func (t *Terminal) Echo() (bool, error) {
	attr, err := unix.IoctlGetTermios(int(t.master.Fd()), unix.TCGETS)
	if err != nil {
		return false, err
	}
	return attr.Lflag&unix.ECHO != 0, nil
}

// Output is everything the program and the echo have written.
func (t *Terminal) Output() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.String()
}

// Wait waits for the program and returns what exec.Cmd.Wait says.
func (t *Terminal) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the program: %w: %q", ctx.Err(), t.Output())
	}
}

// Stop ends the program and everything in its session that kept its process
// group. It is harmless after the program has ended.
func (t *Terminal) Stop() {
	select {
	case <-t.done:
	default:
		_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
		<-t.done
	}
}
