// Package doctor looks at the live configuration of Postfix and Dovecot, at the sockets
// between them and letterlockd, at what DNS tells mail programs, and at web mail behind a
// gateway, for the traps that are known: each is one row of postfixTraps, dovecotTraps,
// dnsTraps or webMailTraps, with why it matters and the command that mends it.
//
// It reads what postconf and doveconf print, asks each socket as its mail server would
// (from inside the chroot's view, as the user of Postfix), asks DNS and web mail as programs
// and browsers do that nobody is signed in to, and changes nothing. What
// those programs print is text of others: it is bounded in size, depth and time.
// No library was found that reads either; doveconf's own parser is C, inside Dovecot.
package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Level says how a trap stands.
type Level string

// The levels. Skipped: it could not be looked at; What says why.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Wrong   Level = "wrong"
	Skipped Level = "skipped"
)

// A Finding is one trap, and where it was found.
type Finding struct {
	ID    string `json:"id"`
	Level Level  `json:"level"`
	Where string `json:"where,omitempty"` // a service of master.cf, a file, a node
	What  string `json:"what,omitempty"`
	Why   string `json:"why"`
	Mend  string `json:"mend,omitempty"` // a command, when one does it
	// Live: it was found by asking, not by reading.
	Live bool `json:"live"`
}

// Postfix says where Postfix stands and what it should be asking.
type Postfix struct {
	Dir                   string // configuration folder; empty: the one postconf knows
	SASL, Senders, Milter string // letterlockd's sockets: a path, or host:port
	Domain                string // an own domain, for a question to the sender map
	UID, GID              int    // of the user postfix; sockets are tried with its rights
	As                    bool   // whether UID and GID can be taken on: only root can
	SQL                   bool   // it should ask SQL, not letterlockd
	Perhaps               bool   // it need not be on this machine when Dovecot is
}

// Dovecot says where Dovecot stands and what it should be asking.
type Dovecot struct {
	Dir    string // folder of dovecot.conf; empty: the one doveconf knows
	Listen string // letterlockd's endpoints for Dovecot
	Nodes  []Node
	// Webmail are networks that sign many people in from one address.
	Webmail []string
	Perhaps bool   // it need not be on this machine when Postfix is
	SQL     bool   // it should ask SQL, not letterlockd
	Query   string // what it should ask SQL, as config dovecot prints it
}

// A Node takes orders of revocation by doveadm's HTTP API.
type Node struct {
	Name, URL string
	Key       secret.String
}

// Options say what is looked at; a nil part is left out.
type Options struct {
	Postfix *Postfix
	Dovecot *Dovecot
	DNS     *DNS
	WebMail []*WebMail
	// Sample finds the address of a person to ask tables about, "" when there is nobody. It
	// is called only where Postfix has tables of SQL.
	Sample func(context.Context) (string, error)
	// Run runs a program and returns what it printed; default Command.
	Run func(ctx context.Context, program string, args ...string) ([]byte, error)
	// Ask runs one as another user and says how it ended; default Ask.
	Ask func(ctx context.Context, as User, program string, args ...string) (Answer, error)
	// ReadFile reads a file that Dovecot's configuration names; default is bounded.
	ReadFile func(path string) ([]byte, error)
}

// patience bounds each program and each question to a socket: more than the ten seconds
// that Postfix itself waits for its authentication server.
const patience = 30 * time.Second

// Look looks at everything and returns a finding for each trap, in the order of the
// rows; one that was found at several places comes several times. An error says that the
// configuration could not be read at all.
func Look(ctx context.Context, o Options) ([]Finding, error) {
	if o.Run == nil {
		o.Run = Command
	}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Ask == nil {
		o.Ask = Ask
	}
	var postfix *postfixFacts
	var dovecot *dovecotFacts
	var noPostfix, noDovecot error
	_ = together(func() error {
		if o.Postfix != nil {
			postfix, noPostfix = readPostfix(ctx, o)
		}
		return nil
	}, func() error {
		if o.Dovecot != nil {
			dovecot, noDovecot = readDovecot(ctx, o)
		}
		return nil
	})
	there, err := oneOfTwo(o, noPostfix, noDovecot)
	if err != nil {
		return nil, err
	}
	if o.Sample != nil && postfix != nil && len(postfix.tables()) > 0 {
		postfix.sample, postfix.unsampled = o.Sample(ctx)
	}
	// One that hangs holds up the others no longer than its own patience.
	parts := make([][]Finding, 3+len(o.WebMail))
	all := []func() error{
		func() error { parts[0] = lookAt(ctx, postfix, postfixTraps()); return nil },
		func() error { parts[1] = lookAt(ctx, dovecot, dovecotTraps()); return nil },
		func() error { parts[2] = lookAt(ctx, o.DNS, dnsTraps()); return nil },
	}
	for i, one := range o.WebMail {
		all = append(all, func() error { parts[3+i] = lookAt(ctx, one, webMailTraps()); return nil })
	}
	_ = together(all...)
	return slices.Concat(there, slices.Concat(parts...)), nil
}

// oneOfTwo forgives that of two programs that may be on other machines one is not here, and
// says so in the rows; an error is what is wrong otherwise.
func oneOfTwo(o Options, noPostfix, noDovecot error) (rows []Finding, err error) {
	if o.Postfix != nil && o.Postfix.Perhaps {
		rows = append(rows, installed("postfix", "postconf", noPostfix))
	}
	if o.Dovecot != nil && o.Dovecot.Perhaps {
		rows = append(rows, installed("dovecot", "doveconf", noDovecot))
	}
	switch {
	case errors.Is(noPostfix, exec.ErrNotFound) && o.Postfix.Perhaps && o.Dovecot != nil && noDovecot == nil:
		return rows, nil
	case errors.Is(noDovecot, exec.ErrNotFound) && o.Dovecot.Perhaps && o.Postfix != nil && noPostfix == nil:
		return rows, nil
	}
	return rows, cmp.Or(noPostfix, noDovecot)
}

func installed(name, program string, missing error) Finding {
	f := Finding{ID: name + "-installed", Level: OK, Why: "what is on another machine has to be looked at there"}
	if missing != nil {
		f.Level, f.What = Skipped, "there is no "+program+" in PATH"
	}
	return f
}

// lookAt looks at all rows at once: those that ask somebody wait, the others only read.
func lookAt[F interface {
	comparable
	place() *strings.Replacer
}](ctx context.Context, facts F, rows []trap[F]) []Finding {
	var none F
	if facts == none {
		return nil
	}
	found := make([][]Finding, len(rows))
	var all []func() error
	for i, row := range rows {
		all = append(all, func() error { found[i] = row.findings(row.look(ctx, facts), facts.place()); return nil })
	}
	_ = together(all...)
	return slices.Concat(found...)
}

// together runs all of them at the same time and returns the first error in their order.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, one := range all {
		running.Go(func() { errs[i] = one() })
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A trap is one row. In mend, @where@ is the place of the sighting, @c@ the option that
// names a configuration folder other than the usual, and @conf@ the main file.
type trap[F any] struct {
	id    string
	level Level
	why   string
	mend  string
	live  bool
	look  func(context.Context, F) []sighting
}

// A sighting is one place where the trap lies; level and mend take the place of the
// row's when they are set.
type sighting struct {
	where, what string
	level       Level
	mend        string
}

func (t trap[F]) findings(seen []sighting, place *strings.Replacer) []Finding {
	if len(seen) == 0 {
		return []Finding{{ID: t.id, Level: OK, Why: t.why, Live: t.live}}
	}
	all := make([]Finding, 0, len(seen))
	for _, s := range seen {
		f := Finding{ID: t.id, Level: t.level, Where: s.where, What: s.what, Why: t.why, Mend: t.mend, Live: t.live}
		if s.level != "" {
			f.Level = s.level
		}
		if s.mend != "" {
			f.Mend = s.mend
		}
		if f.Level == Skipped {
			f.Mend = ""
		}
		f.Mend = place.Replace(strings.ReplaceAll(f.Mend, "@where@", s.where))
		all = append(all, f)
	}
	return all
}

// maxOutput bounds what postconf or doveconf may print, and a file that they name.
const maxOutput = 4 << 20

// Command runs a program with a limit on its time and its output.
func Command(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out := &bounded{left: maxOutput}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w", program, err)
	}
	return out.Bytes(), nil
}

// A bounded buffer refuses what goes beyond its limit.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(data []byte) (int, error) {
	if b.left -= len(data); b.left < 0 {
		return 0, errTooLong
	}
	return b.Buffer.Write(data)
}

var errTooLong = errors.New("too long to be a configuration")

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read what the configuration names: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxOutput+1))
	if err != nil {
		return nil, fmt.Errorf("read what the configuration names: %w", err)
	}
	if len(data) > maxOutput {
		return nil, errTooLong
	}
	return data, nil
}
