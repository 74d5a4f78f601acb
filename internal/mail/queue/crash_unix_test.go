//go:build unix

package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && strings.HasPrefix(os.Args[1], "helper:") {
		if err := help(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// help runs as a child: it dies by SIGKILL at the step of that number (0: never).
func help(mode, folder, at string) error {
	die, err := strconv.Atoi(at)
	if err != nil {
		return err
	}
	q, err := Open(filepath.Join(folder, "queue"), Options{})
	if err != nil {
		return err
	}
	count := 0
	q.step = func(name string) {
		count++
		if count == die {
			note(folder, "steps", name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-time.After(time.Hour) // it has not arrived yet; with no timer the runtime may call it a deadlock
		}
	}
	switch mode {
	case "helper:put":
		return accept(q, folder)
	case "helper:drain":
		_, err = q.Drain(background(), &server{q: q, folder: folder}, DrainOptions{Once: true, Parallel: 1,
			Destination: domainOf, Bouncer: noted(folder), Reporter: Reporter{Host: "h"}})
		return err
	case "helper:churn": // until killed from outside
		for {
			if err := accept(q, folder); err != nil {
				return err
			}
			if _, err = q.Drain(background(), &server{q: q, folder: folder}, DrainOptions{Once: true}); err != nil {
				return err
			}
		}
	}
	return errors.New("unknown mode")
}

func background() context.Context { return context.Background() }

func domainOf(_ Envelope, r Recipient) string {
	_, domain, _ := strings.Cut(r.Address, "@")
	return domain
}

// accept puts a message and notes, as a caller would, that it was accepted.
func accept(q *Queue, folder string) error {
	name := fmt.Sprintf("%d.%d;", os.Getpid(), time.Now().UnixNano())
	_, err := q.Put(background(), Envelope{From: "a@x", EnvelopeID: name, To: []Recipient{{Address: "b@one"}, {Address: "c@two"}, {Address: "no@two"}}}, strings.NewReader(text))
	if err != nil {
		return err
	}
	note(folder, "accepted", name)
	return nil
}

// note appends a line in one write: a kill leaves it whole or not there.
func note(folder, name, line string) {
	file, err := os.OpenFile(filepath.Join(folder, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if _, err := file.WriteString(line + "\n"); err != nil {
		panic(err)
	}
}

func noted(folder string) Bouncer { return notes(folder) }

type notes string

func (n notes) Bounce(_ context.Context, r Notice) error {
	_, rest, _ := strings.Cut(string(r.DSN), "Message-ID: ")
	id, _, _ := strings.Cut(rest, "\r\n")
	note(string(n), "bounced", id)
	return nil
}

// server takes messages at the final dot and remembers it beyond the death of the
// process. It refuses no@.
type server struct {
	q      *Queue
	folder string
}

func (s *server) Carry(context.Context, Envelope, io.ReadSeeker) ([]Outcome, error) {
	return nil, errors.New("the journal was not used")
}

func (s *server) CarryJournal(_ context.Context, e Envelope, message io.ReadSeeker, journal Journal) ([]Outcome, error) {
	data, err := io.ReadAll(message)
	if err != nil || string(data) != text {
		return nil, fmt.Errorf("message is %q, %v", data, err)
	}
	s.q.at("carrier: body sent")
	if err := journal.Commit(); err != nil {
		return nil, err
	}
	var outcomes []Outcome
	for _, r := range e.To {
		if strings.HasPrefix(r.Address, "no@") {
			outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Refused, Reply: "550 no"})
			continue
		}
		s.q.at("carrier: before the dot")
		note(s.folder, "taken", e.EnvelopeID+r.Address)
		s.q.at("carrier: after the dot")
		outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Delivered})
	}
	return outcomes, nil
}

func lines(t testing.TB, folder, name string) []string {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		all = append(all, scanner.Text())
	}
	return all
}

// child runs a helper; true when it lived to its end.
func child(t testing.TB, ctx context.Context, mode, folder string, die int) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, self, "helper:"+mode, folder, strconv.Itoa(die)).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return false
	}
	if err != nil && ctx.Err() == nil {
		t.Fatalf("%s: %v %s", mode, err, out)
	}
	return err == nil
}

func reopen(t testing.TB, folder string) *Queue {
	t.Helper()
	q, err := Open(filepath.Join(folder, "queue"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func entries(t testing.TB, q *Queue) []Entry {
	t.Helper()
	var all []Entry
	for e, err := range q.List(t.Context()) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		all = append(all, e)
	}
	return all
}

// SIGKILL at each step of Put, one after the other: accepted means there, and an
// entry is whole or not there.
func TestKilledPut(t *testing.T) {
	for die := 1; ; die++ {
		folder := t.TempDir()
		lived := child(t, t.Context(), "put", folder, die)
		q := reopen(t, folder)
		found, accepted := entries(t, q), lines(t, folder, "accepted")
		if len(found) < len(accepted) {
			t.Errorf("step %d %v: accepted and lost", die, lines(t, folder, "steps"))
		}
		for _, e := range found {
			m, err := q.Message(e.ID)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(m); err != nil || string(data) != text || len(e.Recipients) != 3 {
				t.Errorf("step %d: torn entry %+v %q %v", die, e, data, err)
			}
			_ = m.Close()
		}
		if lived {
			if die < 6 || len(found) != 1 {
				t.Errorf("only %d steps, %d entries", die-1, len(found))
			}
			return
		}
	}
}

// SIGKILL at each step of a drain: nothing is taken twice, and nothing is lost: what
// the server did not take is still queued, or unknown when the process was between
// commit and answer.
func TestKilledDrain(t *testing.T) {
	steps := map[string]bool{}
	for die := 1; ; die++ {
		folder := t.TempDir()
		child(t, t.Context(), "put", folder, 0)
		lived := child(t, t.Context(), "drain", folder, die)
		for _, s := range lines(t, folder, "steps") {
			steps[s] = true
		}
		unknown := finish(t, folder)
		taken := map[string]int{}
		for _, who := range lines(t, folder, "taken") {
			_, who, _ = strings.Cut(who, ";")
			taken[who]++
		}
		for _, who := range []string{"b@one", "c@two"} {
			if taken[who] > 1 {
				t.Errorf("step %d %v: %s got it %d times", die, lines(t, folder, "steps"), who, taken[who])
			}
			if taken[who] == 0 && !unknown[who] {
				t.Errorf("step %d %v: %s is lost", die, lines(t, folder, "steps"), who)
			}
		}
		told := map[string]bool{}
		for _, id := range lines(t, folder, "bounced") {
			told[id] = true
		}
		if len(told) > 1 || len(told) == 0 && !unknown["no@two"] {
			t.Errorf("step %d %v: reports %v", die, lines(t, folder, "steps"), told)
		}
		if lived {
			break
		}
	}
	for _, want := range []string{"drain: begun", "carrier: body sent", "drain: committed", "carrier: before the dot", "carrier: after the dot",
		"drain: answered", "drain: recorded", "drain: bounced", "drain: reported", "drain: removed"} {
		if !steps[want] {
			t.Errorf("nobody died at %q", want)
		}
	}
}

// finish drains what is left and says who stayed unknown; nothing else may stay.
func finish(t testing.TB, folder string) map[string]bool {
	t.Helper()
	q := reopen(t, folder)
	_, err := q.Drain(t.Context(), &server{q: q, folder: folder}, DrainOptions{Once: true, Destination: domainOf, Bouncer: noted(folder), Reporter: Reporter{Host: "h"}})
	if err != nil {
		t.Fatal(err)
	}
	unknown := map[string]bool{}
	for _, e := range entries(t, q) {
		for _, r := range e.Recipients {
			switch r.State {
			case StateUnknown:
				unknown[r.Address] = true
				unknown[e.Envelope.EnvelopeID+r.Address] = true
			case StateQueued, StateActive, StateHeld:
				t.Errorf("%s is still %v", r.Address, r.State)
			}
		}
	}
	return unknown
}

// A drainer that dies gives its lock free, and the next one goes on.
func TestLockDiesWithItsProcess(t *testing.T) {
	folder := t.TempDir()
	child(t, t.Context(), "put", folder, 0)
	if child(t, t.Context(), "drain", folder, 1) {
		t.Fatal("did not die")
	}
	if e := entries(t, reopen(t, folder)); len(e) != 1 || e[0].State != StateQueued || e[0].Attempts != 1 {
		t.Errorf("%+v", e)
	}
	finish(t, folder)
}
