package delivery

import (
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A job is one envelope on its way, with what is known of each recipient so far.
type job struct {
	envelope queue.Envelope
	message  *content
	to       []*addressee
	journal  *journaling
}

// An addressee is a recipient and its verdict.
type addressee struct {
	queue.Recipient
	answer    *answer // nil: still open
	committed bool    // the journal says that a server may have the message
}

// An answer is a verdict before it becomes an outcome.
type answer struct {
	verdict queue.Verdict
	status  string
	reply   string
	server  string
	closed  bool // this way cannot do it at all; another may
	retry   bool // another server, or a new connection, may do better now
	reports bool // the server offered DSN and reports success itself
	doubt   bool // of a refused sign-in: nobody said that the token is why
}

// newJob checks everything that will be put into a command line. A recipient that
// cannot be is refused, alone; a sender or parameter that cannot be refuses all.
func newJob(envelope queue.Envelope, m *content) (*job, error) {
	if len(envelope.To) == 0 {
		return nil, fmt.Errorf("%w: an envelope without recipients", ErrRoute)
	}
	j := &job{envelope: envelope, message: m}
	whole := checkEnvelope(envelope)
	for _, recipient := range envelope.To {
		a := &addressee{Recipient: recipient}
		if whole != nil {
			a.answer = whole
		} else {
			a.answer = checkRecipient(recipient)
		}
		j.to = append(j.to, a)
	}
	return j, nil
}

// open are the recipients without an answer.
func (j *job) open() []*addressee {
	var open []*addressee
	for _, a := range j.to {
		if a.answer == nil {
			open = append(open, a)
		}
	}
	return open
}

// only is the same job for some of the recipients.
func (j *job) only(to []*addressee) *job {
	return &job{envelope: j.envelope, message: j.message, to: to, journal: j.journal}
}

// settle gives every open recipient the same answer.
func (j *job) settle(a answer) {
	for _, to := range j.open() {
		to.answer = &a
	}
}

// closedWay is the job for those whom the way could not take at all.
func (j *job) closedWay() *job {
	var left []*addressee
	for _, a := range j.to {
		if a.answer != nil && a.answer.closed {
			left = append(left, a)
		}
	}
	return j.only(left)
}

// outcomes are the answers as the queue wants them. What a server said is made
// printable here, once, whatever way it came.
func (j *job) outcomes(at time.Time) []queue.Outcome {
	out := make([]queue.Outcome, 0, len(j.to))
	for _, a := range j.to {
		known := a.answer
		if known == nil {
			known = &answer{verdict: queue.Deferred, status: "4.3.0", reply: "not tried"}
		}
		out = append(out, known.outcome(a.Address, at))
	}
	return out
}

func (a *answer) outcome(recipient string, at time.Time) queue.Outcome {
	return queue.Outcome{
		Recipient: recipient, Verdict: a.verdict, Status: a.status,
		Reply: cli.Line(a.reply), Server: cli.Line(a.server), At: at, Reports: a.reports, Doubt: a.doubt,
	}
}

// replyAnswer is the answer that a complete reply of the server stands for.
func replyAnswer(r reply, server string) answer {
	a := answer{status: r.status, reply: r.String(), server: server}
	switch r.code / 100 {
	case 2:
		a.verdict = queue.Delivered
	case 5:
		a.verdict = queue.Refused
	default:
		a.verdict, a.retry = queue.Deferred, true
	}
	if a.status == "" {
		// RFC 3463 section 3.1: "other undefined status" of the reply's class.
		class := map[queue.Verdict]string{queue.Delivered: "2", queue.Refused: "5", queue.Deferred: "4"}
		a.status = class[a.verdict] + ".0.0"
	}
	return a
}
