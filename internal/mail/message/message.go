// Package message reads a mail message (RFC 5322) from whatever bytes a program
// hands over, completes it, takes Bcc out, and says what a server must be able to do
// to take it. The body stays byte for byte but for its line endings, and the header
// keeps its order and its folding.
//
//	stdin -> Read -> Recipients, Complete, StripBcc -> Reader -> queue
//	queue -> Prepare (for what the next server offers) -> wire
//
// It builds no MIME structure and reads none but to re-encode parts that a server
// would not take. The caller owns the address to send from and the recipients.
//
// Address lists are parsed here and not by net/mail (which emersion/go-message/mail
// covers): that parser gives up the whole list for one bare local name (root), one
// obsolete route, or one display name that is not UTF-8, all of which cron, sudo and
// old scripts write, and it does not say where in the field an address stands.
package message

import (
	"errors"
	"io"
	"time"
)

// Faults of a message's bytes. Front ends exit 65 on them.
var (
	ErrNUL      = errors.New("message contains a NUL byte") // RFC 5321 section 2.3.8, RFC 5322 section 2.2
	ErrTooLarge = errors.New("message is larger than the limit")
)

// ErrNeedsUTF8 means that an address in the header is not ASCII and that the server
// does not offer SMTPUTF8: nothing that is said with this message can be said in
// ASCII (RFC 6531 section 3.2). A carrier refuses the recipients with 5.6.7.
var ErrNeedsUTF8 = errors.New("an address in the header needs SMTPUTF8")

// Limits bound what Read takes.
type Limits struct {
	Size   int64  // octets of the whole message; 0 means 100 MiB
	Header int    // octets of the header; 0 means 1 MiB
	Memory int    // a body over this goes to a file; 0 means 256 KiB
	Folder string // where that file is made; "" means os.TempDir
}

// Requirements are what a server must be able to do to take a message as it is.
type Requirements struct {
	EightBit    bool // the body has octets over 127
	UTF8        bool // the header has octets over 127
	LongestLine int  // without its CRLF; over 998 is against RFC 5322 section 2.1.1
}

// A Mailbox is an address with the name shown for it.
type Mailbox struct {
	Name    string
	Address string // local@domain, or a bare local name
}

// A Completion is what a message gets when it lacks it.
type Completion struct {
	From   Mailbox   // the From of a message that has none (Name: sendmail's -F)
	Domain string    // appended to bare local names in the header's addresses; "" leaves them
	Host   string    // right side of a new Message-ID
	Now    time.Time // Date
	Random io.Reader // for the Message-ID; crypto/rand.Reader
}

// An AddressError is an address that cannot be used. Front ends exit 67 on it.
type AddressError struct {
	Text    string // may hold control characters: only for %q
	Problem string
}

// Capabilities are what the next server offered in its EHLO answer.
type Capabilities struct {
	EightBit bool // 8BITMIME
	UTF8     bool // SMTPUTF8
}

// A Message is a header in memory and a body in memory or in a file of its own.
// Close it.
type Message struct {
	header header
	body   spool
	facts  facts // of the body
}

// Close removes the file of a large body.
func (m *Message) Close() error {
	m.body.close()
	return nil
}

// Get returns the unfolded value of the first field of that name, or "".
func (m *Message) Get(name string) string { return m.header.get(name) }

// Has says whether the header has a field of that name.
func (m *Message) Has(name string) bool { return m.header.index(name) >= 0 }

// Set replaces the first field of that name, removes its others, or appends it. A
// value that is not ASCII is kept raw: Prepare encodes it where a server needs that.
// Line breaks in it become spaces.
func (m *Message) Set(name, value string) {
	i := m.header.index(name)
	if i < 0 {
		m.header = append(m.header, newField(name, value))
		return
	}
	m.header[i] = newField(name, value)
	rest := m.header[i+1:].without(name)
	m.header = append(m.header[:i+1:i+1], rest...)
}

// Remove takes every field of that name out.
func (m *Message) Remove(name string) { m.header = m.header.without(name) }

// StripBcc removes Bcc and Resent-Bcc. Call it after Recipients and before Reader.
func (m *Message) StripBcc() { m.header = m.header.without("Bcc", "Resent-Bcc") }

// Requirements says what a server must offer to take the message as it is.
func (m *Message) Requirements() Requirements {
	return Requirements{
		EightBit:    m.facts.eightBit,
		UTF8:        m.header.eightBit(),
		LongestLine: max(m.facts.longest, m.header.longestLine()),
	}
}

// Size is the length of what Reader gives.
func (m *Message) Size() int64 {
	size := m.body.size + 2
	for _, f := range m.header {
		size += int64(len(f.raw))
	}
	return size
}

// Reader gives the whole message from the start: header, separator, body, all lines
// ended by CRLF. It is valid until the next change of the header and until Close.
func (m *Message) Reader() io.ReadSeeker {
	head := append(m.header.bytes(), '\r', '\n')
	whole := joined{head: head, body: m.body.reader()}
	return io.NewSectionReader(whole, 0, int64(len(head))+m.body.size)
}

// joined reads a header and a body as one.
type joined struct {
	head []byte
	body io.ReaderAt
}

// ReadAt gives what lies at that place of the two.
func (j joined) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= int64(len(j.head)) {
		return j.body.ReadAt(p, offset-int64(len(j.head)))
	}
	n := copy(p, j.head[offset:])
	if n == len(p) {
		return n, nil
	}
	more, err := j.body.ReadAt(p[n:], 0)
	return n + more, err
}
