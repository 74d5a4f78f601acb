package hook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/hook"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestMain is the hook too: what it does stands in its arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "as-hook" {
		os.Exit(asHook(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func asHook(mode string, args []string) int {
	var in bytes.Buffer
	if _, err := in.ReadFrom(os.Stdin); err != nil {
		return 1
	}
	switch mode {
	case "hang":
		if len(args) > 1 { // somebody wants to know that it runs
			conn, err := net.Dial("unix", args[1])
			if err != nil {
				return 1
			}
			defer conn.Close()
		}
		<-time.After(time.Hour)
	case "deaf": // what a hook has started, and does not end when it is told to
		signal.Ignore(syscall.SIGTERM)
		conn, err := net.Dial("unix", args[0])
		if err != nil {
			return 1
		}
		_, _ = conn.Read(make([]byte, 1)) // until the test is over
		return 0
	case "starts":
		if exec.Command(os.Args[0], "as-hook", "deaf", args[1]).Start() != nil {
			return 1
		}
		<-time.After(time.Hour)
	case "fail-unless":
		if _, err := os.Stat(args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "not yet\x1b[31m")
			return 75
		}
	case "environment":
		in.Reset()
		in.WriteString(strings.Join(os.Environ(), " ") + "\n")
	}
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	if _, err := f.Write(in.Bytes()); err != nil {
		return 1
	}
	fmt.Println("noted")
	return 0
}

// A yard is a database with a hook.
type yard struct {
	t     *testing.T
	db    *database.DB
	store hook.Store // what runners ask
	out   string
	mu    sync.Mutex
	now   time.Time
	logs  bytes.Buffer
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{t: t, out: filepath.Join(t.TempDir(), "out"), now: time.Now().Truncate(time.Second)}
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "db"), database.Options{Timeout: time.Minute, Now: y.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	y.db, y.store = db, db
	return y
}

func (y *yard) clock() time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.now
}

func (y *yard) later(d time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.now = y.now.Add(d)
}

func (y *yard) runner(holder string, timeout time.Duration, args ...string) *hook.Runner {
	y.t.Helper()
	self, err := os.Executable()
	if err != nil {
		y.t.Fatal(err)
	}
	r, err := hook.New(hook.Options{Store: y.store, Command: append([]string{self, "as-hook"}, args...), Timeout: timeout, Holder: holder, Now: y.clock,
		Log: slog.New(slog.NewTextHandler(&lockedWriter{mu: &y.mu, w: &y.logs}, nil))})
	if err != nil {
		y.t.Fatal(err)
	}
	return r
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (y *yard) look(r *hook.Runner) {
	y.t.Helper()
	if err := r.Look(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) must(err error) {
	y.t.Helper()
	if err != nil {
		y.t.Fatal(err)
	}
}

// A heard line is what the hook was told.
type heard struct {
	Version int
	Event   struct{ ID, Kind, Actor, Detail string }
	Person  *struct {
		Address, Name, Reason string
		Active                bool
	}
	Addresses []struct {
		Address string
		Roles   []string
	}
}

func (y *yard) heard() []heard {
	y.t.Helper()
	data, err := os.ReadFile(y.out)
	if os.IsNotExist(err) {
		return nil
	}
	y.must(err)
	var all []heard
	for line := range strings.Lines(string(data)) {
		var h heard
		y.must(json.Unmarshal([]byte(line), &h))
		all = append(all, h)
	}
	return all
}

func (y *yard) kinds() string {
	var kinds []string
	for _, h := range y.heard() {
		kinds = append(kinds, h.Event.Kind)
	}
	return strings.Join(kinds, " ")
}

func (y *yard) add(name string) {
	y.t.Helper()
	p := identity.Person{ID: identity.PersonID(name), Address: name + "@example.org", Name: strings.ToUpper(name), Created: y.clock()}
	y.must(y.db.AddUser(y.t.Context(), identity.User{Person: p, Changed: y.clock()}, "tester"))
}

// Each event once, in its order, by whoever wrote it, with the person as JSON.
func TestHook(t *testing.T) {
	y := newYard(t)
	y.add("before")
	y.later(time.Second)
	r := y.runner("one", time.Minute, "note", y.out)
	y.look(r)
	if got := y.kinds(); got != "" {
		t.Errorf("what was before the hook: %s", got)
	}
	y.later(time.Second)
	y.add("ann")
	y.later(time.Second)
	_, err := y.db.Suspend(t.Context(), identity.Hold{Person: "ann", Source: "scim", Since: y.clock(), Reason: "left; \"quoted\" <b>"}, "scim")
	y.must(err)
	y.must(y.db.AddEvent(t.Context(), identity.Event{At: y.clock(), Kind: "signin.ok", Person: "ann"}))
	y.look(r)
	y.look(r)
	if got := y.kinds(); got != "person.added person.disabled" {
		t.Fatalf("heard %s", got)
	}
	last := y.heard()[1]
	if last.Version != 1 || last.Event.ID == "" || last.Event.Actor != "scim" || last.Person == nil || last.Person.Address != "ann@example.org" || last.Person.Active ||
		last.Person.Reason != "left; \"quoted\" <b>" || len(last.Addresses) != 1 || len(last.Addresses[0].Roles) != 2 {
		t.Errorf("told %+v", last)
	}
	// Long after, with the rows of runs gone: still once.
	for range 5 {
		y.later(3 * time.Minute)
		y.look(r)
	}
	y.must(y.db.RemoveUser(t.Context(), "ann", y.clock(), "scim"))
	y.look(r)
	if got := y.kinds(); got != "person.added person.disabled person.removed" {
		t.Errorf("heard %s", got)
	}
	if gone := y.heard()[2]; gone.Person != nil || len(gone.Addresses) != 1 || gone.Addresses[0].Address != "ann@example.org" {
		t.Errorf("of who is gone: %+v", gone)
	}
	if logs := y.logs.String(); !strings.Contains(logs, "noted") {
		t.Errorf("its output is not in the log: %s", logs)
	}
}

// Several instances share the work: each event runs once.
func TestInstances(t *testing.T) {
	y := newYard(t)
	first := y.runner("one", time.Minute, "note", y.out)
	y.look(first)
	for i := range 5 {
		y.later(time.Millisecond)
		y.add(fmt.Sprint("p", i))
	}
	var all sync.WaitGroup
	for _, holder := range []string{"one", "two", "three"} {
		r := y.runner(holder, time.Minute, "note", y.out)
		all.Go(func() {
			if err := r.Look(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	y.look(first)
	if got := len(y.heard()); got != 5 {
		t.Errorf("%d runs for 5 events", got)
	}
	// The one that held the work is gone: another takes over when its lease ends.
	y.add("late")
	second := y.runner("two", time.Minute, "note", y.out)
	y.look(second)
	if got := len(y.heard()); got != 5 {
		t.Errorf("%d runs while another holds the work", got)
	}
	y.later(3 * time.Minute)
	y.look(second)
	if got := len(y.heard()); got != 6 {
		t.Errorf("%d runs once it is over", got)
	}
}

// A failure is tried again; later events of the same person wait, others' do not.
func TestFailure(t *testing.T) {
	y := newYard(t)
	switchOn := filepath.Join(t.TempDir(), "on")
	r := y.runner("one", time.Minute, "fail-unless", y.out, switchOn)
	y.look(r)
	y.add("ann")
	y.look(r)
	y.later(time.Second)
	y.look(r) // not due
	if n := strings.Count(y.logs.String(), "hook failed"); n != 1 {
		t.Errorf("tried %d times at once", n)
	}
	if strings.Contains(y.logs.String(), "\x1b") {
		t.Error("control characters of the hook stand in the log")
	}
	_, err := y.db.Suspend(t.Context(), identity.Hold{Person: "ann", Source: "scim", Since: y.clock(), Reason: "x"}, "scim")
	y.must(err)
	y.must(os.WriteFile(switchOn, nil, 0o600))
	y.later(time.Second)
	y.add("bob")
	y.look(r)
	if got := y.kinds(); got != "person.added" || y.heard()[0].Person.Address != "bob@example.org" {
		t.Errorf("heard %s of %+v while ann's waits", got, y.heard())
	}
	y.later(10 * time.Second)
	y.look(r)
	if got := y.kinds(); got != "person.added person.added person.disabled" {
		t.Errorf("heard %s", got)
	}
}

func TestGivenUp(t *testing.T) {
	y := newYard(t)
	r := y.runner("one", time.Minute, "fail-unless", y.out, filepath.Join(t.TempDir(), "never"))
	y.look(r)
	y.add("ann")
	for range 40 {
		y.look(r)
		y.later(2 * time.Minute)
	}
	if n := strings.Count(y.logs.String(), "hook failed"); n != 5 {
		t.Errorf("tried again %d times", n)
	}
	events, err := y.db.Events(t.Context(), identity.EventFilter{Kind: "hook.failed"})
	if err != nil || len(events) != 1 || events[0].Person != "ann" {
		t.Errorf("trail: %+v, %v", events, err)
	}
}

// breaking is a database that breaks when an event is given up: at the first such time.
type breaking struct {
	*database.DB
	broke bool
}

func (b *breaking) EndHook(ctx context.Context, event string, done bool, at time.Time) error {
	if done && !b.broke {
		b.broke = true
		return identity.ErrUnavailable
	}
	return b.DB.EndHook(ctx, event, done, at)
}

// TestGivenUpOnce: giving up and its line of the audit trail are one.
func TestGivenUpOnce(t *testing.T) {
	y := newYard(t)
	store := &breaking{DB: y.db}
	y.store = store
	r := y.runner("one", time.Minute, "fail-unless", y.out, filepath.Join(t.TempDir(), "never"))
	y.look(r)
	y.add("ann")
	lines := func() int {
		t.Helper()
		events, err := y.db.Events(t.Context(), identity.EventFilter{Kind: "hook.failed"})
		y.must(err)
		return len(events)
	}
	for range 40 {
		err := r.Look(t.Context())
		if err != nil && (!store.broke || lines() != 0) {
			t.Fatalf("%d lines of what was not given up: %v", lines(), err)
		}
		y.later(2 * time.Minute)
	}
	if n := lines(); n != 1 || !store.broke {
		t.Errorf("%d lines", n)
	}
}

// A program that hangs is ended, and one that hangs when the daemon ends too; its event is
// not lost.
func TestHangs(t *testing.T) {
	y := newYard(t)
	r := y.runner("one", 200*time.Millisecond, "hang", y.out)
	y.look(r)
	y.add("ann")
	y.look(r)
	if !strings.Contains(y.logs.String(), "not done after 200ms") {
		t.Errorf("log %s", y.logs.String())
	}
	y.later(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	started, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	y.must(err)
	defer started.Close()
	slow := y.runner("one", time.Hour, "hang", y.out, started.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- slow.Look(ctx) }()
	conn, err := started.Accept()
	y.must(err)
	defer conn.Close()
	cancel()
	if err := <-ended; err == nil {
		t.Error("an ended look had no error")
	}
	y.later(time.Minute)
	y.look(y.runner("one", time.Minute, "note", y.out))
	if got := y.kinds(); got != "person.added" {
		t.Errorf("heard %s", got)
	}
}

// What a program has started ends with it, also when it does not listen.
func TestHangsWithChildren(t *testing.T) {
	y := newYard(t)
	started, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	y.must(err)
	defer started.Close()
	r := y.runner("one", time.Hour, "starts", y.out, started.Addr().String())
	y.look(r)
	y.add("ann")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Look(ctx) }()
	conn, err := started.Accept()
	y.must(err)
	defer conn.Close()
	cancel()
	if err := <-ended; err == nil {
		t.Error("an ended look had no error")
	}
	y.must(conn.SetReadDeadline(time.Now().Add(2 * time.Minute)))
	if _, err := conn.Read(make([]byte, 1)); os.IsTimeout(err) {
		t.Error("what the hook has started runs on")
	}
}

// The daemon's environment is not the program's.
func TestEnvironment(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
	y := newYard(t)
	r := y.runner("one", time.Minute, "environment", y.out)
	y.look(r)
	y.add("ann")
	y.look(r)
	data, err := os.ReadFile(y.out)
	if err != nil || strings.Contains(string(data), "CREDENTIALS") || !strings.Contains(string(data), "PATH=") {
		t.Errorf("environment %q, %v", data, err)
	}
}
