package message

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// A spool keeps a body: small in memory, large in a file.
type spool struct {
	limit  int
	folder string
	memory []byte
	file   *os.File
	out    *bufio.Writer
	size   int64
}

func (s *spool) write(p []byte) error {
	s.size += int64(len(p))
	if s.file == nil && len(s.memory)+len(p) <= s.limit {
		s.memory = append(s.memory, p...)
		return nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return err
		}
	}
	_, err := s.out.Write(p)
	return err
}

func (s *spool) spill() error {
	file, err := os.CreateTemp(s.folder, "letterlock-body-*") // 0600
	if err != nil {
		return fmt.Errorf("make room for a large message: %w", err)
	}
	s.file = file
	unlinkOpen(file) // so that a kill leaves nothing behind
	s.out = bufio.NewWriterSize(file, 64<<10)
	_, err = s.out.Write(s.memory)
	s.memory = nil
	return err
}

func (s *spool) finish() error {
	if s.out == nil {
		return nil
	}
	return s.out.Flush()
}

func (s *spool) reader() io.ReaderAt {
	if s.file != nil {
		return s.file
	}
	return bytes.NewReader(s.memory)
}

func (s *spool) close() {
	if s.file == nil {
		return
	}
	_ = s.file.Close()
	_ = os.Remove(s.file.Name()) // gone already where open files can be unlinked
	s.file = nil
}

// checkUTF8 goes on where the piece before ended, in the middle of a character too.
func (f *facts) checkUTF8(piece []byte) {
	text := append(f.tail, piece...)
	f.tail = nil
	for len(text) > 0 && !f.notUTF8 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			if !utf8.FullRune(text) {
				f.tail = bytes.Clone(text)
				return
			}
			f.notUTF8 = true
		}
		text = text[size:]
	}
}

// end says that nothing more comes for an unfinished character.
func (f *facts) end() {
	if len(f.tail) > 0 {
		f.notUTF8 = true
		f.tail = nil
	}
}
