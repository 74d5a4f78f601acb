//go:build lab && linux

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// The first hour: letterlockd serve by somebody who is not root and has no configuration, in
// a network of its own because the port is the one that stands in the manual. The link of the
// first administrator is on the terminal and leads to the page; with a log instead of a
// terminal it is nowhere.
func TestServeWithoutConfiguration(t *testing.T) {
	ctx := patiently(t)
	home := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	// By this name the test program is letterlockd, see TestMain.
	program = filepath.Join(home, "letterlockd")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for folder := home; folder != os.TempDir() && len(folder) > 1; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	serve := func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/usr/bin/unshare", "--net", "sh", "-c",
			`ip link set lo up && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$0" --config /etc/letterlock/letterlockd.toml serve`, program)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}
		return cmd
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := serve(ctx)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Stop()
	if err := terminal.Expect(ctx, "msg=ready"); err != nil {
		t.Fatalf("%v: %s", err, terminal.Output())
	}
	link := regexp.MustCompile(`http://localhost:8480/signin/first\?code=\S+`).FindString(terminal.Output())
	if link == "" || strings.Count(terminal.Output(), "code=") != 1 {
		t.Fatalf("the terminal shows %s", terminal.Output())
	}
	fetch := exec.CommandContext(ctx, "/usr/bin/nsenter", "--target", strconv.Itoa(cmd.Process.Pid), "--net", "curl", "-sS", "-L", "-c", filepath.Join(home, "jar"), link)
	page, err := fetch.CombinedOutput()
	if err != nil || !strings.Contains(string(page), "Nobody looks after this server yet") {
		t.Errorf("%v: %s", err, page)
	}
	for _, name := range []string{"letterlockd.db", "master.key"} {
		info, err := os.Stat(filepath.Join(home, ".local/state/letterlockd", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	terminal.Stop()

	// The same without a terminal, as a service manager starts it.
	cmd = serve(ctx)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, chunk := "", make([]byte, 4096)
	for !strings.Contains(text, "msg=ready") {
		n, err := log.Read(chunk)
		text += string(chunk[:n])
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	stop()
	_ = cmd.Wait() // it was killed
	if strings.Contains(text, "code=") || !strings.Contains(text, "letterlockd person invite ADDRESS --admin") {
		t.Errorf("the log says %s", text)
	}
}

// nobody is a user who owns nothing.
const nobody = 65534
