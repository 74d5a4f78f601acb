package queue

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"
)

var errNotYet = errors.New("not written yet")

// Options are what a queue needs beside its folder.
type Options struct {
	Now    func() time.Time // nil means time.Now
	Random io.Reader        // nil means crypto/rand.Reader
}

// A Queue is a folder. Any number of processes may have it open.
type Queue struct{}

// Open opens the queue in folder (0700) and creates it if it is not there.
func Open(folder string, options Options) (*Queue, error) { return nil, errNotYet }

// Put takes a message in: when it returns nil, message and envelope are synced.
// Envelope.Size is filled in. A running drainer is woken.
func (q *Queue) Put(ctx context.Context, envelope Envelope, message io.Reader) (ID, error) {
	return "", errNotYet
}

// List gives every entry, oldest first. An unreadable one is given as an error with
// the ID set, and does not end the list.
func (q *Queue) List(ctx context.Context) iter.Seq2[Entry, error] { return nil }

// Show gives one entry.
func (q *Queue) Show(id ID) (Entry, error) { return Entry{}, errNotYet }

// A Stored is the text of a message in the queue.
type Stored interface {
	io.ReadSeeker
	io.Closer
}

// Message opens the message of an entry as it was put.
func (q *Queue) Message(id ID) (Stored, error) { return nil, errNotYet }

// Hold keeps an entry from being sent until Release. ErrActive, ErrNotFound.
func (q *Queue) Hold(id ID) error { return errNotYet }

// Release ends a hold, by hand or for a sign-in; the time held does not count
// against the time after which the queue gives up.
func (q *Queue) Release(id ID) error { return errNotYet }

// ReleaseAccount ends every wait for a sign-in of that account: call it after login.
// It returns how many entries it released.
func (q *Queue) ReleaseAccount(ctx context.Context, account string) (int, error) {
	return 0, errNotYet
}

// Retry makes an entry due now, even one that is held or unknown: the person who
// asks knows that an unknown one may arrive twice.
func (q *Queue) Retry(id ID) error { return errNotYet }

// Remove takes an entry out for good; nobody gets a report.
func (q *Queue) Remove(id ID) error { return errNotYet }

// A Bouncer takes a report to the sender of a message: into a local mailbox, a
// Maildir, or a queue. It must keep it durably before it returns nil. It may get the
// same report twice after a crash, with the same Message-ID.
type Bouncer interface {
	Bounce(ctx context.Context, to string, dsn []byte) error
}

// DrainOptions bound and direct a drain.
type DrainOptions struct {
	Once           bool // return when nothing is due, instead of waiting for more
	Parallel       int  // attempts at a time; 0 means 20
	PerDestination int  // of them to one destination; 0 means 5
	// Destination says what PerDestination counts, and which recipients of one
	// message travel in one Carry; nil means the account.
	Destination func(Envelope, Recipient) string
	OnUnknown   Policy
	Schedule    Schedule     // zero means RFC 5321's
	Bouncer     Bouncer      // nil: failures are only logged
	Reporter    Reporter     // who signs reports
	Log         *slog.Logger // nil discards
	Notice      func(Event)  // nil; called from several goroutines
}

// A Schedule says when to try again (RFC 5321 section 4.5.4.1).
type Schedule struct {
	Retries []time.Duration // pauses after the first, second... failure; the last repeats
	Delay   time.Duration   // after which the sender hears of a delay, once
	GiveUp  time.Duration   // after which the message bounces
	Resend  time.Duration   // pause before an unknown one is sent again
	Resends int             // how often
}

// A Reporter is who reports come from.
type Reporter struct {
	Host string // Reporting-MTA, and right side of Message-IDs
	From string // header From of reports; "" means MAILER-DAEMON@Host
}

// An Event is what happened to some recipients of an entry, for progress on a
// terminal and for notifications.
type Event struct {
	ID       ID
	Account  string
	Outcomes []Outcome // what the attempt brought; Refused also for given up
	State    State     // of the entry now
}

// A Summary counts what a drain did with recipients.
type Summary struct {
	Delivered, Deferred, Bounced, Held, Unknown int
	Next                                        time.Time // when the queue is due again; zero when empty or all held
}

// Drain hands what is due to the carrier: until nothing is (Once), or until ctx ends.
// One process drains at a time: with Once a second one gets ErrBusy at once, without
// it waits. An entry put while a drainer lets go is seen by it or by the next.
func (q *Queue) Drain(ctx context.Context, carrier Carrier, options DrainOptions) (Summary, error) {
	return Summary{}, errNotYet
}
