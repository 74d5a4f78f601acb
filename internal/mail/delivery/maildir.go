package delivery

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// maildir delivers into folders: tmp, sync, rename into new, sync of the folder. The
// rename is the delivery, and it is said only when it would survive a power cut.
func (c *Carrier) maildir(r Route, j *job) error {
	open := j.open()
	for i, to := range open {
		a := c.store(r, j, to)
		to.answer = &a
		if i < len(open)-1 {
			j.journal.record(open[i : i+1])
		}
	}
	return nil
}

func (c *Carrier) store(r Route, j *job, to *addressee) answer {
	folder, err := r.Folder(to.Address)
	switch {
	case errors.Is(err, ErrNoMailbox):
		return answer{verdict: queue.Refused, status: "5.1.1", reply: err.Error(), server: "maildir"}
	case err != nil:
		return answer{verdict: queue.Deferred, status: "4.3.0", reply: err.Error(), server: "maildir"}
	}
	if err := c.writeMaildir(folder, j, to); err != nil {
		return answer{verdict: queue.Deferred, status: storeStatus(err), reply: "write to Maildir: " + err.Error(), server: folder}
	}
	return answer{verdict: queue.Delivered, status: "2.0.0", reply: "stored", server: folder}
}

// storeStatus: RFC 3463 4.3.1, mail system full; 4.2.2 would be the mailbox.
func storeStatus(err error) string {
	if isFull(err) {
		return "4.3.1"
	}
	return "4.3.0"
}

func (c *Carrier) writeMaildir(folder string, j *job, to *addressee) error {
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			return err
		}
	}
	name := c.maildirName()
	temporary := filepath.Join(folder, "tmp", name)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(writeStored(file, j, to), file.Sync(), file.Close())
	if err == nil {
		err = j.journal.commit([]*addressee{to})
	}
	if err == nil {
		err = os.Rename(temporary, filepath.Join(folder, "new", name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return syncFolder(filepath.Join(folder, "new"))
}

// maildirName is unique by time, process and chance: "delivery identifiers" of the
// Maildir description. The host part must have neither "/" nor ":".
func (c *Carrier) maildirName() string {
	now := c.options.Now()
	host := strings.NewReplacer("/", `\057`, ":", `\072`).Replace(c.options.Hello)
	return fmt.Sprintf("%d.M%06dP%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), rand.Text(), host)
}

// writeStored writes the message as Maildirs have it: LF line ends, and before it what
// final delivery adds (RFC 5321 section 4.4, Return-Path).
func writeStored(file *os.File, j *job, to *addressee) error {
	out := bufio.NewWriterSize(file, 32<<10)
	fmt.Fprintf(out, "Return-Path: <%s>\nDelivered-To: %s\n", j.envelope.From, to.Address)
	local := &unixLines{w: out}
	wire := newWireWriter(local, false)
	if err := j.message.copyTo(wire); err != nil {
		return err
	}
	if err := wire.finish(); err != nil {
		return err
	}
	return out.Flush()
}

// unixLines takes the CR out of each CRLF; wireWriter leaves no other CR.
type unixLines struct{ w io.Writer }

// Write implements io.Writer.
func (u *unixLines) Write(p []byte) (int, error) {
	if string(p) == "\r\n" {
		p = p[1:]
		n, err := u.w.Write(p)
		return n + 1, err
	}
	return u.w.Write(p)
}
