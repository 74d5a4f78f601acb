//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// dropChild is set in the process that gives its rights up, for good.
const dropChild = "LETTERLOCK_TEST_DROP"

// TestSystemDropsRights needs to be root to give that up. Others show that --system
// leaves them as they are.
func TestSystemDropsRights(t *testing.T) {
	if os.Getenv(dropChild) != "" {
		dropAndTell()
		return
	}
	if os.Geteuid() != 0 {
		p := &program{system: true, environ: []string{"HOME=/home/me"}}
		if err := p.becomeSystem(); err != nil || p.environ[0] != "HOME=/home/me" {
			t.Errorf("%v, %v", err, p.environ)
		}
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestSystemDropsRights$")
	// The child cannot clear away what TestMain made as root, and says so as it ends.
	child.Env = append(os.Environ(), dropChild+"=1", "TMPDIR="+t.TempDir())
	out, err := child.CombinedOutput()
	if !strings.Contains(string(out), "dropped for good") {
		t.Errorf("%v\n%s", err, out)
	}
}

func dropAndTell() {
	who, err := user.Lookup("nobody")
	if err == nil {
		err = dropTo(who)
	}
	groups, groupErr := os.Getgroups()
	switch {
	case err != nil || groupErr != nil:
		fmt.Println("failed:", err, groupErr)
	case os.Getuid() == 0 || os.Geteuid() == 0 || os.Getgid() == 0 || os.Getegid() == 0 || slices.Contains(groups, 0):
		fmt.Println("still root:", os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups)
	case syscall.Setuid(0) == nil || syscall.Setgid(0) == nil || syscall.Setgroups([]int{0}) == nil:
		fmt.Println("it can be undone")
	default:
		fmt.Println("dropped for good")
	}
}

// What points into the administrator's home must not be followed with the rights of
// another user, by gpg least of all.
func TestSystemEnvironment(t *testing.T) {
	got := systemEnviron([]string{"HOME=/root", "PATH=/usr/bin", "GNUPGHOME=/root/.gnupg", "TMPDIR=/tmp/user/0", "XDG_RUNTIME_DIR=/run/user/0", "XDG_CONFIG_HOME=/root/c",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus", "HTTPS_PROXY=http://proxy:3128", "TERM=xterm", "GPG_TTY=/dev/pts/1"}, "/var/lib/letterlock")
	want := []string{"PATH=/usr/bin", "HTTPS_PROXY=http://proxy:3128", "TERM=xterm", "GPG_TTY=/dev/pts/1", "HOME=/var/lib/letterlock"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
