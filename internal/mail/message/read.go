package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	defaultSize   = 100 << 20
	defaultHeader = 1 << 20
	defaultMemory = 256 << 10
)

// Read reads r to its end. Line endings become CRLF (LF, CRLF and a bare CR), a lone
// dot ends nothing, a missing separator line is inserted, and what follows a line
// that is no header field is body. An mbox "From " line in front is dropped.
// The error is ErrNUL, ErrTooLarge (both by errors.Is), or r's own.
func Read(r io.Reader, limits Limits) (*Message, error) {
	limits = limits.filled()
	s := &splitter{limits: limits, body: spool{limit: limits.Memory, folder: limits.Folder}, first: true}
	n := normaliser{emit: s.take}
	buffer := make([]byte, 32<<10)
	var total int64
	for {
		count, err := r.Read(buffer)
		total += int64(count)
		if total > limits.Size {
			s.body.close()
			return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, limits.Size)
		}
		if fault := n.write(buffer[:count]); fault != nil {
			s.body.close()
			return nil, fault
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.body.close()
			return nil, err
		}
	}
	if err := s.finish(); err != nil {
		s.body.close()
		return nil, err
	}
	return &Message{header: parseHeader(s.header), body: s.body, facts: s.facts}, nil
}

func (l Limits) filled() Limits {
	if l.Size == 0 {
		l.Size = defaultSize
	}
	if l.Header == 0 {
		l.Header = defaultHeader
	}
	if l.Memory == 0 {
		l.Memory = defaultMemory
	}
	return l
}

// A normaliser makes every line end a CRLF. emit gets pieces of lines without their
// end, and whether the line ends after the piece.
type normaliser struct {
	emit    func(piece []byte, ends bool) error
	afterCR bool // a CRLF was given out for it: an LF right after it is part of it
}

func (n *normaliser) write(p []byte) error {
	if bytes.IndexByte(p, 0) >= 0 {
		return ErrNUL
	}
	for len(p) > 0 {
		if n.afterCR {
			n.afterCR = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			return n.emit(p, false)
		}
		if err := n.emit(p[:end], true); err != nil {
			return err
		}
		n.afterCR = p[end] == '\r'
		p = p[end+1:]
	}
	return nil
}

// A splitter tells header from body, line by line.
type splitter struct {
	limits Limits
	header []byte
	line   []byte // the unfinished line while in the header
	inBody bool
	first  bool // nothing but this line was seen
	body   spool
	facts  facts
}

func (s *splitter) take(piece []byte, ends bool) error {
	if s.inBody {
		return s.toBody(piece, ends)
	}
	s.line = append(s.line, piece...)
	if ends {
		return s.headerLine(true)
	}
	if len(s.header)+len(s.line) > s.limits.Header {
		// Too long to be kept waiting for its end, and that end would not tell more.
		return s.headerLine(false)
	}
	return nil
}

// headerLine decides what the collected line is.
func (s *splitter) headerLine(ends bool) error {
	line, first := s.line, s.first
	s.line, s.first = s.line[:0], false
	_, isField := fieldName(line)
	switch {
	case len(line) == 0:
		s.inBody = true // the separator
		return nil
	case isField, len(s.header) > 0 && (line[0] == ' ' || line[0] == '\t'):
		if len(s.header)+len(line) > s.limits.Header {
			return fmt.Errorf("header: %w of %d bytes", ErrTooLarge, s.limits.Header)
		}
		s.header = append(append(s.header, line...), '\r', '\n')
		return nil
	case first && ends && isPostmark(line):
		s.first = true
		return nil
	}
	// No field and no fold: the separator is missing and this is text already.
	s.inBody = true
	return s.toBody(line, ends)
}

// isPostmark recognises the line that mbox files begin a message with, "From
// sender Www Mmm dd hh:mm:ss yyyy". Prose that begins with "From" is not one.
func isPostmark(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("From "))
	if !ok {
		return false
	}
	words := bytes.Fields(rest)
	if len(words) < 6 || bytes.Count(words[4], []byte(":")) == 0 {
		return false
	}
	switch string(words[1]) {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}

func (s *splitter) toBody(piece []byte, ends bool) error {
	s.facts.add(piece, ends)
	if err := s.body.write(piece); err != nil || !ends {
		return err
	}
	return s.body.write([]byte("\r\n"))
}

func (s *splitter) finish() error {
	if !s.inBody && len(s.line) > 0 {
		if err := s.headerLine(false); err != nil {
			return err
		}
	}
	if s.facts.lineLength > 0 { // a last line without an end gets one: SMTP knows no other
		if err := s.toBody(nil, true); err != nil {
			return err
		}
	}
	s.facts.end()
	return s.body.finish()
}

// facts are what is learned of a text while it passes by.
type facts struct {
	eightBit   bool
	longest    int
	lineLength int
	notUTF8    bool
	tail       []byte // the beginning of a character whose rest is to come
}

// add takes a piece of a line; it must come before its line end is known to follow.
func (f *facts) add(piece []byte, ends bool) {
	f.lineLength += len(piece)
	f.longest = max(f.longest, f.lineLength)
	if len(f.tail) > 0 || hasEightBit(piece) {
		f.eightBit = true
		f.checkUTF8(piece)
	}
	if ends {
		f.lineLength = 0
		f.end()
	}
}
