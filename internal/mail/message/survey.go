package message

import (
	"bytes"
	"strings"
)

// A surveyor is the first look at a message: it writes nothing.
type surveyor struct {
	can         Capabilities
	parts       []part
	root        header
	all         facts // of everything behind the root header
	longest     int   // line outside of leaves
	eightBit    bool  // octets over 127 outside of leaves, which stay
	partHeaders bool  // a header inside needs a change
}

func (s *surveyor) header(index, parent int, h header, shape shape) error {
	kind, _ := contentType(h)
	s.parts = append(s.parts, part{
		parent: parent, shape: shape,
		text:    kind == "" || kind == "text" || strings.HasPrefix(kind, "text/"),
		message: parent < 0 || s.parts[parent].nests,
		nests:   shape == composite && !strings.HasPrefix(kind, "multipart/"),
	})
	if index == 0 {
		s.root = h
		return nil
	}
	long := h.longestLine()
	s.longest, s.all.longest = max(s.longest, long), max(s.all.longest, long)
	s.partHeaders = s.partHeaders || long > maxLine
	if h.eightBit() {
		s.all.eightBit = true
		s.eightBit = s.eightBit || s.can.EightBit
		s.partHeaders = s.partHeaders || !s.can.EightBit
	}
	return nil
}

func (s *surveyor) content(index int, piece []byte) error {
	text, ends := cutEnd(piece)
	p := &s.parts[index]
	p.facts.add(text, ends)
	s.all.add(text, ends)
	return nil
}

func (s *surveyor) other(index int, piece []byte) error {
	text, ends := cutEnd(piece)
	s.all.add(text, ends)
	if index < len(s.parts) && s.parts[index].shape == opaque {
		s.parts[index].facts.add(text, ends)
		return nil
	}
	s.longest = max(s.longest, s.all.lineLength, len(text))
	s.eightBit = s.eightBit || hasEightBit(text)
	return nil
}

func (s *surveyor) leave(int, bool) error { return nil }

func cutEnd(piece []byte) (text []byte, ends bool) {
	text, ends = bytes.CutSuffix(piece, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r")), ends
}
