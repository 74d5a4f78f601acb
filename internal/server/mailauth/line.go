package mailauth

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// maxLine is the longest line of the protocol, its LF included (AUTH_CLIENT_MAX_LINE_LENGTH).
const maxLine = 16384

// errBad is a request that breaks the grammar. Its text goes to the log.
var errBad = errors.New("malformed request")

// readLine returns the next line without its LF. Of a line that is too long it returns
// the beginning, which may name a request to be failed, and long; the rest is dropped,
// so that the requests behind it are still heard.
func readLine(r *bufio.Reader) (line []byte, long bool, err error) {
	line, err = r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], false, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, false, err
	}
	line = append([]byte(nil), line[:64]...)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return line, true, err
}

// A command is a line from the client: its verb and what follows.
type command struct {
	verb   string
	id     uint32 // 0: none, or not a number
	fields []string
}

// parseLine takes a line apart. Requests have their id in the first field.
func parseLine(line []byte) command {
	fields := strings.Split(string(line), "\t")
	c := command{verb: fields[0], fields: fields[1:]}
	switch c.verb {
	case "AUTH", "CONT", "CANCEL":
		if len(c.fields) == 0 {
			return c
		}
		// No sign, no leading plus: ParseUint takes neither. Zero is no id.
		if id, err := strconv.ParseUint(c.fields[0], 10, 32); err == nil {
			c.id = uint32(id)
		}
		c.fields = c.fields[1:]
	}
	return c
}

// A question is an AUTH command.
type question struct {
	mechanism string
	protocol  identity.Protocol
	remote    netip.Addr
	local     netip.Addr
	secured   bool
	initial   []byte // nil: none came, empty: an empty one came
}

// parseAuth reads the fields behind AUTH and its id: the mechanism, then parameters in
// any order, resp= as the last. Unknown parameters are ignored, as Dovecot does.
func parseAuth(fields []string, minor uint64) (question, error) {
	if len(fields) == 0 {
		return question{}, fmt.Errorf("%w: no mechanism", errBad)
	}
	q := question{mechanism: strings.ToUpper(fields[0])}
	named := false
	for i, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		if key == "resp" {
			if i != len(fields)-2 {
				return q, fmt.Errorf("%w: something after the initial response", errBad)
			}
			initial, err := initialResponse(value, minor)
			if err != nil {
				return q, err
			}
			q.initial = initial
			continue
		}
		value, err := unescape(value)
		if err != nil {
			return q, err
		}
		switch key {
		case "service", "protocol": // Dovecot 2.4 says protocol
			if q.protocol, named = protocolOf(value); !named {
				return q, fmt.Errorf("%w: unknown service %q", errBad, value)
			}
		case "rip":
			q.remote = parseAddr(value)
		case "lip":
			q.local = parseAddr(value)
		case "secured": // 2.3 and Postfix: bare; 2.4: secured=tls
			q.secured = true
		}
	}
	if !named {
		return q, fmt.Errorf("%w: no service", errBad)
	}
	return q, nil
}

// initialResponse tells an empty response from none: "resp=" is an empty one from
// clients of minor version 2 on, and none from older ones; "resp==" is always empty.
func initialResponse(text string, minor uint64) ([]byte, error) {
	switch {
	case text == "" && minor < 2:
		return nil, nil
	case text == "" || text == "=":
		return []byte{}, nil
	}
	return decode(text)
}

// decode reads the base64 of a response, never as nil.
func decode(text string) ([]byte, error) {
	// The decoder skips line breaks, which have no business here.
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: base64", errBad)
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: base64", errBad) // not err: it tells where
	}
	return data[:n], nil
}

func parseAddr(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// escape makes a value safe for a line: TAB, LF, CR, NUL and the escape itself.
func escape(value string) string {
	if !strings.ContainsAny(value, "\x00\x01\t\r\n") {
		return value
	}
	return strings.NewReplacer("\x00", "\x010", "\x01", "\x011", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n").Replace(value)
}

// unescape is the way back.
func unescape(value string) (string, error) {
	if !strings.Contains(value, "\x01") {
		return value, nil
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '\x01' {
			b.WriteByte(value[i])
			continue
		}
		if i++; i == len(value) {
			return "", fmt.Errorf("%w: escape", errBad)
		}
		switch value[i] {
		case '0':
			b.WriteByte(0)
		case '1':
			b.WriteByte(1)
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		default:
			return "", fmt.Errorf("%w: escape", errBad)
		}
	}
	return b.String(), nil
}
