package sendmail

import (
	"bufio"
	"errors"
	"io"
)

// A dotReader gives what stands before the line with a lone dot and takes one dot off
// lines that begin with one (RFC 5321 section 4.5.2). Only CRLF.CRLF ends it; a
// caller whose own commands end in a bare LF ends his message so too.
type dotReader struct {
	in     *bufio.Reader
	bareLF bool // LF ends a line
	start  bool // at the start of a line
	cr     bool // the last piece ended in CR
	rest   []byte
	err    error
}

func (d *dotReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 && d.err == nil {
		d.next()
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	if n == 0 {
		return 0, d.err
	}
	return n, nil
}

// next takes the next piece of a line. The reader's buffer is larger than any
// terminator, so a lone dot always comes in one piece.
func (d *dotReader) next() {
	piece, err := d.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	if err != nil {
		// The end of the pipe within a message: nothing of it counts.
		d.err = io.ErrUnexpectedEOF
		return
	}
	if d.start && piece[0] == '.' {
		if string(piece) == ".\r\n" || d.bareLF && string(piece) == ".\n" {
			d.err = io.EOF
			return
		}
		if piece = piece[1:]; len(piece) == 0 {
			d.start = false
			return
		}
	}
	n := len(piece)
	cr := d.cr && n == 1 || n >= 2 && piece[n-2] == '\r'
	d.start = piece[n-1] == '\n' && (cr || d.bareLF)
	d.cr = piece[n-1] == '\r'
	d.rest = piece
}

// UntilDot gives what a person types: to the end of file, or to a line with a lone
// dot, and no further than that line is read.
func UntilDot(in io.Reader) io.Reader { return &typed{in: bufio.NewReader(in), start: true} }

type typed struct {
	in    *bufio.Reader
	start bool
	rest  []byte
	err   error
}

func (t *typed) Read(p []byte) (int, error) {
	if len(t.rest) == 0 && t.err == nil {
		piece, err := t.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil
		}
		t.rest, t.err = piece, err
		if t.start && (string(piece) == ".\n" || string(piece) == ".\r\n" || string(piece) == "." && err == io.EOF) {
			t.rest, t.err = nil, io.EOF
		}
		t.start = len(piece) > 0 && piece[len(piece)-1] == '\n'
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	if n == 0 {
		return 0, t.err
	}
	return n, nil
}
