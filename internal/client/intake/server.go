package intake

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// A Queue is the system's: *queue.Queue.
type Queue interface {
	PutHeld(ctx context.Context, e queue.Envelope, message io.Reader) (queue.ID, error)
	Release(id queue.ID) error
	Remove(id queue.ID) error
	List(ctx context.Context) iter.Seq2[queue.Entry, error]
	Waits(id queue.ID) bool
}

// A Putter takes the finished message in.
type Putter interface {
	Put(ctx context.Context, e queue.Envelope, message io.Reader) (queue.ID, error)
}

// Options are what a server does its work with.
type Options struct {
	Listener net.Listener
	Queue    Queue
	Folder   string // where hand-overs are remembered; 0700, made if need be
	// Take makes a message of what a peer submits and puts it into the queue. Its
	// *cli.Faults are what the peer hears; 75 is made neutral.
	Take   func(ctx context.Context, peer peercred.Peer, s Submission, message io.Reader, into Putter) error
	Limits Limits
	Now    func() time.Time
	Log    *slog.Logger
}

// A Server takes messages from anybody on this machine.
type Server struct {
	o    Options
	step func(name string) // tests die here; nil otherwise

	ledger *ledger
	turns  chan struct{} // a token for each connection that is served

	mu     sync.Mutex
	users  map[int]*user
	open   int
	stuck  map[queue.ID]stuck    // taken, but the disk would not take the release
	unsure map[key]queue.ID      // held entries whose hand-over may be in the ledger or not
	disk   func(op string) error // of the ledger, for tests
	peerOf func(net.Conn) (peercred.Peer, error)
}

// A stuck entry is not released yet. Until it is, its hand-over must stay in the ledger:
// after a restart an entry that is held and not remembered is one that was never taken.
type stuck struct {
	k    key
	done bool // its client said so: it can be forgotten then
}

// New makes a server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.filled()
	return &Server{o: o, users: map[int]*user{}, stuck: map[queue.ID]stuck{}, unsure: map[key]queue.ID{}, turns: make(chan struct{}, servedInAll), peerOf: peercred.Of}
}

func (s *Server) at(step string) {
	if s.step != nil {
		s.step(step)
	}
}

// Run serves until ctx ends, and returns when every conversation is over. One that has
// its whole message by then is ended properly.
func (s *Server) Run(ctx context.Context) error {
	defer s.o.Listener.Close()
	// Two servers would each take the other's entries for what a dead one left behind.
	if err := atomicfile.PrivateFolder(s.o.Folder); err != nil {
		return fmt.Errorf("take mail in: %w", err)
	}
	lock, err := atomicfile.Acquire(ctx, filepath.Join(s.o.Folder, "lock"))
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("take mail in: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if s.ledger, err = openLedger(filepath.Join(s.o.Folder, "taken"), s.o.Now()); err != nil {
		return fmt.Errorf("take mail in: %w", err)
	}
	s.ledger.disk = s.disk
	switch err := s.recover(ctx); {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("take mail in: %w", err)
	}
	return s.serve(ctx)
}

// recover finishes what a server that was killed had begun. An entry that is in the
// ledger was taken, and its client may have heard so; one that is not was not, and its
// client hands it over again.
func (s *Server) recover(ctx context.Context) error {
	for e, err := range s.o.Queue.List(ctx) {
		if err != nil {
			if e.ID == "" {
				return err
			}
			s.o.Log.Error("queue file cannot be used", "id", e.ID, "error", err)
			continue
		}
		k, ok := parseKey(e.Envelope.Tag)
		if !ok {
			continue // not from here
		}
		if e.State == queue.StateHeld && e.Reason == queue.Incoming {
			if entry, known := s.ledger.find(k); !known || entry != e.ID {
				if err := s.o.Queue.Remove(e.ID); err != nil {
					return err
				}
				continue
			}
			if err := s.o.Queue.Release(e.ID); err != nil {
				return err
			}
			s.o.Log.Info("released what was taken before a crash", "id", e.ID)
		}
		s.userOf(k.uid).took(e.ID, e.Envelope.Size, time.Time{})
	}
	return nil
}

// tidyEvery is how often the server forgets what is too old, and tries again what the
// disk refused.
const tidyEvery = 10 * time.Second

func (s *Server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.o.Listener.Close() })
	defer stop()
	work.Go(func() {
		tick := time.NewTicker(tidyEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.tidy()
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		conn, err := s.o.Listener.Accept()
		if ctx.Err() != nil {
			if err == nil { // who came just now must not wait until the process has ended
				conn.Close()
			}
			return nil
		}
		if err != nil {
			if !passes(err) {
				return fmt.Errorf("take mail in: %w", err)
			}
			s.o.Log.Warn("accept", "error", err)
			if !pause(ctx, time.Second) {
				return nil
			}
			continue
		}
		work.Go(func() {
			defer conn.Close()
			s.meet(ctx, conn)
		})
	}
}

func (s *Server) tidy() {
	s.ledger.expire(s.o.Now())
	s.mu.Lock()
	left := maps.Clone(s.stuck)
	unsure := slices.Collect(maps.Keys(s.unsure))
	for uid, u := range s.users {
		if u.open == 0 && u.idle(s.o.Now()) {
			delete(s.users, uid)
		}
	}
	s.mu.Unlock()
	for id, one := range left {
		s.release(one.k, id)
	}
	for _, k := range unsure {
		// Not while its client is asking: it must not hear of it half-way.
		if u := s.userOf(k.uid); u.begin(k.id) {
			_ = s.ascertain(k)
			u.end(k.id)
		}
	}
}

// ascertain tries once more what the ledger was unsure of, so that it is taken or not:
// its entry stays, held, as long as the hand-over may be on the disk. Its owner has
// begun the hand-over.
func (s *Server) ascertain(k key) error {
	s.mu.Lock()
	id, unsure := s.unsure[k]
	s.mu.Unlock()
	if !unsure {
		return nil
	}
	err := s.ledger.add(k, id, s.o.Now())
	if errors.Is(err, errUnsure) {
		return err
	}
	s.mu.Lock()
	delete(s.unsure, k)
	s.mu.Unlock()
	if err != nil {
		s.o.Log.Error("not taken after all", "uid", k.uid, "id", id, "error", err)
		return s.o.Queue.Remove(id)
	}
	s.release(k, id)
	s.o.Log.Info("took a message, late", "uid", k.uid, "id", id)
	return nil
}

func (s *Server) userOf(uid int) *user {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[uid] == nil {
		s.users[uid] = newUser()
	}
	return s.users[uid]
}

// meet finds out who has come, and serves him in his turn.
func (s *Server) meet(ctx context.Context, conn net.Conn) {
	peer, err := s.peerOf(conn)
	if err != nil {
		s.o.Log.Warn("refused a peer", "error", err)
		return
	}
	s.mu.Lock()
	u := s.users[peer.UID]
	if u == nil {
		u = newUser()
		s.users[peer.UID] = u
	}
	welcome := u.open < servedPerUser+waitingPerUser && s.open < openInAll
	if welcome {
		u.open++
		s.open++
	}
	s.mu.Unlock()
	if !welcome {
		s.answer(conn, busy())
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.open--
		s.open--
	}()
	timer := time.NewTimer(waitForTurn)
	defer timer.Stop()
	// His own turn first: who waits for that must not take from the others'.
	for _, turns := range []chan struct{}{u.turn, s.turns} {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-timer.C:
			s.answer(conn, busy())
			return
		case <-ctx.Done():
			return
		}
	}
	s.converse(ctx, conn, peer, u)
}

func busy() Answer {
	return Answer{Code: cli.TempFail, What: "the system takes no more messages at a time", Hint: "it waits in your own queue: letterlock queue list"}
}

// answer writes one line; the peer may be gone, which is his affair.
func (s *Server) answer(conn net.Conn, a Answer) {
	line, err := a.line()
	if err != nil {
		s.o.Log.Error("answer", "error", err)
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(quickly))
	_, _ = conn.Write(line)
}

// Bounds of one conversation.
const (
	quickly   = 10 * time.Second // for what a client has ready
	idleTime  = 30 * time.Second // between two pieces of a message
	totalTime = 10 * time.Minute
)

// converse is one message.
func (s *Server) converse(ctx context.Context, conn net.Conn, peer peercred.Peer, u *user) {
	log := s.o.Log.With("uid", peer.UID)
	in := &patientReader{ctx: ctx, conn: conn, idle: quickly, end: time.Now().Add(totalTime)}
	// Its deadline wakes a Read that waits when the service ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReaderSize(in, 32<<10)
	submission, size, err := readSubmission(r)
	switch {
	case errors.Is(err, errVersion):
		s.answer(conn, Answer{Code: cli.TempFail, What: "the system's agent speaks another version", Hint: "restart letterlock-agent after an update"})
		return
	case errors.Is(err, errMalformed):
		log.Warn("malformed submission", "error", err)
		s.answer(conn, Answer{Code: cli.DataError, What: err.Error()})
		return
	case err != nil:
		log.Debug("no submission", "error", err)
		return
	case size > s.o.Limits.Size:
		s.answer(conn, Answer{Code: cli.DataError, What: fmt.Sprintf("the message is larger than the %d MiB that this system takes", s.o.Limits.Size>>20)})
		return
	}
	in.idle = idleTime
	k := key{peer.UID, submission.ID}
	if !u.begin(k.id) {
		s.answer(conn, Answer{Code: cli.TempFail, What: "this very message is being taken already"})
		return
	}
	answer, ok := s.take(ctx, peer, u, submission, &exact{r: r, left: size})
	u.end(k.id)
	if !ok {
		return
	}
	s.at("acknowledge")
	if s.answer(conn, answer); answer.Code != cli.OK {
		log.Info("refused a message", "code", int(answer.Code), "why", answer.What)
		return
	}
	s.at("acknowledged")
	in.idle = quickly
	if line, err := readLine(r, maxPreamble); err == nil && string(line) == "done\n" {
		s.done(k, queue.ID(answer.ID))
	}
}

// take answers for one submission. It is not ok when the peer has left in the middle of
// his message: nobody is there to hear an answer.
func (s *Server) take(ctx context.Context, peer peercred.Peer, u *user, submission Submission, message *exact) (Answer, bool) {
	k := key{peer.UID, submission.ID}
	if err := s.ascertain(k); errors.Is(err, errUnsure) {
		s.o.Log.Error("take a message", "uid", peer.UID, "error", err)
		return Answer{}, false
	}
	if entry, taken := s.ledger.find(k); taken {
		// To its end, so that the client can go on to "done".
		if _, err := io.Copy(io.Discard, message); err != nil {
			return Answer{}, false
		}
		s.o.Log.Info("handed over again", "uid", peer.UID, "id", entry)
		return Answer{Code: cli.OK, ID: string(entry), Again: true}, true
	}
	into := &putter{s: s, u: u, k: k, size: message.left}
	var limit *limitError
	// Before the octets come: whoever is beyond his limits shall not fill the disk first.
	// How many recipients there are is known when the aliases have been asked.
	if err := u.permit(s.o.Limits, 0, message.left, s.o.Now(), s.o.Queue.Waits); errors.As(err, &limit) {
		return limit.answer, true
	}
	// What has come whole is finished, even when the service is told to end.
	err := s.o.Take(context.WithoutCancel(ctx), peer, submission, message, into)
	var fault *cli.Fault
	switch {
	case into.taken != "":
		if err != nil {
			s.o.Log.Error("after a message was taken", "error", err)
		}
		return Answer{Code: cli.OK, ID: string(into.taken)}, true
	case errors.Is(err, errUnsure):
		// No answer is the true one: the client asks again, with the same id.
		s.o.Log.Error("take a message", "uid", peer.UID, "error", err)
		return Answer{}, false
	case message.err != nil:
		s.o.Log.Info("a peer left in the middle of a message", "uid", peer.UID, "error", message.err)
		return Answer{}, false
	case errors.As(err, &limit):
		return limit.answer, true
	case errors.As(err, &fault) && fault.Code != cli.TempFail:
		return Answer{Code: fault.Code, What: fault.What, Hint: fault.Hint}, true
	}
	// What is wrong with the system's disk is for the log, not for everybody.
	s.o.Log.Error("take a message", "uid", peer.UID, "error", err)
	return Answer{Code: cli.TempFail, What: "the system's queue cannot take mail now", Hint: "its administrator finds the reason in the agent's log"}, true
}

// A putter is the way of one submission into the queue.
type putter struct {
	s     *Server
	u     *user
	k     key
	size  int64
	taken queue.ID
}

// Put is durable when it returns nil. The order matters: a message that could be sent
// before its hand-over is remembered would be sent twice after a crash in between.
func (p *putter) Put(ctx context.Context, e queue.Envelope, message io.Reader) (queue.ID, error) {
	if p.taken != "" {
		return "", errors.New("one submission is one message")
	}
	s, now := p.s, p.s.o.Now()
	if err := p.u.permit(s.o.Limits, len(e.To), p.size, now, s.o.Queue.Waits); err != nil {
		return "", err
	}
	e.Submitter, e.Tag = strconv.Itoa(p.k.uid), p.k.String()
	id, err := s.o.Queue.PutHeld(ctx, e, message)
	if err != nil {
		return "", err
	}
	s.at("put")
	switch err := s.ledger.add(p.k, id, now); {
	case errors.Is(err, errUnsure):
		p.u.took(id, p.size, now)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unsure[p.k] = id
		return "", err
	case err != nil:
		return "", errors.Join(err, s.o.Queue.Remove(id))
	}
	s.at("remembered")
	s.release(p.k, id)
	s.at("released")
	p.taken = id
	p.u.took(id, p.size, now)
	s.o.Log.Info("took a message", "uid", p.k.uid, "id", id, "account", e.Account, "recipients", len(e.To))
	return id, nil
}

// done forgets a hand-over, or notes that it can be once its message is released.
func (s *Server) done(k key, id queue.ID) {
	s.mu.Lock()
	one, waits := s.stuck[id]
	if waits {
		one.done = true
		s.stuck[id] = one
	}
	s.mu.Unlock()
	if !waits {
		s.ledger.forget(k)
		s.at("forgotten")
	}
	s.at("done")
}

// release lets a message be sent. It is taken by then whatever happens: what the disk
// refuses now is tried again.
func (s *Server) release(k key, id queue.ID) {
	err := s.o.Queue.Release(id)
	s.mu.Lock()
	one, waited := s.stuck[id]
	if err == nil || errors.Is(err, queue.ErrNotFound) {
		delete(s.stuck, id)
		s.mu.Unlock()
		if waited && one.done {
			s.ledger.forget(k)
		}
		return
	}
	if !waited {
		s.stuck[id] = stuck{k: k}
	}
	s.mu.Unlock()
	s.o.Log.Error("release a message", "id", id, "error", err)
}
