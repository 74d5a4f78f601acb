//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// A lossy way leads to a real server, and loses its first answers.
type lossy struct {
	path  string
	queue *queue.Queue
	asked atomic.Int64
}

func newLossy(t *testing.T, lose int64) *lossy {
	t.Helper()
	folder, err := os.MkdirTemp("", "over") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	l := &lossy{path: filepath.Join(folder, "way")}
	if l.queue, err = queue.Open(filepath.Join(folder, "queue"), queue.Options{}); err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(folder, "server")
	inner, err := intake.Listen(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := net.Listen("unix", l.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		err := intake.New(intake.Options{Listener: inner, Queue: l.queue, Folder: filepath.Join(folder, "intake"),
			Take: func(ctx context.Context, _ peercred.Peer, s intake.Submission, m io.Reader, into intake.Putter) error {
				text, err := io.ReadAll(m)
				if err == nil {
					_, err = into.Put(ctx, queue.Envelope{To: []queue.Recipient{{Address: s.Recipients[0]}}}, bytes.NewReader(text))
				}
				return err
			}}).Run(ctx)
		if err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	running.Go(func() {
		for {
			conn, err := outer.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.carry(t, conn, server, l.asked.Add(1) <= lose) })
		}
	})
	t.Cleanup(func() {
		cancel()
		outer.Close()
		running.Wait()
	})
	return l
}

func (l *lossy) carry(t *testing.T, conn net.Conn, server string, lose bool) {
	defer conn.Close()
	there, err := net.Dial("unix", server)
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer there.Close()
	go func() { _, _ = io.Copy(there, conn) }() // ends with either of them
	answer := make([]byte, 4096)
	n, err := there.Read(answer)
	if err != nil || lose {
		return
	}
	_, _ = conn.Write(answer[:n])
	_, _ = io.Copy(conn, there)
}

// Who can keep nothing and hears nothing asks again with the same id: the message is
// taken once, and only when no answer comes at all is the caller told that it may be.
func TestLostAnswer(t *testing.T) {
	for _, test := range []struct {
		name    string
		lose    int64
		away    bool
		asked   int64
		entries int
		fault   string
	}{
		{"heard", 0, false, 1, 1, ""},
		{"lost once", 1, false, 2, 1, ""},
		{"lost until the last", 3, false, 4, 1, ""},
		{"lost always", 100, false, 4, 1, "the message may have been taken"},
		{"socket away", 0, true, 0, 0, "hand the message to the system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLossy(t, test.lose)
			p := &program{paths: &config.Paths{State: "/dev/null/state"}, now: time.Now, getenv: func(string) string { return "" }, term: &cli.Terminal{Err: io.Discard}}
			h := &handOver{p: p, user: "ann", socket: l.path, pauses: make([]time.Duration, 3)}
			if test.away {
				h.socket += ".not"
			}
			m, err := message.Read(strings.NewReader("Subject: x\n\nbody\n"), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			id, err := h.forward(t.Context(), sendmail.Options{Recipients: []string{"b@x.test"}}, m)
			var fault *cli.Fault
			switch {
			case test.fault == "" && (err != nil || id == ""):
				t.Errorf("%q, %v", id, err)
			case test.fault != "" && (!errors.As(err, &fault) || fault.Code != cli.TempFail || !strings.HasPrefix(fault.What, test.fault)):
				t.Errorf("%q, %v", id, err)
			}
			entries := 0
			for _, err := range l.queue.List(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				entries++
			}
			if entries != test.entries || l.asked.Load() != test.asked {
				t.Errorf("%d messages after asking %d times, want %d after %d", entries, l.asked.Load(), test.entries, test.asked)
			}
		})
	}
}
