package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// maxRecipients is what every server takes in one transaction (RFC 5321 section
// 4.5.3.1.8).
const maxRecipients = 100

// maxGroup is how many commands are sent before their replies are read. RFC 2920
// section 3.1 warns of both sides waiting with full windows; replies to 50 commands
// fit into any.
const maxGroup = 50

// deliver takes the open recipients of j to the server, in as many transactions as it
// needs. begun says whether any byte of the message, or a verdict, has gone either way:
// up to then a new connection may start over.
func (s *session) deliver(j *job) (begun bool) {
	for !s.broken {
		open := j.open()
		if len(open) == 0 {
			return begun
		}
		batch := j.only(open[:min(len(open), maxRecipients)])
		t := &transaction{session: s, job: batch}
		t.run()
		begun = begun || t.begun
		s.sent++
		// RFC 5321 section 4.5.3.1.10: who was refused as one too many comes into the
		// next transaction, as long as each takes somebody.
		if t.accepted == 0 {
			continue
		}
		for _, to := range t.tooMany {
			to.answer = nil
		}
	}
	return begun
}

// A transaction is MAIL, RCPT and DATA.
type transaction struct {
	*session
	job      *job
	message  *content // as this server takes it
	taken    []*addressee
	tooMany  []*addressee
	accepted int
	begun    bool
	end      *failure // why the connection is of no more use
}

func (t *transaction) run() {
	mail, refusal := t.prepare()
	if refusal != nil {
		t.job.settle(*refusal)
		return
	}
	if len(t.job.open()) == 0 {
		return
	}
	started := false
	if t.can.has("PIPELINING") {
		started = t.pipelined(mail)
	} else {
		started = t.stepwise(mail)
	}
	if started {
		t.data()
	}
	if t.end != nil {
		t.broken = true
		t.job.settle(t.end.answer)
	}
}

// stepwise sends one command at a time. It reports whether the server waits for the
// message.
func (t *transaction) stepwise(mail string) bool {
	if t.dirty && !t.reset() {
		return false
	}
	t.put(mail)
	if !t.mailReply() {
		return false
	}
	for _, to := range t.job.open() {
		t.put(t.rcpt(to))
		if !t.rcptReply(to) {
			return false
		}
	}
	if t.accepted == 0 {
		return false
	}
	t.put("DATA")
	return t.dataReply()
}

func (t *transaction) reset() bool {
	t.put("RSET")
	return t.resetReply()
}

// pipelined sends the commands in groups, DATA at the end of the last one (RFC 2920
// section 3.1).
func (t *transaction) pipelined(mail string) bool {
	wasDirty := t.dirty
	if wasDirty {
		t.put("RSET")
	}
	t.put(mail)
	open := t.job.open()
	for first := true; ; first = false {
		group := open[:min(len(open), maxGroup)]
		open = open[len(group):]
		for _, to := range group {
			t.put(t.rcpt(to))
		}
		if len(open) == 0 {
			t.put("DATA")
		}
		if !t.groupReplies(first, first && wasDirty, group) {
			return false
		}
		if len(open) == 0 {
			return t.dataReply()
		}
	}
}

// groupReplies reads what one group is answered with. Every reply is read, also those
// after a refused MAIL: they are on their way.
func (t *transaction) groupReplies(first, wasDirty bool, group []*addressee) bool {
	if wasDirty && !t.resetReply() {
		return false
	}
	if first && !t.mailReply() {
		return t.drain(len(group) + 1)
	}
	for _, to := range group {
		if !t.rcptReply(to) {
			return false
		}
	}
	return true
}

// drain reads the replies to the commands behind a refused MAIL. Should the server
// take DATA nevertheless, it gets no message.
func (t *transaction) drain(n int) bool {
	if t.end != nil || len(t.job.to) > maxGroup {
		t.broken = true // more were meant to follow, or nobody is there any more
		return false
	}
	for range n {
		r, err := t.answer(t.limits.Command)
		if err != nil {
			return false
		}
		if r.code == 354 {
			t.empty()
		}
	}
	return false
}

func (t *transaction) resetReply() bool {
	r, err := t.answer(t.limits.Command)
	if err != nil || r.code != 250 {
		t.fail("RSET", r, err)
		return false
	}
	t.dirty = false
	return true
}

func (t *transaction) mailReply() bool {
	r, err := t.answer(t.limits.Command)
	switch {
	case err != nil || r.code == 421:
		t.fail("MAIL", r, err)
		return false
	case r.code == 250:
		t.dirty = true
		return true
	}
	a := replyAnswer(r, t.peer.name)
	if !t.peer.stranger && (r.code == 530 || r.code == 535) {
		// RFC 4954 section 6: the server wants a sign-in, or another one. The mail is
		// good: it waits for a person. An MX that says so to us, who have none to give,
		// has refused the message like with any other 5xx.
		a.verdict, a.closed = queue.SignIn, disabled(r.String())
	}
	if !r.is(4) && !r.is(5) {
		t.fail("MAIL", r, nil)
		return false
	}
	t.job.settle(a)
	return false
}

// rcptReply takes one recipient's answer; false means that the connection is gone.
func (t *transaction) rcptReply(to *addressee) bool {
	r, err := t.answer(t.limits.Command)
	switch {
	case err != nil || r.code == 421 || r.is(3):
		t.fail("RCPT", r, err)
		return false
	case r.is(2):
		t.taken = append(t.taken, to)
		t.accepted++
		return true
	}
	a := replyAnswer(r, t.peer.name)
	to.answer = &a
	// 552 was the code for this before RFC 2821, and servers remember.
	if t.accepted > 0 && (r.code == 452 || r.code == 552) {
		a.verdict = queue.Deferred
		t.tooMany = append(t.tooMany, to)
	}
	return true
}

func (t *transaction) dataReply() bool {
	r, err := t.answer(t.limits.Data)
	switch {
	case err != nil || r.code == 421:
		t.fail("DATA", r, err)
		return false
	case r.code == 354 && t.accepted == 0:
		t.empty()
		return false
	case r.code == 354:
		return true
	case !r.is(4) && !r.is(5):
		t.fail("DATA", r, nil)
		return false
	}
	a := replyAnswer(r, t.peer.name)
	for _, to := range t.taken {
		to.answer = &a
	}
	return false
}

// empty answers a 354 that came although nobody takes the message (RFC 2920 section
// 3.1: the client must then send nothing but the dot).
func (t *transaction) empty() {
	t.put(".")
	if _, err := t.answer(t.limits.End); err != nil {
		t.broken = true
	}
}

// fail ends the connection: by an I/O error, 421, or a reply out of place.
func (t *transaction) fail(stage string, r reply, err error) {
	switch {
	case err != nil:
		t.end = t.lost(stage, err)
	case r.is(4) || r.is(5):
		t.end = refusedConnection(stage, r, t.peer.name)
	default:
		t.end = t.lost(stage, fmt.Errorf("%w: %s", errProtocol, r.String()))
	}
}

// data sends the message and reads the verdict.
func (t *transaction) data() {
	t.begun = true
	t.trace("C: ", fmt.Sprintf("(message, %d octets)", t.message.size))
	var unkept *unkeptError
	if err := t.sendMessage(); errors.As(err, &unkept) {
		// Closed without the final dot: the server has no message.
		t.end = deferred("4.3.0", unkept.Error(), t.peer.name, err)
		t.drop()
		return
	} else if err != nil {
		// The final dot did not leave whole, so the server has no message. The
		// connection is closed as it is: a dot, or QUIT, would end half a message.
		t.broken = true
		if r, ok := t.lastWords(); ok && t.putErr == nil {
			t.settleTaken(replyAnswer(r, t.peer.name))
		}
		t.end = t.lost("message", err)
		t.drop()
		return
	}
	if t.peer.lmtp {
		t.lmtpVerdicts()
		return
	}
	t.settleTaken(t.verdict())
}

// sendMessage writes message and dot, and between them into the journal that the dot is
// about to come. On nil all of it is with the system; on an error the dot is not.
func (t *transaction) sendMessage() error {
	wire := newWireWriter(t.out, true)
	if err := t.message.copyTo(wire); err != nil {
		return err
	}
	if err := wire.finish(); err != nil {
		return err
	}
	if err := t.job.journal.commit(t.taken); err != nil {
		return err
	}
	if _, err := t.out.WriteString(".\r\n"); err != nil {
		return err
	}
	return t.flush()
}

// verdict reads the reply to the final dot. Without a complete and sensible one
// nobody knows what became of the message.
func (t *transaction) verdict() answer {
	begun := time.Now()
	r, err := t.readReply(t.limits.End)
	if err == nil && !r.is(3) {
		t.dirty = false
		a := replyAnswer(r, t.peer.name)
		a.reports = a.verdict == queue.Delivered && t.can.has("DSN")
		return a
	}
	if err == nil {
		err = fmt.Errorf("%w: %s", errProtocol, r.String())
	}
	f := t.lost(fmt.Sprintf("after the message (%s)", time.Since(begun).Round(time.Second)), err)
	t.broken = true
	f.verdict, f.retry = queue.Unknown, false
	// The transmission was lost on the way: RFC 3463 4.4.2 whatever the form.
	f.status = "4.4.2"
	return f.answer
}

// lmtpVerdicts reads one reply per taken recipient (RFC 2033 section 4.2). Once one
// is missing, those behind it are unknown too.
func (t *transaction) lmtpVerdicts() {
	for _, to := range t.taken {
		a := t.verdict()
		to.answer = &a
		if t.broken {
			break
		}
	}
	if t.broken {
		t.settleTaken(answer{verdict: queue.Unknown, status: "4.4.2", server: t.peer.name, reply: "after the message: no answer for this recipient"})
	}
}

func (t *transaction) settleTaken(a answer) {
	for _, to := range t.taken {
		if to.answer == nil {
			to.answer = &a
		}
	}
}
