package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// fakeAccounts hands out tokens of a given life and counts how often it was asked to.
type fakeAccounts struct {
	mu     sync.Mutex
	life   time.Duration
	expiry map[string]time.Time
	err    map[string]error
	issued int
	asked  int
}

func (f *fakeAccounts) List() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.expiry {
		names = append(names, name)
	}
	return names, nil
}

func (f *fakeAccounts) Token(_ context.Context, name string, want account.Want) (account.Access, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if err := f.err[name]; err != nil {
		return account.Access{}, err
	}
	if time.Until(f.expiry[name]) < want.MinValidity {
		f.issued++
		f.expiry[name] = time.Now().Add(f.life)
	}
	return account.Access{Expiry: f.expiry[name]}, nil
}

// run runs an agent in a bubble for d.
func run(t *testing.T, o Options, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := New(o).Run(ctx); err != nil {
		t.Error(err)
	}
}

// A token is renewed before it ends, and not more often than that needs.
func TestRenewsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := &fakeAccounts{life: time.Hour, expiry: map[string]time.Time{"a": time.Now().Add(time.Hour)}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- New(Options{Accounts: accounts}).Run(ctx) }()
		for range 24 * 60 {
			<-time.After(time.Minute)
			synctest.Wait()
			accounts.mu.Lock()
			if left := time.Until(accounts.expiry["a"]); left < defaultAhead-2*tick {
				t.Errorf("%v before its end the token is not renewed", left)
			}
			accounts.mu.Unlock()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if accounts.issued < 23 || accounts.issued > 30 {
			t.Errorf("%d renewals in a day", accounts.issued)
		}
	})
}

// Tokens that live shorter than the agent would renew ahead do not make it busy.
func TestShortLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := &fakeAccounts{life: 5 * time.Minute, expiry: map[string]time.Time{"a": time.Now()}}
		run(t, Options{Accounts: accounts}, time.Hour)
		if accounts.asked > 35 {
			t.Errorf("asked %d times in an hour", accounts.asked)
		}
	})
}

// A needed sign-in is told once a day, and again after one that was settled.
func TestNotifier(t *testing.T) {
	folder := t.TempDir()
	told := filepath.Join(folder, "told")
	hook := filepath.Join(folder, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$@\" >> "+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	n := &Notifier{Command: []string{hook, "own"}, Now: func() time.Time { return now }, Line: func(s string) string { return strings.ReplaceAll(s, "\n", " ") }}
	n.Tell(t.Context(), SignIn, "a", "first\nline")
	n.Tell(t.Context(), SignIn, "a", "too soon")
	n.Tell(t.Context(), SignIn, "b", "another")
	n.Tell(t.Context(), Failed, "a", "always")
	n.Settle("a")
	n.Tell(t.Context(), SignIn, "a", "settled")
	now = now.Add(25 * time.Hour)
	n.Tell(t.Context(), SignIn, "b", "next day")
	var nobody *Notifier
	nobody.Tell(t.Context(), SignIn, "a", "nobody hears")
	nobody.Settle("a")
	got, err := os.ReadFile(told)
	want := "own sign-in a first line\nown sign-in b another\nown failed a always\nown sign-in a settled\nown sign-in b next day\n"
	if err != nil || string(got) != want {
		t.Errorf("told %q, %v; want %q", got, err, want)
	}
}

func TestTellsOfSignIn(t *testing.T) {
	folder := t.TempDir()
	hook := filepath.Join(folder, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$1 $2\" > "+folder+"/told\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	accounts := &fakeAccounts{expiry: map[string]time.Time{"a": {}}, err: map[string]error{"a": &account.SignInNeeded{Account: "a", Login: "a"}}}
	a := New(Options{Accounts: accounts, Notifier: &Notifier{Command: []string{hook}, Now: time.Now, Line: strings.TrimSpace}})
	if wait := a.renewOne(t.Context(), "a"); wait < 10*time.Minute {
		t.Errorf("asks a provider that says no again after %v", wait)
	}
	if got, err := os.ReadFile(filepath.Join(folder, "told")); err != nil || string(got) != "sign-in a\n" {
		t.Errorf("%q, %v", got, err)
	}
	if s := a.states["a"]; !s.SignIn {
		t.Errorf("state %+v", s)
	}
}

// A drain that breaks is begun again after a pause.
func TestDrainsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := 0
		run(t, Options{Drains: []func(context.Context) error{func(context.Context) error { count++; return errors.New("disk full") }}}, 10*time.Minute+time.Second)
		if count < 9 || count > 12 {
			t.Errorf("%d drains in ten minutes", count)
		}
	})
}

func serving(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	listener, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	a := New(Options{Listener: listener})
	a.setState("a", AccountState{Problem: "x"})
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestSocket(t *testing.T) {
	path := serving(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if folder, _ := os.Stat(filepath.Dir(path)); folder.Mode().Perm() != 0o700 {
		t.Errorf("folder is %v", folder.Mode())
	}
	answer, err := Ask(t.Context(), path, "status")
	if err != nil || answer.PID != os.Getpid() || answer.Accounts["a"].Problem != "x" {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err := Ask(t.Context(), path, "nonsense"); err == nil {
		t.Error("nonsense was answered")
	}
	if !Listens(t.Context(), path) || Listens(t.Context(), path+"x") {
		t.Error("Listens is wrong")
	}
	if _, err := Listen(t.Context(), path); err == nil {
		t.Error("a second agent took the socket away")
	}
}

// A lateDoor lets one peer in as the service is told to end.
type lateDoor struct {
	net.Listener
	peer net.Conn
	end  func()
}

func (l *lateDoor) Accept() (net.Conn, error) {
	l.end()
	return l.peer, nil
}

// Who is let in at the last moment is let out again.
func TestLatePeer(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	if err := New(Options{Listener: &lateDoor{listener, there, cancel}}).Run(ctx); err != nil {
		t.Error(err)
	}
	_ = here.SetReadDeadline(time.Now().Add(time.Minute)) // which a closed pipe refuses
	if _, err := here.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it hears %v", err)
	}
}

// A socket whose agent has died is no hindrance.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	if Listens(t.Context(), path) {
		t.Fatal("the dead listen")
	}
	listener, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
}

// A peer that sends rubbish gets errors, one without line ends is dropped.
func TestRudePeers(t *testing.T) {
	path := serving(t)
	for in, want := range map[string]string{
		"rubbish\n": "no request", "{}\n": "another version", `{"version":1,"do":"x"}` + "\n": "unknown request", strings.Repeat("x", 2*lineLimit): "",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		// The agent may have hung up before it has all of a line without end.
		_, _ = conn.Write([]byte(in))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if want == "" && line != "" || !strings.Contains(line, want) {
			t.Errorf("%.20q: %q, want %q", in, line, want)
		}
		conn.Close()
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"version":1,"do":"status"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"do":"key","recipient":"age1x"}`))
	f.Add([]byte(`{"version":1,"do":"hold","identity":"QUdFLVNFQ1JFVC1LRVktMQ=="}`))
	f.Add([]byte(`{"version":1,"do":"lock"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if a := New(Options{Keys: &tokenstore.Held{}}).answer(line); a.Version != Version {
			t.Fatalf("%+v", a)
		}
	})
}

// hookInto is a command that keeps its last arguments in a file.
func hookInto(t *testing.T, file string) string {
	t.Helper()
	hook := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$@\" > "+file+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return hook
}

func TestBounces(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "reports")
	b := &Bounces{Folder: folder, Host: "host.test", Now: time.Now}
	for range 2 {
		if err := b.Bounce(t.Context(), queue.Notice{Kind: queue.Failed, To: "me@x.test", DSN: []byte("Subject: no\r\n\r\n")}); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(folder, "new"))
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	// The person hears what the report says, and no byte of an address steers anything.
	b.Notifier = &Notifier{Command: []string{hookInto(t, filepath.Join(folder, "told"))}, Now: time.Now, Line: func(s string) string { return strings.ReplaceAll(s, "\n", "?") }}
	for kind, want := range map[queue.Kind]string{queue.Failed: "failed m?e a message was not delivered; ", queue.Delayed: "delayed m?e a message is late ", queue.Relayed: "relayed m?e a message was handed "} {
		if err := b.Bounce(t.Context(), queue.Notice{Kind: kind, To: "m\ne"}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(folder, "told")); err != nil || !strings.HasPrefix(string(got), want) || strings.Contains(string(got), "not delivered") != (kind == queue.Failed) {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
	if err := os.Chmod(filepath.Join(folder, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Bounce(t.Context(), queue.Notice{}); err == nil {
		t.Error("a folder that others read was written into")
	}
}

func TestSocketPath(t *testing.T) {
	runtime := func(v string) func(string) string { return func(string) string { return v } }
	if got := SocketPath(runtime("/run/x"), "/state", 5); got != "/run/x/letterlock/agent.sock" {
		t.Error(got)
	}
	for _, v := range []string{"", "relative"} {
		if got := SocketPath(runtime(v), "/state", 1<<30); got != "/state/agent.sock" {
			t.Errorf("%q: %s", v, got)
		}
	}
}
