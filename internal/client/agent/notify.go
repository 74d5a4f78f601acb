package agent

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// An Event is what a person is told about.
type Event string

// The events.
const (
	SignIn  Event = "sign-in" // an account needs a person
	Failed  Event = "failed"  // a message could not be delivered
	Late    Event = "delayed" // a message is not delivered yet; it goes on being tried
	Relayed Event = "relayed" // the last that can be known of a message whose sender asked for a report
	Asked   Event = "unknown" // a message may have arrived: somebody must look
	Locked  Event = "locked"  // the key of an account's grant is locked: nothing is renewed or sent
)

// hookTime bounds a hook: a notification that hangs must not hold up the mail.
const hookTime = 30 * time.Second

// repeat is how often the same need is told again.
const repeat = 24 * time.Hour

// A Notifier tells a person by running a command: its own words, then event, account
// and one line of text. No secret is ever in them: the text comes from typed errors
// and from servers' replies. A nil Notifier tells nobody.
type Notifier struct {
	Command []string
	Now     func() time.Time
	Log     *slog.Logger
	Line    func(string) string // makes text from outside one printable line

	mu   sync.Mutex
	told map[need]time.Time
}

// A need is what a person is reminded of.
type need struct {
	event   Event
	account string
}

// Tell runs the hook. SignIn and Locked of one account are told once a day at most,
// until Settle.
func (n *Notifier) Tell(ctx context.Context, event Event, account, text string) {
	if n == nil || len(n.Command) == 0 || (event == SignIn || event == Locked) && !n.due(event, account) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	words := append(append([]string{}, n.Command[1:]...), string(event), n.Line(account), n.Line(text))
	cmd := exec.CommandContext(ctx, n.Command[0], words...)
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && n.Log != nil {
		n.Log.Warn("run the notification command", "error", err)
	}
}

func (n *Notifier) due(event Event, account string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, what := n.Now(), need{event, account}
	if last, ok := n.told[what]; ok && now.Sub(last) < repeat {
		return false
	}
	if n.told == nil {
		n.told = map[need]time.Time{}
	}
	n.told[what] = now
	return true
}

// Settle says that an account needs nobody any more.
func (n *Notifier) Settle(account string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.told, need{SignIn, account})
	delete(n.told, need{Locked, account})
}
