package pty_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

func TestTypingAtAPrompt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	term, err := pty.Start(exec.Command("/bin/sh", "-c",
		`test -t 0 && test -t 1 && echo "on a terminal"; stty -echo; printf 'Password: '; read -r x </dev/tty; stty echo; echo; echo "len ${#x}"; exit 7`))
	if err != nil {
		t.Fatal(err)
	}
	defer term.Stop()
	for _, text := range []string{"on a terminal", "Password: "} {
		if err := term.Expect(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	if on, err := term.Echo(); on || err != nil {
		t.Errorf("echo is %v at the password prompt: %v", on, err)
	}
	if err := term.Type("hidden\r"); err != nil {
		t.Fatal(err)
	}
	if err := term.Expect(ctx, "len 6"); err != nil {
		t.Fatal(err)
	}
	err = term.Wait(ctx)
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 7 {
		t.Errorf("the program ended with %v", err)
	}
	if strings.Contains(term.Output(), "hidden") {
		t.Errorf("the password was shown: %q", term.Output())
	}
	if err := term.Expect(ctx, "never"); err == nil {
		t.Error("Expect found what was never written")
	}
}

func TestInterruptAndStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	start := func() *pty.Terminal {
		term, err := pty.Start(exec.Command("/bin/sh", "-c", `echo ready; while :; do read -r x; done`))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(term.Stop)
		if err := term.Expect(ctx, "ready"); err != nil {
			t.Fatal(err)
		}
		return term
	}
	interrupted := start()
	if err := interrupted.Type("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := interrupted.Wait(ctx); err == nil || !strings.Contains(err.Error(), "interrupt") {
		t.Errorf("Ctrl-C ended it with %v", err)
	}
	stopped := start()
	stopped.Stop()
	stopped.Stop()
	if err := stopped.Wait(ctx); err == nil {
		t.Error("a stopped program ended well")
	}
}
