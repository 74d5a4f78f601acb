package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
)

// A writer is the second look: it writes the message as decided.
type writer struct {
	p       *Prepared
	out     *bufio.Writer
	size    int64
	encoder io.WriteCloser // of the leaf that is being encoded
	held    []byte         // a CRLF that belongs to the leaf only if no delimiter follows (RFC 2046 section 5.1.1)
}

func (p *Prepared) write(to io.Writer) (int64, error) {
	if _, err := p.src.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	w := &writer{p: p}
	w.out = bufio.NewWriterSize(counting{to, &w.size}, 32<<10)
	if err := walk(p.src, w); err != nil {
		return w.size, err
	}
	err := w.out.Flush()
	return w.size, err
}

type counting struct {
	to io.Writer
	n  *int64
}

// Write counts what went through.
func (c counting) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	*c.n += int64(n)
	return n, err
}

func (w *writer) header(index, _ int, h header, _ shape) error {
	if index >= len(w.p.parts) {
		return io.ErrUnexpectedEOF // the source changed under us
	}
	adapted, err := w.p.adaptHeader(index, h)
	if err != nil {
		return err
	}
	switch w.p.parts[index].encode {
	case quoted:
		w.encoder = quotedprintable.NewWriter(w.out)
	case base:
		w.encoder = newBase64(w.out)
	}
	if _, err := w.out.Write(adapted.bytes()); err != nil {
		return err
	}
	_, err = w.out.WriteString("\r\n")
	return err
}

func (w *writer) content(index int, piece []byte) error {
	if w.encoder == nil {
		return w.other(index, piece)
	}
	if w.p.parts[index].encode == quoted {
		_, err := w.encoder.Write(piece)
		return err
	}
	if _, err := w.encoder.Write(w.held); err != nil {
		return err
	}
	text, ends := cutEnd(piece)
	w.held = w.held[:0]
	if ends {
		w.held = append(w.held, '\r', '\n')
	} else {
		text = piece
	}
	_, err := w.encoder.Write(text)
	return err
}

func (w *writer) other(_ int, piece []byte) error {
	_, err := w.out.Write(piece)
	return err
}

func (w *writer) leave(_ int, atDelimiter bool) error {
	if w.encoder == nil {
		return nil
	}
	if !atDelimiter {
		if _, err := w.encoder.Write(w.held); err != nil {
			return err
		}
	}
	w.held = w.held[:0]
	err := w.encoder.Close()
	w.encoder = nil
	return err
}

// base64Lines is base64 in lines of 76 (RFC 2045 section 6.8). Its last line ends
// with the CRLF that a delimiter wants before it.
type base64Lines struct {
	io.WriteCloser
	wrap *wrapper
}

func newBase64(to io.Writer) io.WriteCloser {
	wrap := &wrapper{to: to}
	return base64Lines{base64.NewEncoder(base64.StdEncoding, wrap), wrap}
}

// Close writes what is left and ends the line.
func (b base64Lines) Close() error {
	if err := b.WriteCloser.Close(); err != nil {
		return err
	}
	return b.wrap.end()
}

type wrapper struct {
	to     io.Writer
	column int
}

// Write breaks what it gets into lines.
func (w *wrapper) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 76-w.column)
		b.Write(rest[:n])
		w.column += n
		rest = rest[n:]
		if w.column == 76 {
			b.WriteString("\r\n")
			w.column = 0
		}
	}
	_, err := w.to.Write(b.Bytes())
	return len(p), err
}

func (w *wrapper) end() error {
	if w.column == 0 {
		return nil
	}
	_, err := io.WriteString(w.to, "\r\n")
	return err
}
