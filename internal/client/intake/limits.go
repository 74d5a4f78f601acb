package intake

import (
	"fmt"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// Limits bound what one user may do to all others' queue. Zero fields mean the
// defaults.
type Limits struct {
	Hourly     int   // messages an hour
	Recipients int   // of one message, after aliases
	Entries    int   // in the queue at a time
	Bytes      int64 // of them
	Size       int64 // of one message
}

// DefaultLimits are generous: they stop a loop, not a mailing.
func DefaultLimits() Limits {
	return Limits{Hourly: 1000, Recipients: 1000, Entries: 5000, Bytes: 1 << 30, Size: 100 << 20}
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	if l.Hourly == 0 {
		l.Hourly = d.Hourly
	}
	if l.Recipients == 0 {
		l.Recipients = d.Recipients
	}
	if l.Entries == 0 {
		l.Entries = d.Entries
	}
	if l.Bytes == 0 {
		l.Bytes = d.Bytes
	}
	if l.Size == 0 {
		l.Size = d.Size
	}
	return l
}

// How many connections are served and may wait, of one user and in all. One user can
// fill no more than his share, whatever he does with it.
const (
	servedPerUser  = 4
	waitingPerUser = 64
	servedInAll    = 32
	openInAll      = 1024
	waitForTurn    = 20 * time.Second
)

// A user is what the server knows of one uid.
type user struct {
	turn chan struct{} // a token for each connection that is served
	open int           // connections, served or waiting; guarded by Server.mu

	mu       sync.Mutex
	hour     time.Time // begin of the hour that count counts
	count    int       // messages in it
	before   int       // messages in the hour before
	entries  map[queue.ID]int64
	bytes    int64
	counting map[string]bool // hand-overs that are being taken right now
	looked   time.Time       // when entries was last compared with the queue
}

func newUser() *user {
	return &user{turn: make(chan struct{}, servedPerUser), entries: map[queue.ID]int64{}, counting: map[string]bool{}}
}

func limitAnswer(code cli.Code, hint, format string, args ...any) *limitError {
	return &limitError{Answer{Code: code, What: fmt.Sprintf(format, args...), Hint: hint}}
}

// A limitError is a refusal whose text is meant for the client.
type limitError struct{ answer Answer }

func (e *limitError) Error() string { return e.answer.What }

// permit says whether one more message is within the limits. It counts nothing yet.
func (u *user) permit(l Limits, recipients int, size int64, now time.Time, waits func(queue.ID) bool) error {
	if recipients > l.Recipients {
		return limitAnswer(cli.NoPerm, "send it in parts", "%d recipients are more than the %d that this system takes at a time", recipients, l.Recipients)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// What has left the queue is only found by looking, so looking is left for when it
	// matters, and done once a second at most.
	if (len(u.entries) >= l.Entries || u.bytes+size > l.Bytes) && now.Sub(u.looked) >= time.Second {
		u.looked = now
		for id, bytes := range u.entries {
			if !waits(id) {
				delete(u.entries, id)
				u.bytes -= bytes
			}
		}
	}
	const later = "it waits in your own queue until there is room: letterlock queue list"
	switch {
	case len(u.entries) >= l.Entries:
		return limitAnswer(cli.TempFail, later, "%d messages of yours wait in the system's queue, which is the limit", len(u.entries))
	case u.bytes+size > l.Bytes:
		return limitAnswer(cli.TempFail, later, "your messages in the system's queue have %d MiB, which is the limit", l.Bytes>>20)
	case u.rate(now) >= l.Hourly:
		return limitAnswer(cli.TempFail, later, "you have sent %d messages within the hour, which is the limit", l.Hourly)
	}
	return nil
}

// rate is the number of messages in the last sixty minutes, taking those of the hour
// before as spread evenly over it.
func (u *user) rate(now time.Time) int {
	passed := now.Sub(u.hour)
	switch {
	case passed >= 2*time.Hour || passed < 0:
		u.hour, u.count, u.before = now, 0, 0
	case passed >= time.Hour:
		u.hour, u.before, u.count = u.hour.Add(time.Hour), u.count, 0
	}
	share := float64(time.Hour-now.Sub(u.hour)) / float64(time.Hour)
	return u.count + int(float64(u.before)*share)
}

// took counts a message that is in the queue. At start those of earlier runs are
// counted too, without a time.
func (u *user) took(id queue.ID, size int64, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entries[id] = size
	u.bytes += size
	if !now.IsZero() {
		u.rate(now)
		u.count++
	}
}

// begin claims a hand-over: the same one may come on two connections at a time.
func (u *user) begin(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counting[id] {
		return false
	}
	u.counting[id] = true
	return true
}

func (u *user) end(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.counting, id)
}

// idle says whether nothing of the user needs to be known any more.
func (u *user) idle(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.entries) == 0 && len(u.counting) == 0 && now.Sub(u.hour) > 2*time.Hour
}
