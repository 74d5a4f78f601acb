package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The limits on what a server may say. Real lines are short, but capability lists
// and Microsoft's greetings run to some hundred bytes, and one LIST may name a
// mailbox in a literal.
const (
	maxLine    = 16 << 10
	maxLiteral = 64 << 10
	maxReply   = 256 << 10 // one reply with all its lines
	maxLines   = 2000
)

// maxInitial is the longest AUTH line that carries an initial response, CRLF
// included: the command line of RFC 5321 section 4.5.3.1.4. Google answers 555 to a
// longer one, Dovecot's submission cuts it, Postfix 3.7 refuses it above 2,048.
const maxInitial = 512

// A quota counts down what a reply may still be long.
type quota struct{ bytes, lines int }

func newQuota() *quota { return &quota{bytes: maxReply, lines: maxLines} }

func (q *quota) take(n int) error {
	q.bytes -= n
	q.lines--
	if q.bytes < 0 || q.lines < 0 {
		return ErrTooLong
	}
	return nil
}

// readLine reads one line, without its end.
func (c *Conn) readLine(q *quota) (string, error) {
	line, err := boundedLine(c.in, maxLine)
	if err != nil {
		return "", c.readError(err)
	}
	return line, q.take(len(line))
}

// readBytes reads a literal of n bytes.
func (c *Conn) readBytes(n int, q *quota) (string, error) {
	if n > maxLiteral {
		return "", ErrTooLong
	}
	if err := q.take(n); err != nil {
		return "", err
	}
	literal := make([]byte, n)
	if _, err := io.ReadFull(c.in, literal); err != nil {
		return "", c.readError(err)
	}
	return string(literal), nil
}

func (c *Conn) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: %w", c.address(), ErrClosed)
	}
	return err
}

// send writes a command and gives it and its reply their time.
func (c *Conn) send(line string) error {
	c.trace.client(line)
	return c.write(line)
}

// sendHidden is send for a line with a secret in it; shown stands in the trace.
func (c *Conn) sendHidden(line, shown string) error {
	c.trace.client(shown)
	return c.write(line)
}

func (c *Conn) write(line string) error {
	c.step()
	_, err := io.WriteString(c.Conn, line+"\r\n")
	return err
}

// boundedLine reads up to LF and cuts it and a CR before it off.
func boundedLine(in *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return "", ErrTooLong
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
	}
}
