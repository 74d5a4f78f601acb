//go:build unix

package intake

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// TestMain lets the test binary be the server that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "helper:serve" {
		if err := serveAndDie(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveAndDie takes mail in and sends it, and dies by SIGKILL at the step of that
// number (0: never, then it ends with its standard input).
func serveAndDie(folder, at string) error {
	die, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return err
	}
	q, err := queue.Open(filepath.Join(folder, "queue"), queue.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listener, err := Listen(ctx, filepath.Join(folder, "s"))
	if err != nil {
		return err
	}
	s := New(Options{Listener: listener, Queue: q, Folder: filepath.Join(folder, "intake"), Take: put})
	var count atomic.Int64
	s.step = func(name string) {
		if count.Add(1) == die {
			note(folder, "steps", name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-time.After(time.Hour) // it has not arrived yet
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	drained := make(chan error, 1)
	go func() {
		_, err := q.Drain(ctx, far(folder), queue.DrainOptions{Reporter: queue.Reporter{Host: "h"}})
		drained <- err
	}()
	fmt.Println("ready")
	return errors.Join(s.Run(ctx), <-drained)
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

// far is the mail server of the system: it remembers what it was sent beyond the death
// of the process.
type far string

func (f far) Carry(context.Context, queue.Envelope, io.ReadSeeker) ([]queue.Outcome, error) {
	return nil, errors.New("the journal was not used")
}

func (f far) CarryJournal(_ context.Context, e queue.Envelope, _ io.ReadSeeker, journal queue.Journal) ([]queue.Outcome, error) {
	if err := journal.Commit(); err != nil {
		return nil, err
	}
	note(string(f), "sent", e.EnvelopeID)
	return []queue.Outcome{{Recipient: e.To[0].Address, Verdict: queue.Delivered}}, nil
}

// A mortal is a server in a process of its own.
type mortal struct {
	cmd  *exec.Cmd
	in   io.Closer
	said *bytes.Buffer // on standard error, after Wait
}

func spawn(t testing.TB, folder string, die int) mortal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "helper:serve", folder, strconv.Itoa(die))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &bytes.Buffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return mortal{cmd, in, said}
}

// crashes hands messages over to servers that are killed at every step and at random
// times. A client that hears nothing asks again; one in three dies itself before it
// can say done, and asks again after that.
func crashes(t *testing.T, seed uint64, runs int) {
	folder := shortFolder(t)
	r := rand.New(rand.NewPCG(seed, 0))
	sent := map[string]bool{}
	for i := range runs {
		sub := newSubmission(t)
		sub.EnvelopeID = strconv.Itoa(i)
		die, after := 1+r.IntN(7), time.Duration(0)
		if r.IntN(2) == 0 {
			die, after = 0, time.Duration(r.IntN(12_000))*time.Microsecond
		}
		for answered := 0; answered == 0 || answered == 1 && r.IntN(3) == 0; {
			m := spawn(t, folder, die)
			killed := make(chan struct{})
			go func() {
				defer close(killed)
				if after > 0 {
					<-time.After(after)
					_ = m.cmd.Process.Kill()
				}
			}()
			receipt, err := Submit(t.Context(), filepath.Join(folder, "s"), sub, strings.NewReader(letter), int64(len(letter)))
			if err == nil {
				answered++
				if r.IntN(2) == 0 {
					receipt.Done()
					answered = 2 // who said so does not ask again
				} else {
					receipt.conn.Close()
				}
			}
			m.in.Close()
			<-killed
			_ = m.cmd.Wait()
			die, after = 0, 0 // the next one lives
		}
		sent[sub.EnvelopeID] = true
	}
	settle(t, folder, sent)
}

// settle lets a last server send what is left, and counts.
func settle(t *testing.T, folder string, sent map[string]bool) {
	t.Helper()
	m := spawn(t, folder, 0)
	q, err := queue.Open(filepath.Join(folder, "queue"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	unknown := map[string]bool{}
	for waiting := true; waiting; {
		waiting = false
		for e, err := range q.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			switch e.State {
			case queue.StateUnknown:
				unknown[e.Envelope.EnvelopeID] = true
			default:
				waiting = true
			}
		}
	}
	m.in.Close()
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("the last server: %v: %s", err, m.said.String())
	}
	arrived := map[string]int{}
	data, err := os.ReadFile(filepath.Join(folder, "sent"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range strings.Fields(string(data)) {
		arrived[id]++
	}
	for id := range sent {
		// Killed between the mail server's two answers: the queue knows that it does not
		// know, which is for package queue to test.
		if arrived[id] != 1 && !(arrived[id] == 0 && unknown[id]) {
			t.Errorf("message %s arrived %d times, unknown: %v", id, arrived[id], unknown[id])
		}
	}
	steps, err := os.ReadFile(filepath.Join(folder, "steps"))
	if err != nil {
		t.Fatal(err)
	}
	killed := map[string]int{}
	for _, step := range strings.Fields(string(steps)) {
		killed[step]++
	}
	t.Logf("%d messages, %d arrived, %d unknown, killed at %v", len(sent), len(arrived), len(unknown), killed)
}

// TestKilled is a sample of TestKilledLong.
func TestKilled(t *testing.T) { crashes(t, 1, 40) }
