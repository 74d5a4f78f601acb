package delivery

import (
	"bytes"
	"errors"
	"io"

	"github.com/letterlock-mail/letterlock/internal/mail/message"
)

// A content is a message on its way out: signature fields, then the message as the
// queue has it or as it was prepared for a server. Line ends become CRLF on the way: a
// bare LF or a bare CR counts as one, so that nothing but our own CRLF.CRLF can end the
// message at any server (the smuggling of 2023).
type content struct {
	prefix []byte
	source io.ReadSeeker // what the queue has
	// prepared, when not nil, is written in the place of source.
	prepared io.WriterTo
	fixed    bool                 // signed: it must not be changed any more
	form     message.Capabilities // of prepared, when fixed
	size     int64                // with every line end as CRLF, without the dots that SMTP adds
	eight    bool                 // has octets over 127
}

func (m *content) measure() error {
	count := counter{}
	wire := newWireWriter(&count, false)
	if err := m.copyTo(wire); err != nil {
		return err
	}
	if err := wire.finish(); err != nil {
		return err
	}
	m.size, m.eight = count.size, count.eight
	return nil
}

// fit is the message as a server takes it that can so much. It comes back as it is
// when nothing need be changed.
func (m *content) fit(can message.Capabilities) (fitted *content, utf8 bool, err error) {
	if m.fixed {
		return m, false, nil
	}
	p, err := message.Prepare(m.source, can)
	if err != nil {
		return nil, false, err
	}
	fitted = &content{source: m.source}
	if p.Changed() {
		fitted.prepared = p
	}
	return fitted, p.Requirements().UTF8, fitted.measure()
}

// signed is the message in the form that every server takes, so that the signature
// holds everywhere, with the fields before it that sign makes of exactly these bytes.
func (m *content) signed(sign func(io.Reader) ([]byte, error)) (*content, error) {
	form := message.Capabilities{}
	out, _, err := m.fit(form)
	if errors.Is(err, message.ErrNeedsUTF8) {
		form = message.Capabilities{EightBit: true, UTF8: true}
		out, _, err = m.fit(form)
	}
	if err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	written := make(chan struct{})
	unsigned := out
	go func() {
		defer close(written)
		wire := newWireWriter(to, false)
		to.CloseWithError(errors.Join(unsigned.copyTo(wire), wire.finish()))
	}()
	fields, err := sign(from)
	from.Close() // ends the writer, should sign have read too little
	<-written
	if err != nil {
		return nil, err
	}
	out = &content{prefix: fields, source: out.source, prepared: out.prepared, fixed: true, form: form}
	return out, out.measure()
}

// view is the same content for another goroutine: with a place of its own to read from.
// It is nil when the source has but one.
func (m *content) view() (*content, error) {
	at, ok := m.source.(io.ReaderAt)
	if !ok {
		return nil, nil
	}
	size, err := m.source.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	other := *m
	other.source = io.NewSectionReader(at, 0, size)
	if m.prepared != nil {
		p, err := message.Prepare(other.source, m.form)
		if err != nil {
			return nil, err
		}
		other.prepared = p
	}
	return &other, nil
}

// copyTo writes the whole message as it is kept.
func (m *content) copyTo(w io.Writer) error {
	if len(m.prefix) > 0 {
		if _, err := w.Write(m.prefix); err != nil {
			return err
		}
	}
	if m.prepared != nil {
		_, err := m.prepared.WriteTo(w)
		return err
	}
	size, err := m.source.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := m.source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	// Most mail is small, and there are three passes over it.
	buffer := make([]byte, min(32<<10, size+1))
	_, err = io.CopyBuffer(onlyWriter{w}, onlyReader{m.source}, buffer)
	return err
}

// onlyReader and onlyWriter hide ReadFrom and WriteTo, which would bring buffers of
// their own.
type onlyReader struct{ io.Reader }

type onlyWriter struct{ io.Writer }

// A counter measures what is written to it.
type counter struct {
	size  int64
	eight bool
}

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	for i := 0; i < len(p) && !c.eight; i++ {
		c.eight = p[i] >= 0x80
	}
	return len(p), nil
}

// A wireWriter turns every line end into CRLF, and with dots set doubles a dot at the
// beginning of a line (RFC 5321 section 4.5.2).
type wireWriter struct {
	w     io.Writer
	dots  bool
	start bool // at the beginning of a line
	cr    bool // a CR is held back until what follows it is known
	err   error
}

func newWireWriter(w io.Writer, dots bool) *wireWriter {
	return &wireWriter{w: w, dots: dots, start: true}
}

// window bounds how far the next line end is looked for, so that a message of nothing
// but CR does not cost the square of its length.
const window = 1024

// Write implements io.Writer.
func (w *wireWriter) Write(p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 && w.err == nil {
		if w.cr {
			w.end()
			if p[0] == '\n' {
				p = p[1:]
			}
			continue
		}
		part := p[:min(len(p), window)]
		if lf := bytes.IndexByte(part, '\n'); lf >= 0 {
			part = part[:lf]
		}
		cr := bytes.IndexByte(part, '\r')
		if cr >= 0 {
			part = part[:cr]
		}
		w.text(part)
		p = p[len(part):]
		switch {
		case cr >= 0:
			w.cr, p = true, p[1:]
		case len(p) > 0 && p[0] == '\n':
			w.end()
			p = p[1:]
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	return size, nil
}

func (w *wireWriter) text(part []byte) {
	if len(part) == 0 {
		return
	}
	if w.start && w.dots && part[0] == '.' {
		w.put(".")
	}
	w.start = false
	if w.err == nil {
		_, w.err = w.w.Write(part)
	}
}

func (w *wireWriter) end() {
	w.put("\r\n")
	w.start, w.cr = true, false
}

func (w *wireWriter) put(text string) {
	if w.err == nil {
		_, w.err = io.WriteString(w.w, text)
	}
}

// finish ends the last line when it has no end.
func (w *wireWriter) finish() error {
	if w.cr || !w.start {
		w.end()
	}
	return w.err
}
