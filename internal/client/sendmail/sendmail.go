// Package sendmail is the front that programs know: /usr/sbin/sendmail, mail and
// mailx. It reads their options, finds the recipients, completes the message and puts
// it into the queue. It never talks to a mail server.
//
//	argv  -> Parse, ParseMail -> Options, Mail
//	stdin -> message.Read -> Sender.Send -> queue.Put       exit 0 only after that
//	stdin -> Serve (-bs)  -> Sender.Send, once per DATA
//	            Sender.Send -> Forward                      to the system's Sender.Send
//
// What comes from argv reaches envelope and header only by way of the address parser
// of package message; no part of it is ever a line of an SMTP dialogue.
//
// Faults are *cli.Fault with the codes of sysexits(3): 64 for options and missing
// recipients, 65 for bytes that are no message, 67 for addresses, 75 when the queue
// cannot be written, 77 for a sender that is not permitted, 78 for configuration.
package sendmail

import (
	"context"
	"io"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A Putter takes a message in; it is durable when Put returns nil.
type Putter interface {
	Put(ctx context.Context, envelope queue.Envelope, message io.Reader) (queue.ID, error)
}

// A Policy says what to do with a sender that the way out does not own.
type Policy string

// The policies. Rewrite, the default, makes the account's address the sender and
// keeps the display name; Refuse sends nothing; Keep leaves it to the server.
const (
	Rewrite Policy = "rewrite"
	Refuse  Policy = "refuse"
	Keep    Policy = "keep"
)

// A Way is one way out of this machine: mostly an account.
type Way struct {
	Account  string
	Address  string   // its own address, the sender after a rewrite
	Senders  []string // addresses that may stand in From; "@example.org" is a whole domain
	Policy   Policy
	SendOnly bool
}

// A Sender knows the machine that mail leaves from. Fill it in before use.
type Sender struct {
	Queue   Putter
	Aliases func() (Aliases, error) // asked when a local name comes up; nil: there are none
	Root    []string                // who reads the mail of root, and of local users where there is no Domain
	Domain  string                  // appended to bare local names: configured, so people have mailboxes there
	// Mailname is appended where there is no Domain: /etc/mailname; "" means Host.
	Mailname string
	Host     string // this machine, for Message-IDs
	User     string // login name of the caller
	Name     string // and the name shown for it
	Ways     []Way
	Default  string // the account that sends; "" lets the sender choose among Ways
	Limits   message.Limits
	Now      func() time.Time
	Random   io.Reader
	// Forward takes the message instead of all this: the machine has a queue of its own,
	// which knows the ways out and the alias file. The options name every recipient and
	// the sender as read; the message has no Bcc and is otherwise as it came.
	Forward func(ctx context.Context, o Options, m *message.Message) (queue.ID, error)
	// Submitter is the other end of that: who handed the message over ("userid 1001"). It
	// stands in a Received field, and the From that a rewrite replaced in another.
	Submitter string
}

// domain is what makes a local name an address.
func (s *Sender) domain() string {
	switch {
	case s.Domain != "":
		return s.Domain
	case s.Mailname != "":
		return s.Mailname
	}
	return s.Host
}
