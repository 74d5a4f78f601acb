package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// maxLine is the longest line without its CRLF (RFC 5322 section 2.1.1, RFC 5321
// section 4.5.3.1.6).
const maxLine = 998

// A Prepared message is in the form that one server can take.
type Prepared struct {
	src     io.ReadSeeker
	can     Capabilities
	need    Requirements
	changed bool
	size    int64
	parts   []part
}

// A part is what the first look found out of a part, and what is to be done to it.
type part struct {
	parent  int
	shape   shape
	text    bool
	message bool // its header is a message's, not only a part's
	nests   bool // its content is a message
	facts   facts
	encode  transfer
	holds   bool // octets over 127 stay in it or below it
}

type transfer int

const (
	asIs transfer = iota
	quoted
	base
)

// Prepare looks through a stored message (CRLF line ends, as Reader gave it) and
// decides how it must look for a server: header text in RFC 2047 words without
// SMTPUTF8, 8-bit parts in quoted-printable or base64 without 8BITMIME, lines over
// 998 octets in quoted-printable and long header lines folded always. A message that
// is not ours to change (DKIM-Signature, multipart/signed or multipart/encrypted,
// ARC seal) stays as it is. The error is ErrNeedsUTF8 or src's own. Nothing is read
// into memory but the header.
//
// A caller whose envelope is ASCII does best to claim no SMTPUTF8 at first, and to
// ask again with it on ErrNeedsUTF8: a message that needs it less gets further.
func Prepare(src io.ReadSeeker, can Capabilities) (*Prepared, error) {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	look := &surveyor{can: can}
	if err := walk(src, look); err != nil {
		return nil, err
	}
	p := &Prepared{src: src, can: can, parts: look.parts}
	if err := p.decide(look); err != nil {
		return nil, err
	}
	if !p.changed {
		size, err := src.Seek(0, io.SeekEnd)
		p.size = size
		return p, err
	}
	size, err := p.write(io.Discard)
	p.size = size
	return p, err
}

// Requirements of the text that WriteTo writes; BODY=8BITMIME and SMTPUTF8 are to be
// declared by them, and by whether the server offers them.
func (p *Prepared) Requirements() Requirements { return p.need }

// Changed says whether WriteTo writes something else than the source.
func (p *Prepared) Changed() bool { return p.changed }

// Size is the length of what WriteTo writes.
func (p *Prepared) Size() int64 { return p.size }

// WriteTo writes the message, from the start each time. Lines end with CRLF; dots
// are not doubled: that belongs to the DATA stage.
func (p *Prepared) WriteTo(w io.Writer) (int64, error) {
	if p.changed {
		return p.write(w)
	}
	if _, err := p.src.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, p.src)
}

// decide turns what was seen into what is to be done.
func (p *Prepared) decide(look *surveyor) error {
	root := look.root
	p.need.UTF8 = root.eightBit()
	if root.signed() {
		p.need.EightBit, p.need.LongestLine = look.all.eightBit, max(look.all.longest, root.longestLine())
		return needsUTF8(root, p.can)
	}
	p.need.LongestLine = look.longest
	for i := range p.parts {
		part := &p.parts[i]
		part.encode = part.transfer(p.can)
		if part.encode != asIs {
			p.changed = true
			continue
		}
		p.need.LongestLine = max(p.need.LongestLine, part.facts.longest)
		if part.facts.eightBit {
			p.need.EightBit = true
			for up := i; up >= 0; up = p.parts[up].parent {
				p.parts[up].holds = true
			}
		}
	}
	p.need.EightBit = p.need.EightBit || look.eightBit
	adapted, err := p.adaptHeader(0, root)
	if err != nil {
		return err
	}
	p.need.UTF8 = adapted.eightBit()
	p.need.LongestLine = max(p.need.LongestLine, adapted.longestLine())
	p.changed = p.changed || look.partHeaders || !bytes.Equal(root.bytes(), adapted.bytes())
	return nil
}

// needsUTF8 looks at a header that may not be changed.
func needsUTF8(h header, can Capabilities) error {
	if can.UTF8 {
		return nil
	}
	for _, f := range h {
		if isAddressField(f.name) && hasEightBit(f.raw) {
			if _, err := encodeField(f); errors.Is(err, ErrNeedsUTF8) {
				return err
			}
		}
	}
	return nil
}

func (p *part) transfer(can Capabilities) transfer {
	if p.shape != leaf || p.facts.longest <= maxLine && (can.EightBit || !p.facts.eightBit) {
		return asIs
	}
	if p.text {
		return quoted
	}
	return base
}

// adaptHeader makes the header of a part fit for the server.
func (p *Prepared) adaptHeader(index int, h header) (header, error) {
	part := p.parts[index]
	adapted := make(header, 0, len(h)+3)
	for _, f := range h {
		if hasEightBit(f.raw) && p.mustEncode(index, f) {
			encoded, err := encodeField(f)
			if err != nil && index == 0 {
				return nil, err
			}
			f = encoded
		}
		adapted = append(adapted, foldLong(f))
	}
	encoding := strings.ToLower(h.get("Content-Transfer-Encoding"))
	switch {
	case part.encode == quoted:
		encoding = "quoted-printable"
	case part.encode == base:
		encoding = "base64"
	case part.shape == composite && !part.holds && (encoding == "8bit" || encoding == "binary") && p.changed:
		encoding = "7bit"
	default:
		return adapted, nil
	}
	return relabel(adapted, part, encoding), nil
}

func (p *Prepared) mustEncode(index int, f field) bool {
	if index > 0 {
		return !p.can.EightBit // to SMTP a part's header is body
	}
	// SMTPUTF8 allows UTF-8 and no other charset (RFC 6532 section 3.1).
	return !p.can.UTF8 || isNotUTF8(f.raw)
}

func isNotUTF8(text []byte) bool {
	var f facts
	f.checkUTF8(text)
	f.end()
	return f.notUTF8
}

// relabel sets the transfer encoding where it stood, or adds it.
func relabel(h header, p part, encoding string) header {
	label := newField("Content-Transfer-Encoding", encoding)
	if i := h.index("Content-Transfer-Encoding"); i >= 0 {
		h[i] = label
		rest := h[i+1:].without("Content-Transfer-Encoding")
		h = append(h[:i+1:i+1], rest...)
	} else {
		h = append(h, label)
	}
	if p.message && h.index("MIME-Version") < 0 {
		if h.index("Content-Type") < 0 {
			h = append(h, newField("Content-Type", "text/plain; charset="+p.facts.charset()))
		}
		h = append(h, newField("MIME-Version", "1.0"))
	}
	return h
}
