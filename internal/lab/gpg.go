package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GPG is a GnuPG home of its own with one key.
type GPG struct {
	Home string
	Key  string // fingerprint
	UID  string
	path string
}

// GPGOptions describe a key.
type GPGOptions struct {
	// Passphrase protects it; empty: none.
	Passphrase string
	// Pinentry answers the agent: "" gives the passphrase as soon as it is
	// asked, "cancel" refuses, an absolute path is the program to use
	// (/usr/bin/pinentry-tty for a real terminal).
	Pinentry string
}

// StartGPG makes the home and the key; about 0.3 s.
func StartGPG(ctx context.Context, o GPGOptions) (*GPG, error) {
	path, err := find("gpg", "gnupg")
	if err != nil {
		return nil, err
	}
	g := &GPG{UID: "lab@try.test", path: path}
	if g.Home, err = newFolder("gpg"); err != nil {
		return nil, err
	}
	if err := g.prepare(ctx, o); err != nil {
		g.Stop()
		return nil, fmt.Errorf("make gpg home: %w", err)
	}
	return g, nil
}

func (g *GPG) prepare(ctx context.Context, o GPGOptions) error {
	if err := os.Chmod(g.Home, 0o700); err != nil { // gpg warns of anything looser
		return err
	}
	pinentry := o.Pinentry
	if !filepath.IsAbs(pinentry) {
		pinentry = filepath.Join(g.Home, "pinentry")
		if err := os.WriteFile(pinentry, []byte(pinentryScript(o)), 0o700); err != nil {
			return err
		}
	}
	conf := "pinentry-program " + pinentry + "\nallow-loopback-pinentry\n" +
		"s2k-count 65536\n" // the agent would measure the machine, for seconds when it is busy
	if err := os.WriteFile(filepath.Join(g.Home, "gpg-agent.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	// Loopback gives the passphrase without the pinentry under test; gpg reads
	// it from standard input, so it is in no argument list.
	cmd := g.Command(ctx, "--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0",
		"--quick-gen-key", g.UID, "future-default", "default", "never") // Curve25519: RSA takes seconds
	cmd.Stdin = strings.NewReader(o.Passphrase + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err := g.Command(ctx, "--batch", "--with-colons", "--list-keys").Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && g.Key == "" {
			g.Key = f[9]
		}
	}
	if g.Key == "" {
		return errors.New("no fingerprint was listed")
	}
	// The agent still knows the passphrase from the making of the key.
	return g.Forget(ctx)
}

// pinentryScript speaks the Assuan protocol, as far as the agent needs it.
func pinentryScript(o GPGOptions) string {
	answer := "printf 'D %s\\nOK\\n' \"$pass\""
	if o.Pinentry == "cancel" {
		answer = "echo 'ERR 83886179 Operation cancelled'"
	}
	return "#!/bin/sh\npass='" + strings.ReplaceAll(o.Passphrase, "'", `'\''`) + `'
echo "OK ready"
while read -r command rest; do
  case "$command" in
    GETPIN) echo asked >>"$(dirname "$0")/asked"; ` + answer + ` ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
`
}

// Command is a gpg command in this home.
func (g *GPG) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Env = append(os.Environ(), g.Env()...)
	return cmd
}

// Env is what a program needs to use this home.
func (g *GPG) Env() []string { return []string{"GNUPGHOME=" + g.Home} }

// Asked says how often the scripted pinentry was asked for the passphrase.
func (g *GPG) Asked() int {
	data, _ := os.ReadFile(filepath.Join(g.Home, "asked"))
	return strings.Count(string(data), "\n")
}

// Forget makes the agent ask for the passphrase again.
func (g *GPG) Forget(ctx context.Context) error {
	// A reload empties its cache. Killing it would race with the next gpg, which
	// may still reach the dying one and then waits five seconds.
	return g.connect(ctx, "gpg-connect-agent", "reloadagent", "/bye")
}

// Stop ends the agent and removes the home.
func (g *GPG) Stop() {
	// The agent's socket is named after the home: no other agent is reached.
	_ = g.connect(context.Background(), "gpgconf", "--kill", "all")
	os.RemoveAll(g.Home)
}

func (g *GPG) connect(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), g.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}
