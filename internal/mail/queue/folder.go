package queue

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// Options are what a queue needs beside its folder.
type Options struct {
	Now    func() time.Time // nil means time.Now
	Random io.Reader        // nil means crypto/rand.Reader
}

// A Queue is a folder. Any number of processes may have it open.
//
//	entries/ID      one file per message
//	entries/.ID     a message that is being put
//	drain.lock      held by the process that drains
//	wake            where that process hears of changes
type Queue struct {
	folder   string
	entries  string
	now      func() time.Time
	random   io.Reader
	step     func(name string)                        // tests die here; nil otherwise
	disk     func(op string, length int) (int, error) // tests make the disk fail here; nil otherwise
	patience int                                      // how often a drain that ends by itself tries a locked entry
	rescan   time.Duration                            // how often a drainer looks for what nobody told it
}

// Open opens the queue in folder (0700) and creates it if it is not there.
func Open(folder string, options Options) (*Queue, error) {
	q := &Queue{folder: folder, entries: filepath.Join(folder, "entries"), now: options.Now, random: options.Random, rescan: rescanEvery, patience: lockedTries}
	if q.now == nil {
		q.now = time.Now
	}
	if q.random == nil {
		q.random = rand.Reader
	}
	for _, path := range []string{folder, q.entries} {
		if err := atomicfile.PrivateFolder(path); err != nil {
			return nil, fmt.Errorf("open queue: %w", err)
		}
	}
	return q, nil
}

func (q *Queue) at(step string) {
	if q.step != nil {
		q.step(step)
	}
}

// fails is what a test wants of the disk: how much of a write it takes, and an error.
func (q *Queue) fails(op string, length int) (int, error) {
	if q.disk == nil {
		return length, nil
	}
	return q.disk(op, length)
}

// Put takes a message in: when it returns nil, message and envelope are synced.
// Envelope.Size is filled in. A running drainer is woken.
func (q *Queue) Put(ctx context.Context, envelope Envelope, message io.Reader) (ID, error) {
	id, err := q.put(ctx, envelope, message, nil)
	if err != nil {
		return "", fmt.Errorf("queue message: %w", err)
	}
	q.wake(id)
	return id, nil
}

// PutHeld is Put for who must note something durably between the message's arrival and
// the first attempt to send it: the entry is held as Incoming until Release.
func (q *Queue) PutHeld(ctx context.Context, envelope Envelope, message io.Reader) (ID, error) {
	line, err := record{Kind: recHold, Time: q.now().UnixMilli(), Reason: Incoming}.line()
	if err != nil {
		return "", fmt.Errorf("queue message: %w", err)
	}
	id, err := q.put(ctx, envelope, message, line)
	if err != nil {
		return "", fmt.Errorf("queue message: %w", err)
	}
	return id, nil
}

func (q *Queue) put(ctx context.Context, envelope Envelope, message io.Reader, first []byte) (ID, error) {
	if len(envelope.To) == 0 {
		return "", errors.New("no recipients")
	}
	text, err := json.Marshal(headOf(envelope, q.now()))
	if err != nil {
		return "", err
	}
	if len(text) > maxHead {
		return "", ErrTooLarge
	}
	id, err := q.newID()
	if err != nil {
		return "", err
	}
	temporary := filepath.Join(q.entries, "."+string(id))
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	if renamesOpenFiles {
		// No drainer may take it before the folder is synced: what it has sent by then
		// could not be taken back any more.
		if _, err := tryLock(file); err != nil {
			_ = file.Close()
			_ = os.Remove(temporary)
			return "", err
		}
		defer file.Close()
	}
	q.at("put: created")
	err = q.fill(ctx, file, text, message, append(first, blanks(roomFor(len(envelope.To))+len(first))...)) // the Release needs its room too
	if !renamesOpenFiles || err != nil {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}
	if err == nil {
		q.at("put: synced")
		err = os.Rename(temporary, q.path(id))
	}
	if err != nil {
		_ = os.Remove(temporary)
		return "", err
	}
	q.at("put: renamed")
	if err := q.syncEntries(); err != nil {
		// Not known to be on disk is not accepted, and then it must not be sent.
		return "", errors.Join(err, q.takeBack(id, file))
	}
	q.at("put: folder synced")
	return id, nil
}

func (q *Queue) fill(ctx context.Context, file *os.File, head []byte, message io.Reader, journal []byte) error {
	w := bufio.NewWriterSize(file, 16<<10)
	// The true preamble comes last: a file without it is no entry.
	if _, err := w.Write(append(make([]byte, preambleLen), head...)); err != nil {
		return err
	}
	size, err := io.Copy(w, cancelReader{ctx, message})
	if err != nil {
		return err
	}
	if _, err := w.Write(journal); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	q.at("put: written")
	if _, err := file.WriteAt(preamble(head, size), 0); err != nil {
		return err
	}
	return file.Sync()
}

// takeBack removes an entry that was not accepted. One that cannot be removed is made to
// be none.
func (q *Queue) takeBack(id ID, file *os.File) error {
	_, err := q.fails("remove", 0)
	if err == nil {
		err = os.Remove(q.path(id))
	}
	if err == nil || !renamesOpenFiles {
		return err
	}
	_, spoilt := file.WriteAt(make([]byte, preambleLen), 0)
	return errors.Join(err, spoilt, file.Sync())
}

func (q *Queue) syncEntries() error {
	if _, err := q.fails("sync entries", 0); err != nil {
		return err
	}
	return syncFolder(q.entries)
}

type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

// Read stops when the context has ended.
func (c cancelReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// newID makes 16 characters that sort by time: 48 bits of milliseconds, 32 of chance.
func (q *Queue) newID() (ID, error) {
	var raw [10]byte
	if _, err := io.ReadFull(q.random, raw[6:]); err != nil {
		return "", err
	}
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(q.now().UnixMilli()))
	copy(raw[:6], stamp[2:])
	return ID(strings.ToLower(base32.HexEncoding.EncodeToString(raw[:]))), nil
}

// valid keeps names that are none of ours, "../x" among them, out of paths.
func (id ID) valid() bool {
	if len(id) != 16 {
		return false
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'v') {
			return false
		}
	}
	return true
}

func (q *Queue) path(id ID) string { return filepath.Join(q.entries, string(id)) }

// sweep removes what a killed Put left behind. A Put that is alive is younger.
func (q *Queue) sweep() error {
	folder, err := os.Open(q.entries)
	if err != nil {
		return err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	for _, name := range names {
		if !strings.HasPrefix(name, ".") || !ID(name[1:]).valid() {
			continue
		}
		path := filepath.Join(q.entries, name)
		if info, err := os.Lstat(path); err == nil && q.now().Sub(info.ModTime()) > time.Hour {
			_ = os.Remove(path)
		}
	}
	return err
}
