package queue

import (
	"errors"
	"time"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such message in the queue")
	ErrActive   = errors.New("the message is being sent right now")
	ErrBusy     = errors.New("another process drains the queue")
	ErrTooLarge = errors.New("envelope is too large")
	ErrDamaged  = errors.New("damaged queue file")
)

// An ID names an entry; IDs sort by time of arrival. It is safe as a file name.
type ID string

// A State is where an entry, or one recipient of it, stands.
type State int

// The states. Held means by hand, or until a sign-in (see Entry.Reason). Unknown
// waits for a person, or for the resend of Resend. Delivered and Bounced entries
// leave the queue as soon as their reports are out.
const (
	StateQueued State = iota
	StateActive
	StateHeld
	StateUnknown
	StateDelivered
	StateBounced
)

// A Reason says why an entry is held.
type Reason string

// The reasons.
const (
	ByHand  Reason = "hand"
	NoGrant Reason = "sign-in"
	// Incoming entries were put by PutHeld, and whoever put them has not said yet that
	// they are to be sent.
	Incoming Reason = "incoming"
)

// An Entry is one message in the queue as List and Show see it.
type Entry struct {
	ID         ID
	Envelope   Envelope
	State      State
	Reason     Reason // of StateHeld
	Created    time.Time
	Next       time.Time // the next attempt; zero when none is planned
	Attempts   int
	Recipients []Status // as Envelope.To
}

// A Status is what is known of one recipient.
type Status struct {
	Recipient
	State State
	Last  Outcome // of the last attempt; zero before the first
}

// A Policy says what to do with a recipient whose fate is unknown.
type Policy int

// The policies: Ask leaves it to a person (Retry or Remove); Resend tries again
// after 30 minutes, at most twice, with the same Message-ID.
const (
	Ask Policy = iota
	Resend
)
