package delivery

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The limits on what a server may say. RFC 5321 section 4.5.3.1.5 knows 512 octets;
// challenges and Microsoft's refusals are longer.
const (
	maxLine  = 16 << 10
	maxReply = 64 << 10
	maxLines = 300
)

var (
	errTooLong  = errors.New("the reply is too long")
	errProtocol = errors.New("the server breaks the protocol")
	errClosed   = errors.New("the server closed the connection")
)

// A reply is what a server answers, all its lines.
type reply struct {
	code   int
	status string // enhanced status (RFC 3463) when the first line has one of the code's class
	lines  []string
}

// String joins the reply into one line; it is not yet safe to print.
func (r reply) String() string { return strconv.Itoa(r.code) + " " + strings.Join(r.lines, " ") }

func (r reply) is(class int) bool { return r.code/100 == class }

// readReply reads one reply. All its lines have the same code (RFC 5321 section
// 4.2.1): one that changes it is no reply but an attempt at something.
func readReply(in *bufio.Reader) (reply, error) {
	var r reply
	for size := 0; ; {
		line, err := readLine(in)
		if err != nil {
			return reply{}, err
		}
		if size += len(line); size > maxReply || len(r.lines) == maxLines {
			return reply{}, errTooLong
		}
		code, text, more, ok := splitReply(line)
		if !ok || r.code != 0 && code != r.code {
			return reply{}, fmt.Errorf("%w: %q", errProtocol, line[:min(len(line), 200)])
		}
		if r.code = code; len(r.lines) == 0 {
			r.status = enhancedStatus(code, text)
		}
		r.lines = append(r.lines, text)
		if !more {
			return r, nil
		}
	}
}

// readLine reads up to LF. A line that the connection's end cuts off is not a line:
// "250" of "250-" or "2500" must not pass for consent.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return "", errTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return "", errClosed
		case err != nil:
			return "", err
		}
		return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
	}
}

// splitReply reads "250-text", "250 text" or "250".
func splitReply(line string) (code int, text string, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, "", false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, "", false, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, line[4:], line[3] == '-', true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// enhancedStatus reads "5.1.1 text" (RFC 2034 section 3).
func enhancedStatus(code int, text string) string {
	word, _, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(code/100) {
		return ""
	}
	for _, part := range parts {
		if part == "" || len(part) > 3 || strings.Trim(part, "0123456789") != "" {
			return ""
		}
	}
	return word
}
