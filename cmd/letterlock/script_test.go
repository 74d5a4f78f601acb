package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// longest is how long a machine that does many other things may take: a guard against
// waiting for ever.
const longest = 5 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"letterlock":     main,
		"mutt_oauth2.py": main,
		"sendmail":       main,
		"mail":           main,
		"mailx":          main,
		"mailq":          main,
		"newaliases":     main,
		"fakebrowser":    fakeBrowser,
	})
}

// fakeBrowser is a browser whose person says yes to everything.
func fakeBrowser() {
	resp, err := http.Get(os.Args[1])
	if err != nil || resp.StatusCode != 200 {
		fmt.Fprintln(os.Stderr, "fakebrowser:", err)
		os.Exit(1)
	}
	resp.Body.Close()
}

// A world is what a script finds around it.
type world struct {
	issuer  *issuer
	mailbox *mailbox
	office  *postOffice
}

type worldKey struct{}

func TestScripts(t *testing.T) { runScripts(t, "testdata") }

// runScripts runs the scripts of a folder; change may add to their surroundings.
func runScripts(t *testing.T, folder string, change ...func(*testscript.Params)) {
	t.Helper()
	params := testscript.Params{
		Dir:                 folder,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			w := &world{issuer: newIssuer()}
			var err error
			if w.mailbox, err = newMailbox(w.issuer); err != nil {
				return err
			}
			if w.office, err = newPostOffice(w.issuer); err != nil {
				return err
			}
			env.Defer(func() { w.issuer.server.Close(); w.mailbox.server.Close(); w.office.server.Close() })
			env.Values[worldKey{}] = w
			home := filepath.Join(env.WorkDir, "home")
			if err := os.MkdirAll(home, 0o700); err != nil {
				return err
			}
			env.Setenv("HOME", home)
			env.Setenv("CONFIG", filepath.Join(home, ".config/letterlock/config.toml"))
			env.Setenv("STATE", filepath.Join(home, ".local/state/letterlock"))
			env.Setenv("ISSUER", w.issuer.server.URL)
			env.Setenv("ISSUERHOST", strings.TrimPrefix(w.issuer.server.URL, "http://"))
			env.Setenv("IMAP", w.mailbox.listener.Addr().String())
			env.Setenv("SMTP", w.office.listener.Addr().String())
			for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT", "BROWSER", "DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
				env.Setenv(name, "")
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"issuer":   issuerCommand,
			"asked":    askedCommand,
			"paste":    pasteCommand,
			"exitcode": exitCodeCommand,
			"snapshot": snapshotCommand,
			"mode":     modeCommand,

			"googleconfig": googleConfigCommand,

			"office":    officeCommand,
			"arrived":   arrivedCommand,
			"letter":    letterCommand,
			"sendready": sendReadyCommand,
			"until":     untilCommand,
			"idle":      idleCommand,

			"zone": zoneCommand,
		},
	}
	for _, f := range change {
		f(&params)
	}
	testscript.Run(t, params)
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// issuer FAULT | register | lifetime SECONDS: how it behaves from here on.
func issuerCommand(ts *testscript.TestScript, _ bool, args []string) {
	i := worldOf(ts).issuer
	switch args[0] {
	case "register":
		i.mu.Lock()
		i.register = true
		i.mu.Unlock()
	case "lifetime":
		i.mu.Lock()
		i.lifetime, _ = strconv.Atoi(args[1])
		i.mu.Unlock()
	case "forget":
		i.mu.Lock()
		i.requests = nil
		i.access = map[string]bool{}
		i.mu.Unlock()
	case "refresh":
		i.mu.Lock()
		i.refresh = args[1]
		i.mu.Unlock()
	case "well":
		i.set("")
	default:
		i.set(args[0])
	}
}

// asked N WHAT: the issuer was asked that so many times.
func askedCommand(ts *testscript.TestScript, _ bool, args []string) {
	i := worldOf(ts).issuer
	i.mu.Lock()
	defer i.mu.Unlock()
	count := 0
	for _, r := range i.requests {
		if r == args[1] {
			count++
		}
	}
	if strconv.Itoa(count) != args[0] {
		ts.Fatalf("%q was asked %d times, not %s: %v", args[1], count, args[0], i.requests)
	}
}

// exitcode CODE PROGRAM ARGS...: runs it, wants that code. A file stdin.txt is its
// standard input.
func exitCodeCommand(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// paste ARGS...: letterlock ARGS with a person who opens the printed address and
// pastes back where it led. With ! the command must fail.
func pasteCommand(ts *testscript.TestScript, neg bool, args []string) {
	cmd := exec.Command(lookIn(ts, "letterlock"), args...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = environ(ts)
	stdin, _ := cmd.StdinPipe()
	stderr, _ := cmd.StderrPipe()
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	ts.Check(cmd.Start())
	var said bytes.Buffer
	var once sync.Once
	lines := bufio.NewReader(io.TeeReader(stderr, &said))
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, ts.Getenv("ISSUER")+"/authorize?") {
			once.Do(func() {
				fmt.Fprintln(stdin, follow(strings.TrimSpace(line)))
				stdin.Close()
			})
		}
		if err != nil {
			break
		}
	}
	stdin.Close()
	err := cmd.Wait()
	ts.Logf("[stdout]\n%s[stderr]\n%s", stdout.String(), said.String())
	if (err != nil) != neg {
		ts.Fatalf("letterlock %v: %v", args, err)
	}
	ts.Check(os.WriteFile(ts.MkAbs("said"), said.Bytes(), 0o600))
}

// follow asks for the page and returns where it redirects to.
func follow(address string) string {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(address)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	return resp.Header.Get("Location")
}

func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "WORK", "XDG_RUNTIME_DIR", "CREDENTIALS_DIRECTORY"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

func lookIn(ts *testscript.TestScript, name string) string {
	for _, folder := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(folder, name); fileExists(path) {
			return path
		}
	}
	ts.Fatalf("%s is not in the PATH", name)
	return ""
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// idle waits until no process works any more in the script's home.
func idleCommand(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(idle(ts.Getenv("HOME"))) }

// idle waits until no process works any more in a home: a sender that was left behind
// looks once more for mail as it ends. Known on Linux only.
func idle(home string) error {
	mark := []byte("\x00HOME=" + home + "\x00")
	for deadline := time.Now().Add(longest); ; <-time.After(20 * time.Millisecond) {
		busy := ""
		environs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range environs {
			text, _ := os.ReadFile(path) // gone, or of somebody else
			if bytes.Contains(append([]byte{0}, text...), mark) {
				busy = filepath.Dir(path)
			}
		}
		if busy == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s goes on", busy)
		}
	}
}

// snapshot NAME FOLDER: writes all names, modes and contents below FOLDER into NAME,
// so that cmp shows that nothing changed. Locks, which are empty, do not count.
func snapshotCommand(ts *testscript.TestScript, _ bool, args []string) {
	var b strings.Builder
	_ = filepath.Walk(ts.MkAbs(args[1]), func(path string, info os.FileInfo, err error) error {
		if err != nil || strings.HasSuffix(path, ".lock") {
			return nil
		}
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), path)
		if info.Mode().IsRegular() {
			data, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "%q\n", data)
		}
		return nil
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

// mode OCTAL PATH: the file has that mode.
func modeCommand(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// googleconfig: a configuration in which google is the test's issuer.
func googleConfigCommand(ts *testscript.TestScript, _ bool, _ []string) {
	u := ts.Getenv("ISSUER")
	text := fmt.Sprintf("[provider.google]\nauthorization_endpoint = %q\ntoken_endpoint = %q\n", u+"/authorize", u+"/token")
	ts.Check(os.WriteFile(ts.Getenv("CONFIG"), []byte(text), 0o600))
}
