// Package queue is a durable queue of mail on disk: put, list, hold, retry, give up.
// A message is accepted when Put returns nil and not before: message and envelope are
// synced by then. The queue knows nothing of how a message travels: a [Carrier]
// takes it away, and says for each recipient what became of it.
package queue

import (
	"context"
	"io"
	"time"
)

// An Envelope is what travels beside a message (RFC 5321 section 2.3.1, RFC 3461).
type Envelope struct {
	From       string // reverse-path without angle brackets; "" is the null sender
	To         []Recipient
	Account    string // the account or way out that sends it; "" lets the carrier choose
	EnvelopeID string // ENVID
	Return     string // RET: "", FULL or HDRS
	EightBit   bool   // the message has octets over 127 in its body
	UTF8       bool   // header or addresses need SMTPUTF8 (RFC 6531)
	Size       int64
	// Submitter says who put the message in, where a service takes mail from several
	// people: a uid. Tag is whatever that service wants to find again with it. The
	// queue keeps both and looks at neither.
	Submitter string
	Tag       string
}

// A Recipient is one forward-path and what its sender wants to hear of it.
type Recipient struct {
	Address  string
	Notify   string // NOTIFY: "", NEVER, or a list of SUCCESS, FAILURE, DELAY
	Original string // ORCPT
}

// A Verdict is what became of one recipient in one attempt.
type Verdict int

// The verdicts. Unknown means that the connection was lost after the final dot: the
// server may have taken the message. SignIn means that no token is to be had until
// a person signs in again.
const (
	Delivered Verdict = iota
	Deferred
	Refused
	Unknown
	SignIn
)

// An Outcome is a verdict with its reason.
type Outcome struct {
	Recipient string
	Verdict   Verdict
	Status    string // RFC 3463, "5.1.1"
	Reply     string // the server's last text
	Server    string // who said it
	At        time.Time
	// Reports says that the server offered DSN and so reports success itself (RFC
	// 3461 section 5.2.2); without it NOTIFY=SUCCESS makes the queue say "relayed".
	Reports bool
	// Doubt, with SignIn, says that the server refused the sign-in without a word on
	// why: it may be that what it asks about tokens is away. It is tried again some
	// times before the message waits for a person.
	Doubt bool
}

// A Carrier takes one envelope away. It returns one outcome for each recipient; the
// error is for what concerns none of them (a broken configuration).
type Carrier interface {
	Carry(ctx context.Context, envelope Envelope, message io.ReadSeeker) ([]Outcome, error)
}

// A JournalCarrier is a Carrier that says itself when the point of no return comes.
// For a plain Carrier the queue must assume that it comes with the call: after a
// crash anywhere in Carry the recipients are unknown. Carriers should have both.
type JournalCarrier interface {
	CarryJournal(ctx context.Context, envelope Envelope, message io.ReadSeeker, journal Journal) ([]Outcome, error)
}

// A Journal is on disk when its calls return.
type Journal interface {
	// Commit says that the next step may make a server take the message for these
	// recipients: call it just before the final dot, or before the last byte of an
	// API request. After an error the step must not be taken.
	Commit(recipients ...string) error
	// Record keeps outcomes as soon as they are known, for a carrier that talks to
	// several servers in one call. They need not be returned again.
	Record(outcomes ...Outcome) error
}
