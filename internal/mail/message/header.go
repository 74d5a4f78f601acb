package message

import (
	"bytes"
	"strings"
)

// A field is one header field, byte for byte: name, colon, value, folds and the
// CRLF at its end.
type field struct {
	name string // as written, without the blanks that RFC 5322 section 4.5 allows before the colon
	raw  []byte
}

type header []field

// fieldName returns the name when line begins a header field: printable ASCII
// without colon (RFC 5322 section 2.2), then a colon, obsolete blanks between.
func fieldName(line []byte) (string, bool) {
	end := bytes.IndexByte(line, ':')
	if end <= 0 {
		return "", false
	}
	name := bytes.TrimRight(line[:end], " \t")
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return string(name), len(name) > 0
}

// parseHeader splits a header block, of which every line is known to be a field's.
func parseHeader(block []byte) header {
	var h header
	for line := range bytes.Lines(block) {
		if len(h) > 0 && (line[0] == ' ' || line[0] == '\t') {
			h[len(h)-1].raw = append(h[len(h)-1].raw, line...)
			continue
		}
		name, _ := fieldName(line)
		// A copy with no room behind it: appending must not reach the next field.
		h = append(h, field{name: name, raw: bytes.Clone(line)})
	}
	return h
}

func newField(name, value string) field {
	return field{name: name, raw: []byte(name + ": " + oneLine(value) + "\r\n")}
}

// oneLine takes out what would end a field or a line of it.
func oneLine(value string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n' || r == 0:
			return ' '
		}
		return r
	}, value)
}

// body is what follows the colon, folds and final CRLF included.
func (f field) body() []byte {
	return f.raw[bytes.IndexByte(f.raw, ':')+1:]
}

// value is the unfolded body (RFC 5322 section 2.2.3).
func (f field) value() string {
	text := string(f.body())
	text = strings.ReplaceAll(text, "\r\n", "")
	return strings.Trim(text, " \t")
}

func (f field) is(name string) bool { return strings.EqualFold(f.name, name) }

func (h header) index(name string) int {
	for i, f := range h {
		if f.is(name) {
			return i
		}
	}
	return -1
}

func (h header) get(name string) string {
	if i := h.index(name); i >= 0 {
		return h[i].value()
	}
	return ""
}

func (h header) without(names ...string) header {
	kept := make(header, 0, len(h))
	for _, f := range h {
		if !nameIn(f.name, names) {
			kept = append(kept, f)
		}
	}
	return kept
}

func nameIn(name string, names []string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

func (h header) bytes() []byte {
	var b bytes.Buffer
	for _, f := range h {
		b.Write(f.raw)
	}
	return b.Bytes()
}

func (h header) eightBit() bool {
	for _, f := range h {
		if hasEightBit(f.raw) {
			return true
		}
	}
	return false
}

func (h header) longestLine() int {
	longest := 0
	for _, f := range h {
		for line := range bytes.Lines(f.raw) {
			longest = max(longest, len(bytes.TrimRight(line, "\r\n")))
		}
	}
	return longest
}

// signed says that a signature covers the message or its parts, so that a changed
// byte would show as a forgery (RFC 6376, RFC 8617, RFC 1847).
func (h header) signed() bool {
	for _, f := range h {
		if f.is("DKIM-Signature") || f.is("ARC-Seal") {
			return true
		}
	}
	kind, _ := contentType(h)
	return kind == "multipart/signed" || kind == "multipart/encrypted"
}

// resentBlock returns the fields of the newest block of Resent- fields, which is the
// topmost (RFC 5322 section 3.6.6). A block has each name once, so that a name seen
// again begins an older block; the same name twice in a row is one caller's list.
func (h header) resentBlock() header {
	var block header
	for _, f := range h {
		isResent := len(f.name) > 7 && strings.EqualFold(f.name[:7], "resent-")
		if !isResent {
			if len(block) > 0 {
				break
			}
			continue
		}
		if block.index(f.name) >= 0 && !block[len(block)-1].is(f.name) {
			break
		}
		block = append(block, f)
	}
	return block
}

func hasEightBit(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
