package queue

import (
	"io"
	"time"
)

// A Kind says what a report reports.
type Kind string

// The kinds, by the words of Action in RFC 3464 section 2.3.3.
const (
	Failed  Kind = "failed"
	Delayed Kind = "delayed"
	Relayed Kind = "relayed"
)

// A Report is a delivery status notification in the making.
type Report struct {
	Kind     Kind
	ID       ID
	Envelope Envelope
	Arrived  time.Time
	Outcomes []Outcome // of the recipients it is about
	Until    time.Time // Will-Retry-Until of a delay
	Now      time.Time
	Reporter Reporter
	Message  io.Reader // what came back; its header goes into the report, all of it with RET=FULL when it is small
}

// DSN writes the report as a message (RFC 3464; RFC 6533 when a UTF-8 address is in
// it). It fails only if Message cannot be read.
func DSN(report Report) ([]byte, error) { return nil, errNotYet }
