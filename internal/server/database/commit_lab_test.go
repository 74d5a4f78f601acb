//go:build lab

package database_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A holder passes connections to PostgreSQL on until it is told to hold: from then on the
// first COMMIT, or the answer to it, gets no further.
type holder struct {
	listener net.Listener
	server   string
	work     sync.WaitGroup
	held     chan struct{} // hears of what is held

	mu             sync.Mutex
	open           []net.Conn
	hold, question bool
}

func newHolder(t *testing.T, server string) *holder {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{listener: listener, server: server, held: make(chan struct{}, 1)}
	h.work.Go(h.accept)
	t.Cleanup(func() {
		listener.Close()
		h.mu.Lock()
		for _, conn := range h.open {
			conn.Close()
		}
		h.mu.Unlock()
		h.work.Wait()
	})
	return h
}

func (h *holder) accept() {
	for {
		client, err := h.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp4", h.server)
		if err != nil {
			client.Close()
			continue
		}
		h.mu.Lock()
		h.open = append(h.open, client, server)
		h.mu.Unlock()
		asked := make(chan struct{})
		h.work.Go(func() { defer server.Close(); h.questions(server, client, asked) })
		h.work.Go(func() { defer client.Close(); h.answers(client, server, asked) })
	}
}

// start makes it hold, from the next COMMIT on.
func (h *holder) start(question bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold, h.question = true, question
}

// takes reports whether this COMMIT is the one, which is only one.
func (h *holder) takes() (holds, question bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	holds, h.hold = h.hold, false
	return holds, h.question
}

// questions passes on what the client says, message by message (PostgreSQL manual, section
// 54.7): the first has no type.
func (h *holder) questions(server io.Writer, client io.Reader, asked chan struct{}) {
	for head := 4; ; head = 5 {
		message := make([]byte, head)
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(message[head-4:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if head == 5 && message[0] == 'Q' && bytes.EqualFold(body, []byte("commit\x00")) {
			if holds, question := h.takes(); question && holds {
				h.held <- struct{}{}
				continue
			} else if holds {
				close(asked)
			}
		}
		if _, err := server.Write(append(message, body...)); err != nil {
			return
		}
	}
}

// answers passes on what the server says, and swallows it once the COMMIT was asked, until
// all of "it is done" is there.
func (h *holder) answers(client io.Writer, server io.Reader, asked chan struct{}) {
	some, swallowed := make([]byte, 32<<10), []byte(nil)
	for done := false; ; {
		n, err := server.Read(some)
		if err != nil {
			return
		}
		select {
		case <-asked:
			swallowed = append(swallowed, some[:n]...)
			if !done && bytes.Contains(swallowed, []byte("COMMIT\x00")) {
				done = true
				h.held <- struct{}{}
			}
			continue
		default:
		}
		if _, err := client.Write(some[:n]); err != nil {
			return
		}
	}
}

// givenUpDuring: a caller who gives up while PostgreSQL commits is told that nobody knows,
// whatever has become of it, and nothing is tried again.
func givenUpDuring(t *testing.T, p *lab.Postgres) {
	place, err := url.Parse(newPlace(t, p))
	must(t, err)
	direct := open(t, place.String(), patient())
	h := newHolder(t, place.Host)
	place.Host = h.listener.Addr().String()
	db := open(t, place.String(), patient())
	must(t, direct.AddPerson(t.Context(), person("ann")))
	must(t, direct.AddClient(t.Context(), identity.Client{ID: "mutt", Name: "mutt", Created: at(0)}, nil))
	for _, c := range []struct {
		name     string
		question bool // the server never hears of it
	}{
		{name: "answered", question: false},
		{name: "unheard", question: true},
	} {
		code := identity.DigestOf(c.name)
		g := grant(c.name)
		must(t, direct.AddCode(t.Context(), g, identity.Code{Digest: code, Grant: g.ID, Client: g.Client, Expires: at(9)}))
		h.start(c.question)
		err := giveUp(t, h, db, code)
		var u *database.Unavailable
		if !errors.Is(err, identity.ErrUnavailable) || !errors.Is(err, context.Canceled) || !errors.As(err, &u) || !u.Unknown || u.Trouble != database.Slow {
			t.Errorf("%s: the one who gave up heard %v, want that it is unknown", c.name, err)
		}
		// Who asks again learns what has become of it, on another connection.
		again, err := db.TakeCode(t.Context(), code, at(2))
		must(t, err)
		if used := !again.Used.IsZero(); used == c.question {
			t.Errorf("%s: the code is used: %v", c.name, used)
		}
	}
}

// giveUp takes a code and gives up in the middle of the commit.
func giveUp(t *testing.T, h *holder, db *database.DB, code identity.Digest) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan error, 1)
	go func() {
		_, err := db.TakeCode(ctx, code, at(1))
		got <- err
	}()
	select {
	case <-h.held:
	case err := <-got:
		t.Fatalf("the code was taken without a COMMIT that could be held: %v", err)
	}
	cancel()
	return <-got
}
