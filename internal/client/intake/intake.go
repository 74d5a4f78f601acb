// Package intake is how mail comes from any local user into the system's queue, with
// no setuid program in between: a socket that everybody may connect to, behind it the
// agent of the system.
//
//	sendmail (uid 1001) -- Submit ------> Server (uid letterlock) -> Take -> queue
//	     |  socket away: own queue             | who it is: peercred
//	     `- Carrier, later, the same id -------' remembered ids: ledger
//
// One connection carries one message:
//
//	client  LETTERLOCK SUBMIT 1 <octets of head> <octets of message>\n
//	client  head (a Submission as JSON), message
//	server  one Answer as JSON, a line; code 0 only after message and envelope are
//	        synced in the queue
//	client  done\n      its own copy, if there was one, is durably gone
//
// The message has a length and not an end, so a peer that dies half-way has sent no
// message. Each hand-over has an id that its client chose. The server notes the id
// durably before the message can be sent, so that a client that never heard the answer
// can ask again with the same id and gets that answer instead of a second copy.
//
// Who submits is what the kernel says (package peercred). Which account sends, and what
// becomes of the sender, is not decided here: Take does, in package sendmail by way of
// main. SMTP over the socket would have been the field's protocol; it has neither ids
// nor lengths, and its answer after the final dot can be lost like any other.
package intake

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// Version is that of the protocol.
const Version = 1

// Bounds of what a peer may send. The message's own is Limits.Size.
const (
	maxPreamble   = 80
	maxHead       = 1 << 20
	maxAnswer     = 16 << 10
	maxRecipients = 20_000
	maxAddress    = 2_000
	maxText       = 500
)

// A Submission is what goes before the message: what the caller of sendmail said,
// which the system interprets as it would for itself.
type Submission struct {
	ID         string   `json:"id"` // see NewID
	Recipients []string `json:"to"`
	Sender     *string  `json:"from,omitempty"` // nil: none was named; "" is the null sender
	Name       string   `json:"name,omitempty"`
	Account    string   `json:"account,omitempty"`
	Notify     string   `json:"notify,omitempty"`
	Return     string   `json:"ret,omitempty"`
	EnvelopeID string   `json:"envid,omitempty"`
	NoAliases  bool     `json:"no_aliases,omitempty"`
}

// An Answer is what the server says.
type Answer struct {
	Version int      `json:"v"`
	Code    cli.Code `json:"code"`
	ID      string   `json:"id,omitempty"`    // of the entry in the system's queue
	Again   bool     `json:"again,omitempty"` // it had the message already
	What    string   `json:"what,omitempty"`
	Hint    string   `json:"hint,omitempty"`
}

var errMalformed = errors.New("malformed submission")

// check says whether the fields are such as a client of ours would send. What they
// mean (addresses, accounts) is checked by who uses them.
func (s *Submission) check() error {
	if !validID(s.ID) {
		return fmt.Errorf("%w: hand-over id", errMalformed)
	}
	if len(s.Recipients) == 0 || len(s.Recipients) > maxRecipients {
		return fmt.Errorf("%w: %d recipients", errMalformed, len(s.Recipients))
	}
	texts := append([]string{s.Name, s.Account, s.EnvelopeID}, s.Recipients...)
	if s.Sender != nil {
		texts = append(texts, *s.Sender)
	}
	for _, text := range texts {
		// Every octet below a blank is refused: none of these is ever more than a line.
		if len(text) > maxAddress || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%w: text", errMalformed)
		}
	}
	switch s.Return {
	case "", "FULL", "HDRS":
	default:
		return fmt.Errorf("%w: ret", errMalformed)
	}
	return checkNotify(s.Notify)
}

// checkNotify wants the words of RFC 3461 section 4.1.
func checkNotify(notify string) error {
	if notify == "" || notify == "NEVER" {
		return nil
	}
	for word := range strings.SplitSeq(notify, ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" {
			return fmt.Errorf("%w: notify", errMalformed)
		}
	}
	return nil
}

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// NewID makes the id of a hand-over: 26 characters, 130 bits of chance.
func NewID(random io.Reader) (string, error) {
	var raw [26]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("make a hand-over id: %w", err)
	}
	for i := range raw {
		raw[i] = idAlphabet[raw[i]&31]
	}
	return string(raw[:]), nil
}

// validID also keeps names out of the ledger's folder that are none of ours.
func validID(id string) bool {
	return len(id) == 26 && strings.Trim(id, idAlphabet) == ""
}

// encode is the submission with everything that goes before the message.
func (s *Submission) encode(size int64) ([]byte, error) {
	head, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(head) > maxHead {
		return nil, fmt.Errorf("%w: too many recipients", errMalformed)
	}
	return append(fmt.Appendf(nil, "LETTERLOCK SUBMIT %d %d %d\n", Version, len(head), size), head...), nil
}

// errVersion: the peer speaks another version of the protocol.
var errVersion = errors.New("another version of the protocol")

// readSubmission reads what goes before the message, and the message's length.
func readSubmission(r *bufio.Reader) (Submission, int64, error) {
	line, err := readLine(r, maxPreamble)
	if err != nil {
		return Submission{}, 0, err
	}
	var version, headLen int
	var size int64
	if n, err := fmt.Sscanf(string(line), "LETTERLOCK SUBMIT %d %d %d\n", &version, &headLen, &size); n > 0 && version != Version {
		return Submission{}, 0, errVersion
	} else if err != nil || headLen < 0 || headLen > maxHead || size < 0 {
		return Submission{}, 0, fmt.Errorf("%w: first line", errMalformed)
	}
	head := make([]byte, headLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return Submission{}, 0, err
	}
	s, err := decode(head)
	return s, size, err
}

func decode(head []byte) (Submission, error) {
	var s Submission
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields() // what we do not know we would not do: that needs a new version
	if err := d.Decode(&s); err != nil || d.More() {
		return s, fmt.Errorf("%w: head", errMalformed)
	}
	return s, s.check()
}

func readAnswer(r *bufio.Reader) (Answer, error) {
	line, err := readLine(r, maxAnswer)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(line, &a); err != nil {
		return Answer{}, errors.New("malformed answer")
	}
	if a.Version != Version {
		return Answer{}, errVersion
	}
	return a, nil
}

func (a Answer) line() ([]byte, error) {
	a.Version = Version
	a.What, a.Hint = shorten(a.What), shorten(a.Hint)
	text, err := json.Marshal(a)
	return append(text, '\n'), err
}

// shorten makes text fit for one line of an answer.
func shorten(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + " ..."
	}
	return cli.Line(text)
}

// readLine reads one line of at most limit octets.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > limit:
			return nil, fmt.Errorf("%w: line too long", errMalformed)
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
