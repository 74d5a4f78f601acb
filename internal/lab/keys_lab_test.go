//go:build lab

package lab_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

func TestGPG(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     lab.GPGOptions
		opens bool
		asked int
	}{
		{"no passphrase", lab.GPGOptions{}, true, 0},
		{"passphrase", lab.GPGOptions{Passphrase: "it's a secret"}, true, 1},
		{"cancelled", lab.GPGOptions{Passphrase: "secret", Pinentry: "cancel"}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			g := lab.RunGPG(t, c.o)
			encrypt := g.Command(ctx, "--batch", "--trust-model", "always", "-r", g.Key, "-e")
			encrypt.Stdin = strings.NewReader("hello")
			sealed, err := encrypt.Output()
			if err != nil {
				t.Fatal(err)
			}
			decrypt := g.Command(ctx, "--batch", "-d")
			decrypt.Stdin = bytes.NewReader(sealed)
			plain, err := decrypt.Output()
			if (err == nil && string(plain) == "hello") != c.opens || g.Asked() != c.asked {
				t.Errorf("decrypt gave %q, %v; pinentry was asked %d times", plain, err, g.Asked())
			}
			g.Stop()
			if _, err := os.Stat(g.Home); !os.IsNotExist(err) {
				t.Errorf("the home is left: %v", err)
			}
		})
	}
}

// A real pinentry asks on a real terminal.
func TestGPGOnATerminal(t *testing.T) {
	ctx := within(t)
	g := lab.RunGPG(t, lab.GPGOptions{Passphrase: "typed", Pinentry: "/usr/bin/pinentry-tty"})
	encrypt := g.Command(ctx, "--batch", "--trust-model", "always", "-r", g.Key, "-e", "-o", g.Home+"/x.gpg")
	encrypt.Stdin = strings.NewReader("hello")
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("/bin/sh", "-c", `GPG_TTY=$(tty) exec gpg -q -d "$GNUPGHOME/x.gpg"`)
	cmd.Env = append(os.Environ(), g.Env()...)
	term, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Stop()
	if err := term.Expect(ctx, "Passphrase:"); err != nil {
		t.Fatal(err)
	}
	if err := term.Type("typed\r"); err != nil {
		t.Fatal(err)
	}
	if err := term.Expect(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := term.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestKeyring(t *testing.T) {
	ctx := within(t)
	k := lab.RunKeyring(t, "login password")
	if err := k.Store(ctx, "a label", "a secret", "lab", "one"); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Lookup(ctx, "lab", "one"); got != "a secret" || err != nil {
		t.Errorf("lookup gave %q, %v", got, err)
	}
	if got, err := k.Lookup(ctx, "lab", "two"); err == nil {
		t.Errorf("lookup of nothing gave %q", got)
	}
}

func TestKeyringLockUnlock(t *testing.T) {
	ctx := within(t)
	k := lab.RunKeyring(t, "right")
	if err := k.Store(ctx, "x", "secret", "lab", "lock"); err != nil {
		t.Fatal(err)
	}
	if err := k.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.Unlock(ctx, "wrong"); err == nil {
		t.Error("a wrong password unlocks")
	}
	if err := k.Unlock(ctx, "right"); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Lookup(ctx, "lab", "lock"); err != nil || got != "secret" {
		t.Errorf("Lookup = %q, %v", got, err)
	}
}
