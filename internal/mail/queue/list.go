package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"
)

// List gives every entry, oldest first. An unreadable one is given as an error with
// the ID set, and does not end the list.
func (q *Queue) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ids, err := q.ids()
		if err != nil {
			yield(Entry{}, fmt.Errorf("list queue: %w", err))
			return
		}
		for _, id := range ids {
			if ctx.Err() != nil {
				yield(Entry{}, context.Cause(ctx))
				return
			}
			entry, err := q.Show(id)
			if errors.Is(err, ErrNotFound) {
				continue // gone meanwhile
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// ids reads the folder; an ID begins with its time, so sorting is by arrival.
func (q *Queue) ids() ([]ID, error) {
	folder, err := os.Open(q.entries)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	ids := make([]ID, 0, len(names))
	for _, name := range names {
		if ID(name).valid() {
			ids = append(ids, ID(name))
		}
	}
	slices.Sort(ids)
	return ids, err
}

// Show gives one entry.
func (q *Queue) Show(id ID) (Entry, error) {
	h, err := q.open(id, false)
	if err != nil {
		return Entry{ID: id}, err
	}
	defer h.close()
	active := h.state.open && q.isLocked(id)
	if !active {
		h.state.settle()
	}
	entry := h.state.entry(id)
	if active && entry.State != StateHeld {
		entry.State = StateActive
		entry.Next = time.Time{}
	}
	return entry, nil
}

// Waits says whether the entry is still in the queue. It is cheaper than Show.
func (q *Queue) Waits(id ID) bool {
	if !id.valid() {
		return false
	}
	_, err := os.Lstat(q.path(id))
	return !errors.Is(err, os.ErrNotExist)
}

// isLocked asks whether somebody is at work on the entry.
func (q *Queue) isLocked(id ID) bool {
	file, err := os.OpenFile(q.path(id), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close() // lets go of the lock
	taken, err := tryLock(file)
	return err == nil && !taken
}

// A Stored is the text of a message in the queue.
type Stored interface {
	io.ReadSeeker
	io.Closer
}

type stored struct {
	*io.SectionReader
	h *handle
}

// Close closes the entry.
func (s stored) Close() error { return s.h.file.Close() }

// Message opens the message of an entry as it was put.
func (q *Queue) Message(id ID) (Stored, error) {
	h, err := q.open(id, false)
	if err != nil {
		return nil, err
	}
	return stored{h.message(), h}, nil
}
