package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// DovecotOptions describe a mail server that checks tokens by introspection.
type DovecotOptions struct {
	// CA signs the server's certificate. Required.
	CA *CA
	// Introspection is the address of the endpoint that judges tokens (RFC
	// 7662); it is asked as DovecotClient with ClientSecret unless ClientID is
	// set. Required. "-": no tokens at all; only passdbs in Extra are asked.
	// Dovecot 2.3.19 needs that beside a passdb of PostgreSQL: with both, its auth
	// process ends in a failed assertion (http_client_context_close) at each start.
	Introspection string
	ClientID      string
	ClientSecret  string
	// NameClaim of the introspection answer must equal the login name.
	// Default: email.
	NameClaim string
	// Scope wanted of a token. Default: mail. "-" wants none.
	Scope string
	// OpenIDConfiguration, when set, is told to clients in the error JSON.
	OpenIDConfiguration string
	// Relay is where submission hands messages on, a plain SMTP port such as
	// Sink.Addr. Empty: submission is there but takes nothing.
	Relay string
	// Mechanisms offered. Default: xoauth2 oauthbearer.
	Mechanisms string
	// Sieve: ManageSieve is there as well, with STARTTLS, and Pigeonhole behind it.
	Sieve bool
	// Userdb takes the place of the one that knows everybody; @dir@, @uid@ and @gid@ in it
	// are the server's folder and the owner of mail.
	Userdb string
	// Extra is appended to the configuration file.
	Extra string
}

// Dovecot is a running Dovecot. Every name logs in to a mailbox of its own that
// is made at the first login or delivery.
type Dovecot struct {
	Host       string
	IMAP       int // STARTTLS
	IMAPS      int
	POP3       int // STLS
	POP3S      int
	Submission int // STARTTLS
	Subs       int // submission with implicit TLS
	Sieve      int // ManageSieve, STARTTLS; 0: there is none
	AuthPort   int // Dovecot's auth client protocol, for Postfix
	Version    string

	Dir     string // of configuration and state
	options DovecotOptions
	mailUID int
	mailGID int
	process *Process
}

// StartDovecot starts Dovecot; about 0.3 s. As root, mail belongs to the Debian
// user mail; otherwise everything runs as the user who called.
func StartDovecot(ctx context.Context, o DovecotOptions) (*Dovecot, error) {
	path, err := find("dovecot", "dovecot-imapd dovecot-pop3d dovecot-submissiond")
	if err != nil {
		return nil, err
	}
	programs := map[string]string{"imap": "dovecot-imapd", "pop3": "dovecot-pop3d", "submission": "dovecot-submissiond"}
	if o.Sieve {
		programs["managesieve"] = "dovecot-managesieved"
	}
	for program, pkg := range programs {
		if _, err := find(program, pkg); err != nil {
			return nil, err
		}
	}
	if o.CA == nil || o.Introspection == "" {
		return nil, errors.New("start dovecot: it needs a CA and an introspection address")
	}
	o.setDefaults()
	d, err := startRetry(func() (*Dovecot, error) { return startDovecot(ctx, path, o) })
	if err != nil {
		return nil, fmt.Errorf("start dovecot: %w", err)
	}
	return d, nil
}

func (o *DovecotOptions) setDefaults() {
	if o.ClientID == "" {
		o.ClientID, o.ClientSecret = DovecotClient, ClientSecret
	}
	if o.NameClaim == "" {
		o.NameClaim = "email"
	}
	if o.Scope == "" {
		o.Scope = "mail"
	}
	if o.Mechanisms == "" {
		o.Mechanisms = "xoauth2 oauthbearer"
	}
}

func startDovecot(ctx context.Context, path string, o DovecotOptions) (*Dovecot, error) {
	d := &Dovecot{Host: "127.0.0.1", options: o}
	ports, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	d.IMAP, d.IMAPS, d.POP3, d.POP3S = ports[0], ports[1], ports[2], ports[3]
	d.Submission, d.Subs, d.AuthPort = ports[4], ports[5], ports[6]
	if o.Sieve {
		d.Sieve = ports[7]
	}
	if d.Dir, err = newFolder("dovecot"); err != nil {
		return nil, err
	}
	if err := d.writeConfig(); err != nil {
		os.RemoveAll(d.Dir)
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		os.RemoveAll(d.Dir)
		return nil, fmt.Errorf("ask for the version: %w", err)
	}
	d.Version, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	// -F: stay in the foreground, so that the process we know is the master.
	d.process, err = StartProcess(ProcessOptions{
		Name: "dovecot", Path: path, Args: []string{"-F", "-c", d.file("dovecot.conf")},
		Env: append(os.Environ(), "LC_ALL=C"),
	})
	if err != nil {
		os.RemoveAll(d.Dir)
		return nil, err
	}
	// The listening sockets are bound before this line is written.
	line, err := d.process.WaitLog(ctx, func(s string) bool {
		return strings.Contains(s, "starting up for") || bindConflict(s)
	})
	switch {
	case err == nil && !bindConflict(line):
		return d, nil
	case bindConflict(line) || (err != nil && bindConflict(err.Error())):
		err = errPortTaken
	}
	d.Stop()
	return nil, err
}

// Stop ends the server and removes its folder with all mail.
func (d *Dovecot) Stop() {
	if d.process != nil {
		d.process.Stop()
	}
	os.RemoveAll(d.Dir)
}

// Log returns what the server logged.
func (d *Dovecot) Log() []string { return d.process.Log() }

// WaitLog waits for a line of the server's log, past ones included.
func (d *Dovecot) WaitLog(ctx context.Context, match func(string) bool) (string, error) {
	return d.process.WaitLog(ctx, match)
}

// Maildir is the folder of a person's INBOX; it exists after the first Put,
// login or delivery.
func (d *Dovecot) Maildir(name string) string {
	return filepath.Join(d.MailRoot(), name, "Maildir")
}

// MailRoot holds a folder per person; a delivery agent writes below it as
// MailOwner.
func (d *Dovecot) MailRoot() string { return d.file("mail") }

// MailOwner is the user and group all mail belongs to.
func (d *Dovecot) MailOwner() (uid, gid int) { return d.mailUID, d.mailGID }

// Put places a message (with LF line ends, as files have them) into a person's
// INBOX without any protocol.
func (d *Dovecot) Put(name string, message []byte) error {
	dir := d.Maildir(name)
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := d.mkdirOwned(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Join(dir, "tmp"), strconv.FormatInt(time.Now().UnixNano(), 10)+".lab*")
	if err != nil {
		return err
	}
	_, err = f.Write(message)
	if err := errors.Join(err, f.Close(), d.own(f.Name())); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, "new", filepath.Base(f.Name())))
}

// Inbox returns the messages in a person's INBOX, read from disk.
func (d *Dovecot) Inbox(name string) ([][]byte, error) {
	for {
		all, err := d.inbox(name)
		// Whoever reads mail moves it from new to cur, or changes its flags, which are in
		// the name, while we look.
		if !errors.Is(err, os.ErrNotExist) {
			return all, err
		}
	}
}

// inbox looks once; os.ErrNotExist is a message that went elsewhere meanwhile.
func (d *Dovecot) inbox(name string) ([][]byte, error) {
	var all [][]byte
	seen := map[string]bool{} // by what stays of a name when the message moves
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(d.Maildir(name), sub))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			unique, _, _ := strings.Cut(e.Name(), ":")
			if seen[unique] {
				continue
			}
			seen[unique] = true
			data, err := os.ReadFile(filepath.Join(d.Maildir(name), sub, e.Name()))
			if err != nil {
				return nil, err
			}
			all = append(all, data)
		}
	}
	return all, nil
}

// mkdirOwned makes a folder and its parents below MailRoot for the mail user.
func (d *Dovecot) mkdirOwned(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := d.mkdirOwned(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return d.own(dir)
}

func (d *Dovecot) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, d.mailUID, d.mailGID)
}

// KickAll ends every session of a person, as revoking a right must.
func (d *Dovecot) KickAll(ctx context.Context, name string) error {
	path, err := find("doveadm", "dovecot-core")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, "-c", d.file("dovecot.conf"), "kick", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kick %s: %w: %s", name, err, out)
	}
	return nil
}

func (d *Dovecot) file(name string) string { return filepath.Join(d.Dir, name) }

// mailUser says whom mail belongs to: Dovecot refuses to open mail as root.
func mailUser() (name, group string, uid, gid int, err error) {
	var u *user.User
	if os.Geteuid() == 0 {
		u, err = user.Lookup("mail")
	} else {
		u, err = user.Current()
	}
	if err != nil {
		return "", "", 0, 0, fmt.Errorf("look up mail user: %w", err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return "", "", 0, 0, err
	}
	group = u.Gid
	if g, err := user.LookupGroupId(u.Gid); err == nil {
		group = g.Name
	}
	return u.Username, group, uid, gid, nil
}

// Pid is the id of the process and of its group.
func (d *Dovecot) Pid() int { return d.process.Pid() }
