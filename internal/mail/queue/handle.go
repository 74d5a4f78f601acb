package queue

import (
	"bytes"
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
	doubt  bool   // a write has failed: what is on the disk is to be read again
	last   []byte // the last record on disk as it was read, and where it stands
	lastAt int64
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
	is, err := h.readJournal(l)
	if err != nil {
		return err
	}
	h.state = replay(l, is.records)
	return nil
}

func (h *handle) readJournal(l layout) (reading, error) {
	length := h.end - l.journal
	if length < 0 || length > maxJournal {
		return reading{}, fmt.Errorf("%w: %d bytes of records", ErrDamaged, length)
	}
	journal := make([]byte, length)
	if _, err := h.file.ReadAt(journal, l.journal); err != nil && !(errors.Is(err, io.EOF) && length == 0) {
		return reading{}, err
	}
	is := parseRecords(journal)
	h.room = l.journal + int64(is.room)
	if is.last >= 0 {
		line, _, _ := bytes.Cut(journal[is.last:], []byte("\n"))
		h.last, h.lastAt = append(line, '\n'), l.journal+int64(is.last)
	}
	return is, nil
}

// look finds out where the next record can go after a write that has failed: all of it
// may be on the disk, or a part.
func (h *handle) look() error {
	info, err := h.file.Stat()
	if err != nil {
		return err
	}
	h.end = info.Size()
	if _, err := h.readJournal(h.state.layout); err != nil {
		return err
	}
	h.doubt, h.last = false, nil // what is there now was not applied
	return nil
}

// append writes a record, syncs it if asked to, and applies it. After an error it may be
// on the disk or not; what is known of it in memory is what it would have said.
func (h *handle) append(r record, sync bool) error {
	line, err := r.line()
	if err != nil {
		return err
	}
	if h.doubt {
		if err := h.look(); err != nil {
			return err
		}
	}
	if bytes.Equal(line, h.last) {
		return h.again(line, sync)
	}
	if err := h.write(line, sync); err != nil {
		h.doubt = true
		return err
	}
	h.last = nil
	h.state.apply(r)
	return nil
}

// again writes the last record over itself: it was there when the entry was opened and
// so is applied, but the sync that followed it has failed, and none that follows says
// anything of bytes that were not written again. Twice in the file it would count twice.
func (h *handle) again(line []byte, sync bool) error {
	if err := h.writeAt(line, h.lastAt); err != nil {
		h.doubt = true
		return err
	}
	if !sync {
		return nil
	}
	return h.sync()
}

func (h *handle) write(line []byte, sync bool) error {
	data, at := line, h.room
	roomy := h.room+int64(len(line)) <= h.end
	if !roomy {
		// At the end, with room for the next. A torn line there gets an end first.
		at = h.end
		data = append(append([]byte("\n"), line...), blanks(roomFor(len(h.state.people)))...)
	}
	if err := h.writeAt(data, at); err != nil {
		return err
	}
	h.room = at + int64(len(line))
	if !roomy {
		h.room++
		h.end += int64(len(data))
	}
	if !sync {
		return nil
	}
	return h.sync()
}

func (h *handle) writeAt(data []byte, at int64) error {
	if n, err := h.q.fails("write", len(data)); err != nil {
		_, _ = h.file.WriteAt(data[:n], at) // as much as the failing disk has taken
		return err
	}
	_, err := h.file.WriteAt(data, at)
	return err
}

func (h *handle) sync() error {
	if _, err := h.q.fails("sync", 0); err != nil {
		return err
	}
	return dataSync(h.file)
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
