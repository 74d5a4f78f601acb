package intake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

const letter = "Subject: x\r\n\r\nbody\r\n"

// A site is a server with a real queue behind it.
type site struct {
	t      testing.TB
	path   string
	folder string
	queue  *queue.Queue
	server *Server
	stop   func()
	step   func(string)
	disk   func(string) error

	mu  sync.Mutex
	uid int // whom the server takes the next peers for
}

// put is the Take of tests: the message goes into the queue as it is.
func put(ctx context.Context, _ peercred.Peer, s Submission, message io.Reader, into Putter) error {
	e := queue.Envelope{Account: "a", From: "me@x", EnvelopeID: s.EnvelopeID}
	for _, to := range s.Recipients {
		if to == "no@x" {
			return cli.Faultf(cli.NoPerm, "ask", "not as that")
		}
		e.To = append(e.To, queue.Recipient{Address: to})
	}
	text, err := io.ReadAll(message)
	if err != nil {
		return cli.Wrap(cli.TempFail, err, "")
	}
	if _, err := into.Put(ctx, e, bytes.NewReader(text)); err != nil {
		return cli.Wrap(cli.TempFail, fmt.Errorf("queue the message: %w", err), "")
	}
	return nil
}

func newSite(t testing.TB, change func(*Options)) *site {
	t.Helper()
	folder, err := os.MkdirTemp("", "intake") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	s := &site{t: t, folder: folder, path: filepath.Join(folder, "s"), uid: 1001}
	if s.queue, err = queue.Open(filepath.Join(folder, "queue"), queue.Options{}); err != nil {
		t.Fatal(err)
	}
	s.start(change)
	return s
}

func (s *site) start(change func(*Options)) {
	s.t.Helper()
	listener, err := Listen(s.t.Context(), s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	o := Options{Listener: listener, Queue: s.queue, Folder: filepath.Join(s.folder, "intake"), Take: put}
	if change != nil {
		change(&o)
	}
	s.server = New(o)
	s.server.step, s.server.disk = s.step, s.disk
	s.server.peerOf = func(net.Conn) (peercred.Peer, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return peercred.Peer{UID: s.uid, GID: s.uid}, nil
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
	s.t.Cleanup(s.stop)
}

func (s *site) as(uid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uid = uid
}

func newSubmission(t testing.TB, to ...string) Submission {
	t.Helper()
	id, err := NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(to) == 0 {
		to = []string{"b@x"}
	}
	return Submission{ID: id, Recipients: to}
}

// submit hands over and says done.
func (s *site) submit(sub Submission, text string) (*Receipt, error) {
	receipt, err := Submit(s.t.Context(), s.path, sub, strings.NewReader(text), int64(len(text)))
	if err == nil {
		receipt.Done()
	}
	return receipt, err
}

func (s *site) entries() []queue.Entry {
	s.t.Helper()
	var all []queue.Entry
	for e, err := range s.queue.List(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func refusal(t testing.TB, err error, code cli.Code, text string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.What+" "+r.Hint, text) {
		t.Errorf("got %#v, want %d with %q", err, code, text)
	}
}

func TestTakes(t *testing.T) {
	s := newSite(t, nil)
	sub := newSubmission(t, "b@x", "c@x")
	receipt, err := s.submit(sub, letter)
	if err != nil {
		t.Fatal(err)
	}
	all := s.entries()
	if len(all) != 1 || string(all[0].ID) != receipt.ID || all[0].State != queue.StateQueued || all[0].Envelope.Submitter != "1001" ||
		len(all[0].Recipients) != 2 || receipt.Again {
		t.Fatalf("%+v", all)
	}
	message, err := s.queue.Message(all[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer message.Close()
	if text, err := io.ReadAll(message); string(text) != letter || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	_, err = s.submit(newSubmission(t, "no@x"), letter)
	refusal(t, err, cli.NoPerm, "not as that ask")
	// An empty message is one too; package message completes it.
	if _, err := s.submit(newSubmission(t), ""); err != nil {
		t.Error(err)
	}
}

// The same hand-over twice is one message, however the first ended for the client, also
// after a restart; for another user it is another one.
func TestOnce(t *testing.T) {
	s := newSite(t, nil)
	sub := newSubmission(t)
	first, err := Submit(t.Context(), s.path, sub, strings.NewReader(letter), int64(len(letter)))
	if err != nil {
		t.Fatal(err)
	}
	first.conn.Close() // dies before it can remove its own copy
	for range 2 {
		again, err := Submit(t.Context(), s.path, sub, strings.NewReader(letter), int64(len(letter)))
		if err != nil || again.ID != first.ID || !again.Again {
			t.Fatalf("%+v, %v", again, err)
		}
		again.conn.Close()
		if err := s.queue.Remove(queue.ID(first.ID)); err != nil && !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err) // sent meanwhile: that must not make a difference
		}
		s.stop()
		s.start(nil)
	}
	s.as(1002)
	if other, err := s.submit(sub, letter); err != nil || other.Again {
		t.Errorf("another user's: %+v, %v", other, err)
	}
	if n := len(s.entries()); n != 1 {
		t.Errorf("%d entries, want the other user's only", n)
	}
}

// After done the server remembers nothing: the folder does not grow.
func TestForgets(t *testing.T) {
	s := newSite(t, nil)
	s.stop()
	forgotten := make(chan struct{})
	s.step = func(name string) {
		if name == "forgotten" {
			forgotten <- struct{}{}
		}
	}
	s.start(nil)
	for range 3 {
		if _, err := s.submit(newSubmission(t), letter); err != nil {
			t.Fatal(err)
		}
		<-forgotten
	}
	left, err := os.ReadDir(filepath.Join(s.folder, "intake", "taken"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestLedgerExpires(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "taken")
	now := time.Now()
	l, err := openLedger(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	k := key{1001, newSubmission(t).ID}
	if err := l.add(k, "0123456789abcdef", now); err != nil {
		t.Fatal(err)
	}
	if err := l.add(k, "0123456789abcdef", now); err == nil {
		t.Error("the same hand-over twice")
	}
	if l, err = openLedger(folder, now); err != nil {
		t.Fatal(err)
	}
	if entry, ok := l.find(k); !ok || entry != "0123456789abcdef" {
		t.Errorf("after reopening: %q, %v", entry, ok)
	}
	l.expire(now.Add(remember + time.Hour))
	if _, ok := l.find(k); ok {
		t.Error("remembered for ever")
	}
	// One user's forgetfulness is bounded, and costs nobody else.
	other := key{7, newSubmission(t).ID}
	l.note(other, remembered{"x", now})
	for i := range rememberedMax {
		l.note(key{1001, fmt.Sprintf("%026d", i)}, remembered{"x", now.Add(time.Duration(i))})
	}
	if err := l.add(k, "0123456789abcdef", now); err != nil || len(l.known[1001]) > rememberedMax/2+1 || len(l.known[7]) != 1 {
		t.Errorf("%d and %d remembered, %v", len(l.known[1001]), len(l.known[7]), err)
	}
}

// Who is beyond his limits hears so before he has sent the octets that would fill the
// disk, and one who had no room left when they had come hears it then.
func TestLimitsBeforeTheOctets(t *testing.T) {
	took := make(chan struct{}, 9)
	var s *site
	var other atomic.Bool
	s = newSite(t, func(o *Options) {
		o.Limits = Limits{Hourly: 2, Bytes: 1000, Size: 500}
		o.Take = func(ctx context.Context, p peercred.Peer, sub Submission, m io.Reader, into Putter) error {
			took <- struct{}{}
			if other.CompareAndSwap(true, false) { // another one of his was faster
				id, err := s.queue.Put(ctx, queue.Envelope{To: []queue.Recipient{{Address: "b@x"}}}, strings.NewReader(letter))
				if err != nil {
					return err
				}
				s.server.userOf(p.UID).took(id, 900, time.Now())
			}
			return put(ctx, p, sub, m, into)
		}
	})
	announce := func(size int64) (Answer, error) {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sub := newSubmission(t)
		head, err := sub.encode(size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(head); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(idleTime / 2)) // it waits longer for octets
		return readAnswer(bufio.NewReader(conn))
	}
	if a, err := announce(501); err != nil || a.Code != cli.DataError {
		t.Errorf("too large: %+v, %v", a, err)
	}
	other.Store(true)
	_, err := s.submit(newSubmission(t), strings.Repeat("x", 400))
	refusal(t, err, cli.TempFail, "MiB")
	<-took
	if a, err := announce(400); err != nil || a.Code != cli.TempFail || !strings.Contains(a.What, "MiB") {
		t.Errorf("too much in all: %+v, %v", a, err)
	}
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Fatal(err)
	}
	<-took
	if a, err := announce(1); err != nil || a.Code != cli.TempFail || !strings.Contains(a.What, "within the hour") {
		t.Errorf("too many: %+v, %v", a, err)
	}
	select {
	case <-took:
		t.Error("a message beyond the limits was begun to be taken")
	default:
	}
}

func TestLimits(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var clock sync.Mutex
	change := func(o *Options) {
		o.Limits = Limits{Hourly: 4, Recipients: 2, Entries: 3, Bytes: 1000, Size: 500}
		o.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	}
	s := newSite(t, change)
	forward := func(d time.Duration) { clock.Lock(); defer clock.Unlock(); now = now.Add(d) }
	_, err := s.submit(newSubmission(t, "a@x", "b@x", "c@x"), letter)
	refusal(t, err, cli.NoPerm, "3 recipients")
	_, err = s.submit(newSubmission(t), strings.Repeat("x", 501))
	refusal(t, err, cli.DataError, "larger")
	for range 2 {
		if _, err := s.submit(newSubmission(t), strings.Repeat("x", 400)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.submit(newSubmission(t), strings.Repeat("x", 400))
	refusal(t, err, cli.TempFail, "MiB")
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Fatal(err)
	}
	_, err = s.submit(newSubmission(t), letter)
	refusal(t, err, cli.TempFail, "3 messages of yours")
	// What has left the queue counts no more, and a restart forgets nothing that waits.
	s.stop()
	s.start(change)
	_, err = s.submit(newSubmission(t), letter)
	refusal(t, err, cli.TempFail, "3 messages of yours")
	for _, e := range s.entries() {
		if err := s.queue.Remove(e.ID); err != nil {
			t.Fatal(err)
		}
	}
	forward(2 * time.Second)
	for range 4 {
		if _, err := s.submit(newSubmission(t), letter); err != nil {
			t.Fatal(err)
		}
		for _, e := range s.entries() {
			if err := s.queue.Remove(e.ID); err != nil {
				t.Fatal(err)
			}
		}
		forward(2 * time.Second)
	}
	_, err = s.submit(newSubmission(t), letter)
	refusal(t, err, cli.TempFail, "within the hour")
	// Another user is not held to that, and the hour passes.
	s.as(1002)
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Error(err)
	}
	s.as(1001)
	forward(2 * time.Hour)
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Error(err)
	}
}

// A peer that lies about lengths, stops in the middle, speaks something else or says
// nothing leaves nothing in the queue and keeps nobody else waiting.
func TestHostilePeers(t *testing.T) {
	s := newSite(t, nil)
	good := newSubmission(t)
	head, err := good.encode(int64(len(letter)))
	if err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string]string{
		"nothing":        "",
		"half a line":    "LETTERLOCK SUB",
		"SMTP":           "EHLO x\r\nMAIL FROM:<>\r\n",
		"long line":      strings.Repeat("x", 100_000),
		"huge head":      "LETTERLOCK SUBMIT 1 99999999 1\n",
		"negative":       "LETTERLOCK SUBMIT 1 -5 -1\n",
		"huge message":   "LETTERLOCK SUBMIT 1 2 9223372036854775807\n{}",
		"version":        "LETTERLOCK SUBMIT 2 2 2\n{}xx",
		"half a head":    string(head[:60]),
		"half a message": string(head) + letter[:9],
		"not JSON":       "LETTERLOCK SUBMIT 1 4 0\nnull",
		"unknown field":  "LETTERLOCK SUBMIT 1 9 0\n{\"uid\":0}",
	} {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		// The server may have closed before all is written.
		_, _ = io.WriteString(conn, bytes)
		_ = conn.(*net.UnixConn).CloseWrite()
		said, _ := io.ReadAll(conn)
		conn.Close()
		if strings.Contains(string(said), `"code":0`) {
			t.Errorf("%s: %s", name, said)
		}
		if name == "version" && !strings.Contains(string(said), `"code":75`) {
			t.Errorf("%s: %q: a newer client must wait for a newer server", name, said)
		}
	}
	if all := s.entries(); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
	if _, err := s.submit(good, letter); err != nil {
		t.Errorf("an honest one afterwards: %v", err)
	}
}

// One user's connections that never go on take only his own turns.
func TestFlood(t *testing.T) {
	s := newSite(t, nil)
	var held []net.Conn
	for range servedPerUser + waitingPerUser {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	// Until all of them have been met, as the last one is turned away.
	for {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		answer, err := readAnswer(bufio.NewReader(conn))
		conn.Close()
		if err == nil {
			if answer.Code != cli.TempFail {
				t.Fatalf("%+v", answer)
			}
			break
		}
	}
	s.as(1002)
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Errorf("another user: %v", err)
	}
	for _, conn := range held {
		conn.Close()
	}
	s.as(1001)
	for { // until the server has noticed
		_, err := s.submit(newSubmission(t), letter)
		if err == nil {
			break
		}
		refusal(t, err, cli.TempFail, "at a time")
	}
}

// Told to end, the server breaks off who is in the middle and keeps what came whole.
func TestEnds(t *testing.T) {
	taking, goOn := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(o *Options) {
		o.Take = func(ctx context.Context, p peercred.Peer, sub Submission, m io.Reader, into Putter) error {
			if sub.EnvelopeID == "slow" {
				close(taking)
				<-goOn
			}
			return put(ctx, p, sub, m, into)
		}
	})
	sub := newSubmission(t)
	head, err := sub.encode(100)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(head); err != nil {
		t.Fatal(err)
	}
	slow := newSubmission(t)
	slow.EnvelopeID = "slow"
	result := make(chan error, 1)
	go func() {
		_, err := s.submit(slow, "")
		result <- err
	}()
	<-taking
	ended := make(chan struct{})
	go func() { s.stop(); close(ended) }()
	if said, _ := io.ReadAll(conn); len(said) != 0 {
		t.Errorf("half a message was answered: %s", said)
	}
	close(goOn)
	if err := <-result; err != nil {
		t.Errorf("the one that was whole: %v", err)
	}
	<-ended
	if n := len(s.entries()); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// A lateDoor lets one client in as the server is told to end.
type lateDoor struct {
	net.Listener
	client net.Conn
	end    func()
}

func (l *lateDoor) Accept() (net.Conn, error) {
	l.end()
	return l.client, nil
}

// Who is let in at the last moment is let out again: his message waits with him.
func TestLateClient(t *testing.T) {
	s := newSite(t, nil)
	listener, err := Listen(t.Context(), s.path+"2")
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	late := New(Options{Listener: &lateDoor{listener, there, cancel}, Queue: s.queue, Folder: filepath.Join(s.folder, "intake2"), Take: put})
	if err := late.Run(ctx); err != nil {
		t.Error(err)
	}
	_ = here.SetReadDeadline(time.Now().Add(time.Minute)) // which a closed pipe refuses
	if _, err := here.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it hears %v", err)
	}
}

// A disk that fails at any point: the client hears 75, and nothing is sent.
func TestBrokenQueue(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Queue = brokenQueue{o.Queue} })
	_, err := s.submit(newSubmission(t), letter)
	refusal(t, err, cli.TempFail, "cannot take mail now")
	if strings.Contains(err.Error(), "secret place") {
		t.Errorf("the client heard of the system's affairs: %v", err)
	}
	s.stop()
	s.start(nil)
	if _, err := s.submit(newSubmission(t), letter); err != nil {
		t.Fatal(err)
	}
	if err := s.queue.Remove(s.entries()[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.folder, "intake", "taken")); err != nil {
		t.Fatal(err)
	}
	_, err = s.submit(newSubmission(t), letter)
	refusal(t, err, cli.TempFail, "cannot take mail now")
	if all := s.entries(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

type brokenQueue struct{ Queue }

func (brokenQueue) PutHeld(context.Context, queue.Envelope, io.Reader) (queue.ID, error) {
	return "", errors.New("secret place: no space left")
}
