package message

import (
	"errors"
	"fmt"
	"io"
)

var errNotYet = errors.New("not written yet")

// Error tells the address and what is wrong with it.
func (e *AddressError) Error() string { return fmt.Sprintf("address %q: %s", e.Text, e.Problem) }

// A Message is a header in memory and a body in memory or in a file of its own.
// Close it.
type Message struct{}

// Read reads r to its end. Line endings become CRLF (LF, CRLF and a bare CR), a lone
// dot ends nothing, a missing separator line is inserted, and what follows a line
// that is no header field is body. An mbox "From " line in front is dropped.
// The error is ErrNUL, ErrTooLarge (both by errors.Is), or r's own.
func Read(r io.Reader, limits Limits) (*Message, error) { return nil, errNotYet }

// Close removes the file of a large body.
func (m *Message) Close() error { return nil }

// Get returns the unfolded value of the first field of that name, or "".
func (m *Message) Get(name string) string { return "" }

// Has says whether the header has a field of that name.
func (m *Message) Has(name string) bool { return false }

// Set replaces the first field of that name, removes its others, or appends it. A
// value that is not ASCII is kept raw: Prepare encodes it where a server needs that.
// Line breaks in it become spaces.
func (m *Message) Set(name, value string) {}

// Remove takes every field of that name out.
func (m *Message) Remove(name string) {}

// Recipients returns the addresses of To, Cc and Bcc or, when the message is resent,
// of the newest block of Resent- fields (RFC 5322 section 3.6.6), without
// duplicates, bare local names as they are. Addresses that cannot be used are
// AddressErrors joined in err, beside those that can.
func (m *Message) Recipients() (addresses []string, err error) { return nil, errNotYet }

// From returns the mailboxes of the From field (of Resent-From when resent is set).
func (m *Message) From() ([]Mailbox, error) { return nil, errNotYet }

// StripBcc removes Bcc and Resent-Bcc. Call it after Recipients and before Reader.
func (m *Message) StripBcc() {}

// Complete adds what is missing: Date, Message-ID, From, and MIME-Version,
// Content-Type and Content-Transfer-Encoding for 8-bit text without MIME headers;
// for a resent message Resent-Date, Resent-From and Resent-Message-ID. Bare local
// names in address fields get the domain.
func (m *Message) Complete(c Completion) error { return errNotYet }

// RewriteFrom makes address the only one in From (and takes Sender out), keeping the
// display name: what `sender = rewrite` wants.
func (m *Message) RewriteFrom(address string) error { return errNotYet }

// Requirements says what a server must offer to take the message as it is.
func (m *Message) Requirements() Requirements { return Requirements{} }

// Size is the length of what Reader gives.
func (m *Message) Size() int64 { return 0 }

// Reader gives the whole message from the start: header, separator, body, all lines
// ended by CRLF. It is valid until the next change of the header and until Close.
func (m *Message) Reader() io.ReadSeeker { return nil }

// A Prepared message is in the form that one server can take.
type Prepared struct{}

// Prepare looks through a stored message (CRLF line ends, as Reader gave it) and
// decides how it must look for a server: header text in RFC 2047 words without
// SMTPUTF8, 8-bit parts in quoted-printable or base64 without 8BITMIME, lines over
// 998 octets in quoted-printable and long header lines folded always. A message that
// is not ours to change (DKIM-Signature, multipart/signed or multipart/encrypted,
// ARC seal) stays as it is. The error is ErrNeedsUTF8 or src's own. Nothing is read
// into memory but the header.
func Prepare(src io.ReadSeeker, can Capabilities) (*Prepared, error) { return nil, errNotYet }

// Requirements of the text that WriteTo writes; BODY=8BITMIME and SMTPUTF8 are to be
// declared by them, and by whether the server offers them.
func (p *Prepared) Requirements() Requirements { return Requirements{} }

// Changed says whether WriteTo writes something else than the source.
func (p *Prepared) Changed() bool { return false }

// Size is the length of what WriteTo writes.
func (p *Prepared) Size() int64 { return 0 }

// WriteTo writes the message, from the start each time. Lines end with CRLF; dots
// are not doubled: that belongs to the DATA stage.
func (p *Prepared) WriteTo(w io.Writer) (int64, error) { return 0, errNotYet }

// ParseAddresses reads what callers put into argv: "a@x", "a@x, b@x", "Bob <b@x>",
// "root". Control characters (CR, LF, NUL among them) and octets over 127 that are
// not UTF-8 are refused with an *AddressError. So is an empty list.
func ParseAddresses(text string) ([]string, error) { return nil, errNotYet }

// ParseSender reads an envelope sender as -f gives it: one address as in
// ParseAddresses, or the null sender, which is "" or "<>".
func ParseSender(text string) (string, error) { return "", errNotYet }

// FormatMailbox writes a mailbox for a header field, the name as RFC 2047 words or a
// quoted string where it needs that.
func FormatMailbox(m Mailbox) string { return "" }
