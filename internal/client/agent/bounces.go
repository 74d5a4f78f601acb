package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
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
func (b *Bounces) Bounce(ctx context.Context, to string, dsn []byte) error {
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := atomicfile.PrivateFolder(filepath.Join(b.Folder, name)); err != nil {
			return fmt.Errorf("store a delivery report: %w", err)
		}
	}
	// Unique by time, process and randomness, as maildir(5) wants. The write below syncs
	// file and folder; its temporary file begins with a dot, which readers pass over.
	name := fmt.Sprintf("%d.%d_%s.%s", b.Now().Unix(), os.Getpid(), rand.Text(), b.Host)
	if err := atomicfile.Write(filepath.Join(b.Folder, "new", name), dsn, 0o600); err != nil {
		return fmt.Errorf("store a delivery report: %w", err)
	}
	b.Notifier.Tell(ctx, Failed, to, "a message was not delivered; the report is in "+b.Folder)
	return nil
}
