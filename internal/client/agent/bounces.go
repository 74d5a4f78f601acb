package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// Bounces keeps delivery reports in a Maildir on this machine: a right that can only
// send cannot put them into the mailbox, and mailing them out would need the very way
// that may be broken.
type Bounces struct {
	Folder   string // of the Maildir
	Host     string
	Notifier *Notifier
	Now      func() time.Time
}

// Bounce stores a report durably and tells the person.
func (b *Bounces) Bounce(ctx context.Context, n queue.Notice) error {
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := atomicfile.PrivateFolder(filepath.Join(b.Folder, name)); err != nil {
			return fmt.Errorf("store a delivery report: %w", err)
		}
	}
	// Unique by time, process and randomness, as maildir(5) wants. The write below syncs
	// file and folder; its temporary file begins with a dot, which readers pass over.
	name := fmt.Sprintf("%d.%d_%s.%s", b.Now().Unix(), os.Getpid(), rand.Text(), b.Host)
	if err := atomicfile.Write(filepath.Join(b.Folder, "new", name), n.DSN, 0o600); err != nil {
		return fmt.Errorf("store a delivery report: %w", err)
	}
	b.Tell(ctx, n, b.Folder)
	return nil
}

// Tell tells the person of a report, and where it is.
func (b *Bounces) Tell(ctx context.Context, n queue.Notice, place string) {
	event, what := Failed, "a message was not delivered"
	switch n.Kind {
	case queue.Delayed:
		event, what = Late, "a message is late and still being tried"
	case queue.Relayed:
		event, what = Relayed, "a message was handed to a server that sends no reports"
	}
	b.Notifier.Tell(ctx, event, n.To, what+"; the report is in "+place)
}
