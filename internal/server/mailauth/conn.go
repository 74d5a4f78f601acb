package mailauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
)

// A conn is one connection of a mail server, on which several requests may be open.
type conn struct {
	server *SASL
	link   net.Conn
	number uint32
	minor  uint64 // of the client's protocol version
	checks context.Context

	running sync.WaitGroup // those who take steps
	next    chan step      // for the one that waits; closed when there are no more

	mu      sync.Mutex
	waiting bool // somebody waits at next, or next is full
	pending map[uint32]*request
	closed  bool
}

// A step hands one message to the mechanism of a request.
type step struct {
	r       *request
	message []byte
}

// A request is one sign-in. It is answered with one OK or one FAIL: whoever removes it
// from pending, under the lock, is the one who answers.
type request struct {
	id       uint32
	question question
	exchange sasl.Server
	user     string    // once presented
	busy     bool      // a step runs
	since    time.Time // when the client was asked
	verdict  credential.Verdict
}

// talk reads commands until the client hangs up.
func (c *conn) talk(ctx context.Context) error {
	text, err := c.greeting()
	if err != nil {
		return err
	}
	_ = c.link.SetReadDeadline(time.Now().Add(handshake))
	if !c.write(text) {
		return nil
	}
	r := bufio.NewReaderSize(c.link, maxLine)
	for shaken := false; ; {
		line, long, err := readLine(r)
		if err != nil {
			return err
		}
		command := parseLine(line)
		switch {
		case !shaken:
			// The majors must be equal, else nothing that follows means what it seems.
			if err := c.shake(command, long); err != nil {
				return err
			}
			shaken = true
			_ = c.link.SetReadDeadline(time.Time{})
			if ctx.Err() != nil {
				return nil // the end came before the deadline was lifted
			}
		case long:
			c.refuseLine(command, "line too long")
		default:
			c.do(command)
		}
	}
}

func (c *conn) shake(command command, long bool) error {
	if long || command.verb != "VERSION" || len(command.fields) < 2 || command.fields[0] != "1" {
		return fmt.Errorf("%w: no VERSION 1 at first", errBad)
	}
	minor, err := strconv.ParseUint(command.fields[1], 10, 32)
	if err != nil {
		return fmt.Errorf("%w: no VERSION 1 at first", errBad)
	}
	c.minor = minor
	return nil
}

func (c *conn) do(command command) {
	switch command.verb {
	case "AUTH", "CONT", "CANCEL":
		if command.id == 0 {
			c.refuseLine(command, "no request id")
			return
		}
	}
	switch command.verb {
	case "AUTH":
		c.auth(command)
	case "CONT":
		c.cont(command)
	case "CANCEL":
		c.mu.Lock()
		c.drop(c.pending[command.id])
		c.mu.Unlock()
	case "CPID", "VERSION":
	default:
		c.refuseLine(command, "unknown command")
	}
}

// refuseLine answers what was not understood. With an id there is somebody to tell;
// without, the line is dropped. The connection goes on: others share it.
func (c *conn) refuseLine(command command, why string) {
	c.server.o.Log.Warn("mail server's request not understood", "connection", c.number, "problem", why)
	if command.id == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.pending[command.id])
	c.fail(&request{id: command.id}, "")
}

// drop forgets a request, nil included, and what it holds open at upstream; a step that
// runs finds itself gone, and does that itself. Called under the lock.
func (c *conn) drop(r *request) {
	if r == nil {
		return
	}
	delete(c.pending, r.id)
	if foreign, ok := r.exchange.(*relay); ok && !r.busy {
		foreign.close()
	}
}

// auth begins a request.
func (c *conn) auth(command command) {
	q, err := parseAuth(command.fields, c.minor)
	var exchange sasl.Server
	r := &request{id: command.id, question: q, busy: true}
	switch {
	case err != nil:
	case !c.server.offers(q.mechanism) && c.server.upstreams(c.checks, q.mechanism):
		if !q.secured && !(c.server.o.PlainLoopback && q.remote.IsLoopback()) {
			// Some of theirs need no TLS; one rule for all is one less to get wrong.
			err = fmt.Errorf("%w: not over TLS", errBad)
		}
		exchange = &relay{up: c.server.o.Upstream, ctx: c.checks, question: q, throttle: c.server.o.Throttle}
	case !c.server.offers(q.mechanism):
		err = fmt.Errorf("%w: mechanism not offered", errBad)
	case !q.secured && !(c.server.o.PlainLoopback && q.remote.IsLoopback()):
		// All our mechanisms show the secret to whoever listens on the wire.
		err = fmt.Errorf("%w: not over TLS", errBad)
	default:
		exchange, err = sasl.NewServer(q.mechanism, func(presented sasl.Credentials) error { return c.check(r, presented) })
	}
	r.exchange = exchange

	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.pending[command.id]
	if err == nil && before != nil {
		err = fmt.Errorf("%w: id is in use", errBad)
	}
	if err != nil {
		c.drop(before) // one FAIL ends both: which one is meant nobody can tell
		c.server.o.Log.Warn("mail server's request refused", "connection", c.number, "remote", q.remote, "error", err)
		c.fail(r, "")
		return
	}
	if !c.room() {
		c.giveUp("too many requests at once on one connection")
		return
	}
	if _, foreign := exchange.(*relay); foreign {
		c.roomUpstream()
	}
	c.pending[command.id] = r
	c.begin(step{r, q.initial})
}

// room makes place for one more request: the forgotten are removed, and when there are
// too many, the one whose client has thought longest. Called under the lock.
func (c *conn) room() bool {
	now := c.server.o.Now()
	var oldest *request
	for _, r := range c.pending {
		switch {
		case r.busy:
		case now.Sub(r.since) > patience:
			c.drop(r)
		case oldest == nil || r.since.Before(oldest.since):
			oldest = r
		}
	}
	if len(c.pending) < maxPending {
		return true
	}
	if oldest == nil {
		return false
	}
	c.drop(oldest)
	return true
}

// roomUpstream makes place for one more sign-in at upstream, whose own connections are few,
// and those of its IMAP logins too. Postfix has one at a time and never says that it has
// given one up: who leaves them in the middle, unknown to anybody yet, would keep all that
// there are. Called under the lock.
func (c *conn) roomUpstream() {
	most := maxRelays
	if c.minor == 0 {
		most = 1
	}
	var waiting []*request
	for _, r := range c.pending {
		if _, foreign := r.exchange.(*relay); foreign && !r.busy {
			waiting = append(waiting, r)
		}
	}
	slices.SortFunc(waiting, func(a, b *request) int { return a.since.Compare(b.since) })
	for len(waiting) >= most {
		c.drop(waiting[0])
		waiting = waiting[1:]
	}
}

// cont takes the client's next message.
func (c *conn) cont(command command) {
	text := ""
	if len(command.fields) > 0 {
		text = command.fields[0]
	}
	data, err := []byte{}, error(nil)
	if text != "=" { // what SMTP calls an empty message
		data, err = decode(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.pending[command.id]
	switch {
	case r == nil:
		// Too late, or never asked.
		c.fail(&request{id: command.id}, "Authentication timed out")
	case r.busy, err != nil, len(command.fields) > 1:
		c.drop(r)
		c.fail(&request{id: r.id}, "")
	case c.server.o.Now().Sub(r.since) > patience:
		c.drop(r)
		c.fail(r, "Authentication timed out")
	default:
		r.busy = true
		c.begin(step{r, data})
	}
}

// begin has a step taken by whoever waits for one, else by somebody new. Postfix asks one
// question at a time: its steps are all taken by the same goroutine, whose stack has grown
// to what SQLite needs. To grow it for each question cost as much as the question. Called
// under the lock, by the one that reads.
func (c *conn) begin(s step) {
	if c.waiting {
		c.waiting = false
		c.next <- s // who waits there needs no lock to take it
		return
	}
	c.running.Go(func() { c.steps(s) })
}

// steps takes a step, and then others unless somebody else waits for them already.
func (c *conn) steps(s step) {
	for more := true; more; {
		c.take(s.r, s.message)
		c.mu.Lock()
		stay := !c.waiting
		c.waiting = true
		c.mu.Unlock()
		if !stay {
			return
		}
		s, more = <-c.next
	}
}

// take hands one message to the mechanism and writes what comes of it.
func (c *conn) take(r *request, message []byte) {
	// The Door keeps to its context; if it does not, the client is answered all the same.
	late := time.AfterFunc(c.server.o.Answer, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pending[r.id] == r {
			c.giveUp("no answer in time")
		}
	})
	challenge, done, err := r.exchange.Next(message)
	late.Stop()

	if foreign, ok := r.exchange.(*relay); ok && (done || err != nil) {
		r.verdict, r.user = foreign.verdict, foreign.verdict.Login
		foreign.close()
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[r.id] != r {
		if foreign, ok := r.exchange.(*relay); ok {
			foreign.close()
		}
		return // cancelled, or answered by the clock
	}
	if !done && err == nil {
		r.busy, r.since = false, c.server.o.Now()
		c.send("CONT\t" + strconv.FormatUint(uint64(r.id), 10) + "\t" + base64.StdEncoding.EncodeToString(challenge) + "\n")
		return
	}
	delete(c.pending, r.id)
	_, token := errors.AsType[*sasl.Refusal](err)
	_, no := errors.AsType[*credential.Refused](err)
	switch {
	case err == nil:
		if _, foreign := r.exchange.(*relay); foreign {
			c.server.o.Log.Info("signed in", "as", shown(r.user), "mechanism", r.question.mechanism, "remote", r.question.remote, "by", "upstream")
		}
		c.ok(r)
	case token, no, errors.Is(err, sasl.ErrMalformed):
		c.fail(r, "")
	case errors.Is(err, ErrTooMany):
		c.server.o.Log.Info("sign-in put off", "connection", c.number, "remote", r.question.remote, "user", shown(r.user), "reason", err)
		c.giveUp("too many attempts")
	default:
		c.server.o.Log.Error("nobody could judge a sign-in", "connection", c.number, "remote", r.question.remote, "error", err)
		c.giveUp("nobody could judge")
	}
}

// check is what the mechanism calls once it knows what was presented.
func (c *conn) check(r *request, presented sasl.Credentials) error {
	o := c.server.o
	r.user = presented.User
	// Acting as somebody else is a master login, and there is none (RFC 4616 section 2).
	if presented.Authzid != "" && !strings.EqualFold(presented.Authzid, presented.User) {
		o.Log.Info("sign-in refused", "remote", r.question.remote, "user", shown(presented.User), "reason", "asks to act as somebody else")
		return &credential.Refused{Reason: "asks to act as somebody else"}
	}
	ctx, cancel := context.WithTimeout(c.checks, o.Answer)
	defer cancel()
	ask := o.Door.Password
	if sasl.IsToken(presented.Mechanism) {
		ask = o.Door.Token
	}
	verdict, err := ask(ctx, credential.Presented{
		User: presented.User, Secret: presented.Secret, Protocol: r.question.protocol,
		Remote: r.question.remote, Mechanism: presented.Mechanism, Secured: r.question.secured,
	})
	if refused, ok := errors.AsType[*credential.Refused](err); ok {
		o.Log.Info("sign-in refused", "mechanism", presented.Mechanism, "service", r.question.protocol,
			"remote", r.question.remote, "user", shown(presented.User), "reason", refused.Reason)
		if sasl.IsToken(presented.Mechanism) {
			// One status for every reason: a peer need not learn which part was wrong.
			return &sasl.Refusal{Status: "invalid_token", OpenIDConfiguration: o.Discovery}
		}
	}
	if err != nil {
		return err
	}
	r.verdict = verdict
	return nil
}

// ok tells the canonical name. Called under the lock.
func (c *conn) ok(r *request) {
	user := r.verdict.MailUser(r.question.protocol)
	// Postfix reads the name as it stands, and it is the key of its sender maps.
	if user == "" || strings.ToLower(user) != user || sasl.CheckUser(user) != nil {
		c.server.o.Log.Error("a person has no usable address", "person", r.verdict.Person.ID)
		c.giveUp("no usable name")
		return
	}
	c.send("OK\t" + strconv.FormatUint(uint64(r.id), 10) + "\tuser=" + escape(user) + "\n")
}

// shown is a name for logs: empty unless it looks like an address. A password typed in
// its place does not, and stays out.
func shown(user string) string {
	if !strings.Contains(user, "@") || len(user) > 320 || sasl.CheckUser(user) != nil {
		return ""
	}
	return user
}

// fail says no, and not why: Postfix shows the reason to the peer. The name is for
// Postfix's log. Called under the lock.
func (c *conn) fail(r *request, reason string) {
	if reason == "" {
		reason = "Invalid credentials"
	}
	text := "FAIL\t" + strconv.FormatUint(uint64(r.id), 10)
	if user := shown(r.user); user != "" {
		text += "\tuser=" + escape(user)
	}
	c.send(text + "\treason=" + reason + "\n")
}

// giveUp closes the connection: the one way to have Postfix say "later" (454). Called
// under the lock.
func (c *conn) giveUp(why string) {
	if c.closed {
		return
	}
	c.closed = true
	clear(c.pending)
	c.server.o.Log.Warn("connection closed to say later", "connection", c.number, "reason", why)
	c.link.Close()
}

// send writes an answer; who does not take it for ten seconds has gone. Called under
// the lock.
func (c *conn) send(text string) {
	if c.closed {
		return
	}
	if !c.write(text) {
		c.closed = true
		clear(c.pending)
		c.link.Close()
	}
}

func (c *conn) write(text string) bool {
	_ = c.link.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.link.Write([]byte(text))
	return err == nil
}
