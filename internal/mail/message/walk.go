package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
)

// Bounds of the MIME structure that is looked into. What lies deeper is passed on
// as it is.
const (
	maxDepth      = 32
	maxParts      = 5000
	maxPartHeader = 4 << 20
)

// A shape says how a part is treated.
type shape int

const (
	leaf      shape = iota // content that may be encoded
	composite              // holds parts: never encoded itself (RFC 2045 section 6.4)
	opaque                 // not ours to look into or to change
)

// A visitor is told of a message part by part. Parts are numbered in order of their
// headers, the message itself is 0; pieces are of at most one line, with its end.
type visitor interface {
	header(index, parent int, h header, s shape) error
	content(index int, piece []byte) error // of a leaf
	other(index int, piece []byte) error   // delimiters, preambles, opaque content
	leave(index int, atDelimiter bool) error
}

// A walker goes through a message by lines and holds no more than a header.
type walker struct {
	to       visitor
	stack    []level
	block    []byte // the header being collected
	inHeader bool
	parent   int // of the part whose header is collected
	digest   bool
	current  int // the part that lines belong to
	shape    shape
	parts    int
}

// A level is a multipart that is open.
type level struct {
	delimiter string // "--" and the boundary
	part      int
	digest    bool
}

func walk(src io.Reader, to visitor) error {
	w := &walker{to: to, inHeader: true, parent: -1}
	lines := bufio.NewReaderSize(src, 32<<10)
	atStart := true
	for {
		piece, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) && piece[len(piece)-1] == '\r' {
			// A CRLF stays in one piece.
			if err := lines.UnreadByte(); err != nil {
				return err
			}
			piece = piece[:len(piece)-1]
		}
		if len(piece) > 0 {
			if err := w.piece(piece, atStart); err != nil {
				return err
			}
			atStart = piece[len(piece)-1] == '\n'
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.finish()
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

func (w *walker) piece(piece []byte, atStart bool) error {
	if atStart && bytes.HasPrefix(piece, []byte("--")) {
		if i, closes := w.delimiter(piece); i >= 0 {
			return w.delimit(i, closes, piece)
		}
	}
	if !w.inHeader {
		return w.line(piece)
	}
	if atStart && (len(piece) == 2 && piece[0] == '\r' || len(piece) == 1 && piece[0] == '\n') {
		return w.headerDone()
	}
	w.block = append(w.block, piece...)
	if len(w.block) > maxPartHeader {
		return ErrTooLarge
	}
	return nil
}

func (w *walker) line(piece []byte) error {
	if w.shape == leaf {
		return w.to.content(w.current, piece)
	}
	return w.to.other(w.current, piece)
}

// delimiter looks for the innermost open multipart that the line belongs to.
func (w *walker) delimiter(line []byte) (index int, closes bool) {
	text := strings.TrimRight(string(line), " \t\r\n")
	for i := len(w.stack) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(text, w.stack[i].delimiter); ok && (rest == "" || rest == "--") {
			return i, rest == "--"
		}
	}
	return -1, false
}

func (w *walker) delimit(i int, closes bool, line []byte) error {
	if w.inHeader { // a part that ends before its separator is all header
		if err := w.flushHeader(); err != nil {
			return err
		}
	}
	if err := w.to.leave(w.current, true); err != nil {
		return err
	}
	at := w.stack[i]
	w.current, w.shape = at.part, composite
	w.stack = w.stack[:i+1]
	if closes {
		w.stack = w.stack[:i]
	} else {
		w.inHeader, w.parent, w.digest = true, at.part, at.digest
	}
	return w.to.other(at.part, line)
}

// flushHeader passes on what was collected of a header that does not end.
func (w *walker) flushHeader() error {
	block := w.block
	w.inHeader, w.block = false, w.block[:0]
	if len(block) == 0 {
		return nil
	}
	return w.to.other(max(w.parent, 0), block)
}

func (w *walker) headerDone() error {
	h := parseHeader(w.block)
	w.inHeader, w.block = false, w.block[:0]
	index := w.parts
	w.parts++
	w.current = index
	kind, parameters := contentType(h)
	if kind == "" && w.digest && h.index("Content-Type") < 0 {
		kind = "message/rfc822" // RFC 2046 section 5.1.5
	}
	boundary := parameters["boundary"]
	identity := identityEncoding(h)
	w.shape = leaf
	switch {
	case h.signed() && index > 0, !identity, w.parts > maxParts, len(w.stack) >= maxDepth:
		w.shape = opaque
	case strings.HasPrefix(kind, "multipart/") && boundary != "":
		w.shape = composite
	case kind == "message/rfc822", kind == "message/global":
		w.shape = composite
	case strings.HasPrefix(kind, "message/"), strings.HasPrefix(kind, "multipart/"):
		w.shape = opaque // may not be encoded (RFC 2046 section 5.2)
	}
	if err := w.to.header(index, w.parent, h, w.shape); err != nil {
		return err
	}
	if w.shape != composite {
		return nil
	}
	if boundary != "" && strings.HasPrefix(kind, "multipart/") {
		w.stack = append(w.stack, level{delimiter: "--" + boundary, part: index, digest: kind == "multipart/digest"})
		return nil
	}
	w.inHeader, w.parent, w.digest = true, index, false
	return nil
}

func (w *walker) finish() error {
	if w.inHeader {
		if w.parts == 0 { // a header and nothing else
			if err := w.headerDone(); err != nil {
				return err
			}
		} else if err := w.flushHeader(); err != nil {
			return err
		}
	}
	return w.to.leave(w.current, false)
}

// contentType returns the lower-case type, or "" when there is none or none that
// can be read.
func contentType(h header) (kind string, parameters map[string]string) {
	value := h.get("Content-Type")
	if value == "" {
		return "", nil
	}
	kind, parameters, err := mime.ParseMediaType(value)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		// A broken parameter must not hide that this is a multipart.
		kind, _, _ = strings.Cut(value, ";")
		return strings.ToLower(strings.TrimSpace(kind)), nil
	}
	return kind, parameters
}

// identityEncoding says that the content stands there as it is (RFC 2045 section
// 6.2), so that encoding it is possible and needed.
func identityEncoding(h header) bool {
	switch strings.ToLower(h.get("Content-Transfer-Encoding")) {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}
