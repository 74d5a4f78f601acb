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

// add is durable when it returns nil. After an error the hand-over counts as not
// taken.
func (l *ledger) add(k key, entry queue.ID, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.makeRoom(k.uid)
	path := filepath.Join(l.folder, k.String())
	if err := os.Symlink(string(entry), path); err != nil {
		return fmt.Errorf("remember the hand-over: %w", err)
	}
	if err := l.sync(); err != nil {
		// It must not come back after a power cut without its entry.
		return errors.Join(fmt.Errorf("remember the hand-over: %w", err), os.Remove(path), l.sync())
	}
	l.note(k, remembered{entry, now})
	return nil
}

func (l *ledger) sync() error {
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
