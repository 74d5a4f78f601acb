//go:build live

package e2e

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLive is what the fakes stand for, with the real provider and a person at the
// terminal:
//
//	letterlock register google          (once; a client id of your own)
//	make live ACCOUNT=you@gmail.com
//
// It signs in by the flow that letterlock chooses here, fetches a token and shows none,
// has it renewed, fetches those for the provider's other resources, logs in to IMAP,
// POP3 and submission, and asks before it revokes. It sends no mail and changes none.
//
// The client id comes from your configuration, which is copied. Grants and all else
// are kept in a temporary folder: an account that you have already is not touched. A
// tenant or a redirect URI of your own belong into the configuration, by letterlock
// register. TestLiveRehearsal runs this against the fake of Google.
func TestLive(t *testing.T) {
	address := *liveAccount
	if address == "" {
		t.Fatal("make live ACCOUNT=you@example.org: the account to sign in with")
	}
	l := newLive(t)
	login := []string{"login", address, "--key", "file"}
	if *liveProvider != "" {
		login = append(login, "--provider", *liveProvider)
	}
	l.talk(login...)
	first := l.home.token(address)
	l.say("token: ok, %d bytes", len(first))
	grant := l.home.grant(address)
	l.say("provider %s, signed in as %s by %s; refresh token: %t", grant.Provider, grant.Subject, grant.Flow, !grant.Refresh.IsZero())

	l.home.expire(address)
	second := l.home.token(address)
	rotated := !l.home.grant(address).Refresh.Equal(grant.Refresh)
	l.say("refresh: ok, another access token: %t, another refresh token: %t", second != first, rotated)
	for _, resource := range grant.Resources[1:] {
		purpose := string(resource.Purposes[0])
		r := l.home.letterlock("token", address, "--for", purpose)
		l.say("token for %s (%s): exit %d, %d bytes %s", resource.Name, purpose, r.code, len(strings.TrimSpace(r.stdout)), r.stderr)
		if grant.Flow != "device" && r.code != 0 {
			t.Errorf("one refresh token serves all resources, but not %s", resource.Name)
		}
	}
	l.show("test", address)
	l.show("accounts")
	if grant.Provider == "google" {
		l.home.letterlock("login", address, "--flow", "device", "--key", "file").says(t, 69, "no sign-in by device code for mail")
	}
	if !l.yes("revoke this sign-in at the provider and delete it here?") {
		l.say("the grant stays at the provider; its copy here is deleted with the temporary folder")
		return
	}
	l.show("logout", address)
	l.home.letterlock("token", address).says(t, 77, "is not signed in")
}

var (
	liveAccount  = flag.String("account", "", "the address to sign in with")
	liveProvider = flag.String("provider", "", "the provider, when the address does not say")
)

// A live run has a home of its own and the person's terminal.
type live struct {
	t        *testing.T
	home     *home
	terminal *os.File
	in       *bufio.Reader
}

func newLive(t *testing.T) *live {
	t.Helper()
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a person has to sign in: run it in a terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	config, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(config, ".config")
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		config = dir
	}
	text, err := os.ReadFile(filepath.Join(config, "letterlock", "config.toml"))
	if err != nil {
		t.Fatalf("register a client id of your own first: letterlock register google: %v", err)
	}
	h := newHome(t)
	// What shows letterlock a browser, and how to reach it.
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "BROWSER", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "SSH_CONNECTION",
		"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "LANG", "PATH"} {
		if value := os.Getenv(name); value != "" {
			h.env = append(h.env, name+"="+value)
		}
	}
	h.write(".config/letterlock/config.toml", string(text))
	return &live{t: t, home: h, terminal: terminal, in: bufio.NewReader(terminal)}
}

// say reports to the log and to the person.
func (l *live) say(format string, args ...any) {
	l.t.Helper()
	l.t.Logf(format, args...)
	fmt.Fprintf(l.terminal, format+"\n", args...)
}

// talk runs letterlock on the person's terminal. It has no time limit but its own.
func (l *live) talk(args ...string) {
	l.t.Helper()
	cmd := exec.Command(binary(l.t), args...)
	cmd.Dir, cmd.Env = l.home.dir, l.home.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.terminal, l.terminal, l.terminal
	if err := cmd.Run(); err != nil {
		l.t.Fatalf("letterlock %s: %v", strings.Join(args, " "), err)
	}
}

// show runs a command that has to succeed and shows what it printed.
func (l *live) show(args ...string) {
	l.t.Helper()
	r := l.home.letterlock(args...)
	l.say("letterlock %s: %v", strings.Join(args, " "), r)
	if r.code != 0 {
		l.t.Errorf("letterlock %s failed", strings.Join(args, " "))
	}
}

func (l *live) yes(question string) bool {
	l.t.Helper()
	fmt.Fprintf(l.terminal, "%s [y/N] ", question)
	line, err := l.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		l.t.Fatal(err)
	}
	return strings.EqualFold(strings.TrimSpace(line), "y")
}
