package intake

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// How long a hand-over is remembered whose client never said "done", and how many of
// one user. A client that waits longer has given up and told its user; who has more
// forgets to say done on purpose, and forgets his own.
const (
	remember      = 60 * 24 * time.Hour
	rememberedMax = 10_000
)

// A key names a hand-over: ids are chosen by clients, so each uid has its own.
type key struct {
	uid int
	id  string
}

func (k key) String() string { return strconv.Itoa(k.uid) + "." + k.id }

func parseKey(text string) (key, bool) {
	uid, id, _ := strings.Cut(text, ".")
	n, err := strconv.Atoi(uid)
	return key{n, id}, err == nil && n >= 0 && validID(id)
}

// A ledger remembers hand-overs durably: one symbolic link each, "UID.ID" that points
// to the name of the entry. A link is made whole or not at all, costs one sync, and
// takes no block of the disk.
type ledger struct {
	folder string
	disk   func(op string) error // tests make the disk fail here; nil otherwise
	mu     sync.Mutex
	known  map[int]map[string]remembered
}

type remembered struct {
	entry queue.ID
	at    time.Time
}

func openLedger(folder string, now time.Time) (*ledger, error) {
	if err := atomicfile.PrivateFolder(folder); err != nil {
		return nil, err
	}
	l := &ledger{folder: folder, known: map[int]map[string]remembered{}}
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		k, ok := parseKey(file.Name())
		info, err := file.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !ok || info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		entry, err := os.Readlink(filepath.Join(folder, file.Name()))
		if err != nil {
			return nil, err
		}
		l.note(k, remembered{queue.ID(entry), info.ModTime()})
	}
	l.expire(now)
	return l, nil
}

func (l *ledger) note(k key, r remembered) {
	if l.known[k.uid] == nil {
		l.known[k.uid] = map[string]remembered{}
	}
	l.known[k.uid][k.id] = r
}

// find returns the entry of a hand-over that was taken before.
func (l *ledger) find(k key) (queue.ID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.known[k.uid][k.id]
	return r.entry, ok
}

// errUnsure: whether the hand-over is remembered is for the disk to say, after the next
// start or when it works again.
var errUnsure = errors.New("the disk does not say whether it kept it")

// add is durable when it returns nil. After an error the hand-over is not remembered,
// and is certain not to be on the disk either, unless the error is errUnsure. It may be
// asked to add again what it was unsure of.
func (l *ledger) add(k key, entry queue.ID, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.known[k.uid][k.id]; known {
		return errors.New("remember the hand-over: it is known already")
	}
	l.makeRoom(k.uid)
	path := filepath.Join(l.folder, k.String())
	err := l.symlink(string(entry), path)
	if err == nil {
		err = l.sync()
	}
	if err == nil {
		l.note(k, remembered{entry, now})
		return nil
	}
	err = fmt.Errorf("remember the hand-over: %w", err)
	// It must not come back after a power cut or a restart without its entry: then who
	// asks again would hear that his message was taken, and nobody had it. A call that
	// failed may have done its work all the same, and so may one that follows it.
	undone := l.remove(path)
	if undone == nil {
		undone = l.sync()
	}
	if undone != nil && !errors.Is(undone, fs.ErrNotExist) { // no folder, no link
		return errors.Join(err, errUnsure, undone)
	}
	return err
}

// symlink makes the link anew. One that is there is of an earlier try: a sync that has
// failed once may say of the same link that all is well, and it is not on the disk.
func (l *ledger) symlink(entry, path string) error {
	if err := l.remove(path); err != nil {
		return err
	}
	if err := l.fails("symlink"); err != nil {
		return err
	}
	if err := os.Symlink(entry, path); err != nil {
		return err
	}
	return l.fails("symlinked")
}

func (l *ledger) remove(path string) error {
	if err := l.fails("remove"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l *ledger) fails(op string) error {
	if l.disk == nil {
		return nil
	}
	return l.disk(op)
}

func (l *ledger) sync() error {
	if err := l.fails("sync"); err != nil {
		return err
	}
	folder, err := os.Open(l.folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// forget need not be durable: what comes back after a power cut is forgotten later.
func (l *ledger) forget(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(k)
}

func (l *ledger) drop(k key) {
	if _, ok := l.known[k.uid][k.id]; !ok {
		return
	}
	_ = os.Remove(filepath.Join(l.folder, k.String()))
	delete(l.known[k.uid], k.id)
	if len(l.known[k.uid]) == 0 {
		delete(l.known, k.uid)
	}
}

// makeRoom drops the older half of a user's that has too many.
func (l *ledger) makeRoom(uid int) {
	mine := l.known[uid]
	if len(mine) < rememberedMax {
		return
	}
	ids := make([]string, 0, len(mine))
	for id := range mine {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(mine[a].at.UnixNano(), mine[b].at.UnixNano()) })
	for _, id := range ids[:len(ids)/2] {
		l.drop(key{uid, id})
	}
}

func (l *ledger) expire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, mine := range l.known {
		for id, r := range mine {
			if now.Sub(r.at) > remember {
				l.drop(key{uid, id})
			}
		}
	}
}
