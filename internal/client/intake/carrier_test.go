package intake

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// own is a user's queue with one message that waits for the system.
func own(t *testing.T, s Submission) *queue.Queue {
	t.Helper()
	q, err := queue.Open(filepath.Join(t.TempDir(), "own"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Waiting(s, "me")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(t.Context(), e, strings.NewReader(letter)); err != nil {
		t.Fatal(err)
	}
	return q
}

func drain(t *testing.T, q *queue.Queue, path string) queue.Summary {
	t.Helper()
	sum, err := q.Drain(t.Context(), Carrier{Path: path}, queue.DrainOptions{Once: true, Reporter: queue.Reporter{Host: "h"}, Bouncer: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

type nobody struct{}

func (nobody) Bounce(context.Context, queue.Notice) error { return nil }

func TestCarrier(t *testing.T) {
	s := newSite(t, nil)
	if sum := drain(t, own(t, newSubmission(t)), s.path); sum.Delivered != 1 || len(s.entries()) != 1 {
		t.Errorf("%+v", sum)
	}
	if sum := drain(t, own(t, newSubmission(t, "no@x")), s.path); sum.Bounced != 1 {
		t.Errorf("refused: %+v", sum)
	}
	s.stop()
	q := own(t, newSubmission(t))
	if sum := drain(t, q, s.path); sum.Deferred != 1 {
		t.Errorf("socket away: %+v", sum)
	}
	for e, err := range q.List(t.Context()) {
		if err != nil || e.State != queue.StateQueued || !strings.Contains(e.Recipients[0].Last.Reply, "hand the message to the system") {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// A server that takes the message and dies before it answers leaves nothing unknown:
// the message stays queued, and the next server knows it.
func TestCarrierAsksAgain(t *testing.T) {
	s := newSite(t, nil)
	sub := newSubmission(t)
	q := own(t, sub)
	first, err := Submit(t.Context(), s.path, sub, strings.NewReader(letter), int64(len(letter)))
	if err != nil {
		t.Fatal(err)
	}
	first.conn.Close()
	if sum := drain(t, q, s.path); sum.Delivered != 1 {
		t.Errorf("%+v", sum)
	}
	if n := len(s.entries()); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// Whatever a server says, a client ends, and takes nothing for a yes that is none.
func TestHostileServer(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		reads int64 // of what the client sends
		code  cli.Code
	}{
		"nothing":           {"", 1 << 20, -1},
		"noise":             {"\xff\x00\n", 1 << 20, -1},
		"half":              {`{"v":1,"code":0,"id":"x"`, 1 << 20, -1},
		"no id":             {`{"v":1,"code":0}` + "\n", 1 << 20, -1},
		"version":           {`{"v":9,"code":0,"id":"x"}` + "\n", 1 << 20, -1},
		"endless":           {strings.Repeat("x", 100_000), 1 << 20, -1},
		"early yes":         {`{"v":1,"code":0,"id":"x"}` + "\n", 10, -1},
		"early no":          {`{"v":1,"code":77,"what":"no\u001b[2J"}` + "\n", 10, cli.NoPerm},
		"code from nowhere": {`{"v":1,"code":12345,"what":"x"}` + "\n", 1 << 20, 12345},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("unix", filepath.Join(shortFolder(t), "s"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = io.CopyN(io.Discard, conn, min(c.reads, 300))
				_, _ = io.WriteString(conn, c.says)
			}()
			// Larger than any buffer of a socket, so that an early answer is one.
			text := strings.Repeat("x", 8<<20)
			_, err = Submit(t.Context(), listener.Addr().String(), newSubmission(t), strings.NewReader(text), int64(len(text)))
			<-served
			var r *Refusal
			switch {
			case err == nil:
				t.Error("taken for a yes")
			case c.code < 0 && errors.As(err, &r):
				t.Errorf("taken for a no: %v", err)
			case c.code >= 0 && (!errors.As(err, &r) || r.Code != c.code || r.Final() != (c.code == cli.NoPerm)):
				t.Errorf("%#v", err)
			}
		})
	}
}

// A message that cannot be read to its end is not handed over.
func TestBrokenMessage(t *testing.T) {
	s := newSite(t, nil)
	_, err := Submit(t.Context(), s.path, newSubmission(t), strings.NewReader("short"), 100)
	if err == nil || !strings.Contains(err.Error(), "read the message") {
		t.Error(err)
	}
	s.stop()
	if n := len(s.entries()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "intake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}
