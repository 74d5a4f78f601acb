package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A handle is an entry that is open. Only one with the lock may append.
type handle struct {
	q      *Queue
	id     ID
	file   *os.File
	state  *state
	end    int64 // of the file
	room   int64 // where the next record goes
	locked bool
}

// open reads an entry. With lock it is ours alone until close; ErrActive when
// somebody else has it.
func (q *Queue) open(id ID, lock bool) (*handle, error) {
	if !id.valid() {
		return nil, fmt.Errorf("%q: %w", string(id), ErrNotFound)
	}
	flag := os.O_RDONLY
	if lock {
		flag = os.O_RDWR
	}
	file, err := os.OpenFile(q.path(id), flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	h := &handle{q: q, id: id, file: file}
	if err := h.prepare(lock); err != nil {
		h.close()
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	return h, nil
}

func (h *handle) prepare(lock bool) error {
	if lock {
		taken, err := tryLock(h.file)
		if err != nil {
			return err
		}
		if !taken {
			return ErrActive
		}
		h.locked = true
		// It may have been removed between opening and locking.
		if _, err := os.Lstat(h.file.Name()); errors.Is(err, fs.ErrNotExist) {
			return ErrNotFound
		}
	}
	return h.read()
}

func (h *handle) read() error {
	info, err := h.file.Stat()
	if err != nil {
		return err
	}
	l, err := readLayout(h.file)
	if err != nil {
		return err
	}
	h.end = info.Size()
	length := h.end - l.journal
	if length < 0 || length > maxJournal {
		return fmt.Errorf("%w: %d bytes of records", ErrDamaged, length)
	}
	journal := make([]byte, length)
	if _, err := h.file.ReadAt(journal, l.journal); err != nil && !(errors.Is(err, io.EOF) && length == 0) {
		return err
	}
	records, room := parseRecords(journal)
	h.room = l.journal + int64(room)
	h.state = replay(l, records)
	return nil
}

// append writes a record, syncs it if asked to, and applies it.
func (h *handle) append(r record, sync bool) error {
	line, err := r.line()
	if err != nil {
		return err
	}
	data, at := line, h.room
	roomy := h.room+int64(len(line)) <= h.end
	if !roomy {
		// At the end, with room for the next. A torn line there gets an end first.
		at = h.end
		data = append(append([]byte("\n"), line...), blanks(roomFor(len(h.state.people)))...)
	}
	if _, err := h.file.WriteAt(data, at); err != nil {
		return err
	}
	h.room = at + int64(len(line))
	if !roomy {
		h.room++
		h.end += int64(len(data))
	}
	if sync {
		if err := dataSync(h.file); err != nil {
			return err
		}
	}
	h.state.apply(r)
	return nil
}

// remove takes the entry away. The folder need not be synced: after a power cut the
// entry is back with all its records, and they say that nothing is left to do.
func (h *handle) remove() error {
	path := h.file.Name()
	if err := os.Remove(path); err == nil {
		return nil
	}
	h.close() // Windows removes no open file
	return os.Remove(path)
}

func (h *handle) close() { _ = h.file.Close() }

// message is a view of the message; it is valid until close.
func (h *handle) message() *io.SectionReader {
	return io.NewSectionReader(h.file, h.state.message, h.state.size)
}
