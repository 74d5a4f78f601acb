//go:build lab && linux

package callers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// patience bounds whatever a test waits for; the machine may be busy.
const patience = 4 * time.Minute

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A machine is a room that only sends, and the provider it sends through.
type machine struct {
	t       testing.TB
	ca      *lab.CA
	op      *lab.OP
	dovecot *lab.Dovecot // answers for Postfix, and holds the mailboxes
	postfix *lab.Postfix
	room    *lab.Room
	seen    map[string]bool // files of the mailboxes that were looked at
}

// Mailboxes there are. alice's and bob's accounts send, for root and for joe.
func mailboxes() []string {
	var all []string
	for _, name := range []string{"alice", "bob", "ops", "carol", "dave", "blind"} {
		all = append(all, name+"@try.test")
	}
	return all
}

// newMachine starts all of it, with sendmail and mail in place by make.
func newMachine(t testing.TB) *machine {
	m := &machine{t: t, ca: lab.RunCA(t), seen: map[string]bool{}}
	// Before there is a room, and outside: it has no Go caches.
	if out, err := exec.Command("make", "-C", "../../..", "build").CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	m.op = lab.RunOP(t, lab.OPOptions{CA: m.ca, SendScope: true, RedirectURIs: []string{"http://127.0.0.1", "http://127.0.0.1/"}})
	m.dovecot = lab.RunDovecot(t, m.mailOptions(""))
	m.postfix = lab.RunPostfix(t, lab.PostfixOptions{
		CA: m.ca, Dovecot: m.dovecot, Mailboxes: mailboxes(),
		// As providers have it: nobody sends as somebody else.
		Main: "smtpd_sender_login_maps = inline:{{alice@try.test=alice@try.test} {bob@try.test=bob@try.test}}\n" +
			"smtpd_sender_restrictions = reject_sender_login_mismatch\n" +
			// It would take out a Bcc that we forgot.
			"message_drop_headers = return-path\n",
	})
	m.room = lab.RunRoom(t, lab.RoomOptions{Host: "box.try.test", Unpacked: []string{"bsd-mailx", "mdadm"}})
	m.sh("root", "groupadd joe && useradd -g joe -m -s /bin/sh -c 'Joe Übel,,,' joe && mkdir /etc/letterlock")
	authority, err := os.ReadFile(m.ca.File)
	if err != nil {
		t.Fatal(err)
	}
	m.write("/etc/letterlock/ca.pem", string(authority), 0o644)
	disk, err := os.ReadFile("testdata/disk.c")
	if err != nil {
		t.Fatal(err)
	}
	m.write("/root/disk.c", string(disk), 0o644)
	m.write("/etc/aliases", "postmaster: root\nwebmaster: carol@try.test\nteam: carol@try.test, dave@try.test\n", 0o644)
	// sudo asks for a password before it says no, and for a terminal to ask at.
	m.write("/etc/sudoers.d/lab", "Defaults:joe !authenticate\n", 0o440)
	m.install()
	m.signIn("root", "/root", lab.Alice())
	m.signIn("joe", "/home/joe", lab.Bob())
	return m
}

// mailOptions is a Dovecot at which the right to send is enough; relay is where its
// submission server hands mail on.
func (m *machine) mailOptions(relay string) lab.DovecotOptions {
	return lab.DovecotOptions{CA: m.ca, Introspection: m.op.IntrospectionURL(), Scope: "smtp", Relay: relay}
}

const listNames = "ls -l /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mail /usr/bin/mailx /usr/bin/mailq /usr/bin/newaliases"

// install is what an administrator does: make install, and what make install-sendmail
// then asks for, because Postfix's and bsd-mailx's files are there.
func (m *machine) install() {
	m.t.Helper()
	make := m.make()
	m.sh("root", make+"install")
	m.sh("root", "update-alternatives --quiet --install /usr/bin/mailx mailx /usr/bin/bsd-mailx 50 --slave /usr/bin/mail mail /usr/bin/bsd-mailx")
	before := m.sh("root", listNames)
	said := m.sh("root", make+"install-sendmail 2>&1 && echo replaced; true")
	if after := m.sh("root", listNames); after != before || strings.Contains(said, "replaced") {
		m.t.Fatalf("another package's files were replaced:\n%s%s", said, after)
	}
	advised := 0
	for line := range strings.Lines(said) {
		if command, ok := strings.CutPrefix(line, "names: hint: "); ok {
			m.sh("root", command)
			advised++
		}
	}
	if advised != 6 {
		m.t.Fatalf("six names are taken, and the advice is\n%s", said)
	}
	m.sh("root", make+"install-sendmail; readlink -f /usr/bin/mail /usr/bin/mailx /usr/sbin/sendmail /usr/lib/sendmail | grep -c '^/usr/local/bin/letterlock$' | grep -x 4")
}

// make is the command in the room, with what was built outside.
func (m *machine) make() string { return "make -s -C /src -o build " }

// The environment of a login; daemons have less.
func environment(user string) []string {
	home := "/root"
	if user != "root" {
		home = "/home/" + user
	}
	return []string{"HOME=" + home, "USER=" + user, "LOGNAME=" + user, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG=C.UTF-8", "SHELL=/bin/sh"}
}

// command prepares a shell script in the room, in the user's home.
func (m *machine) command(ctx context.Context, user, script string) *exec.Cmd {
	script = "cd ~\n" + script
	if user == "root" {
		return m.room.Command(ctx, environment(user), "bash", "-ec", script)
	}
	return m.room.Command(ctx, environment(user), "setpriv", "--reuid", user, "--regid", user, "--init-groups", "bash", "-ec", script)
}

// sh runs a script that has to succeed, and returns what it printed.
func (m *machine) sh(user, script string) string {
	m.t.Helper()
	var out, errs bytes.Buffer
	cmd := m.command(within(m.t), user, script)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		m.t.Fatalf("%s: %v\n%s%s", script, err, out.String(), errs.String())
	}
	return out.String()
}

func (m *machine) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	path = m.room.Path(path)
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		m.t.Fatal(err)
	}
}

// signIn makes the typical configuration: one account that can only send, and mail for
// local people to ops.
func (m *machine) signIn(user, home string, who lab.Person) {
	m.t.Helper()
	ctx := within(m.t)
	cmd := m.command(ctx, user, fmt.Sprintf("letterlock login %s --account machine --send-only --issuer %s --client-id %s --flow paste --key file "+
		"--ca-file /etc/letterlock/ca.pem --smtp localhost:%d --smtp-security tls", who.Email, m.op.Issuer, lab.PublicClient, m.postfix.Subs))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	lines, said := bufio.NewReader(stderr), ""
	for {
		line, err := lines.ReadString('\n')
		said += line
		if strings.HasPrefix(line, m.op.AuthURL()) {
			back, err := m.op.SignIn(ctx, strings.TrimSpace(line), who)
			if err != nil {
				m.t.Fatal(err)
			}
			_, err = io.WriteString(stdin, back.String()+"\n")
			if err := errors.Join(err, stdin.Close()); err != nil {
				m.t.Fatal(err)
			}
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(said, "may send mail") {
		m.t.Fatalf("sign in: %v\n%s", err, said)
	}
	config := home + "/.config/letterlock/config.toml"
	text := m.sh(user, "cat "+config)
	if !strings.Contains(text, "[queue]") {
		m.write(config, text+"\n[queue]\nroot = [\"ops@try.test\"]\n", 0o600)
	}
}

// An arrival is a message in a mailbox.
type arrival struct {
	mailbox string
	from    string // envelope sender
	letter  letter
}

// arrivals waits until n messages have come since it was last asked, in all mailboxes
// together, and returns them by mailbox.
func (m *machine) arrivals(n int) []arrival {
	m.t.Helper()
	ctx, tick := within(m.t), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	var all []arrival
	for {
		all = append(all, m.fresh()...)
		if len(all) >= n {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.t.Errorf("%d of %d messages came\n%s", len(all), n, m.queues())
			return all
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return strings.Compare(a.mailbox, b.mailbox) })
	return all
}

func (m *machine) queues() string {
	return m.sh("root", "letterlock queue list; cat ~/.local/state/letterlock/reports/new/* 2>/dev/null || true") + m.sh("joe", "letterlock queue list; true")
}

func (m *machine) fresh() []arrival {
	var all []arrival
	for _, box := range mailboxes() {
		files, err := filepath.Glob(filepath.Join(m.dovecot.Maildir(box), "new", "*"))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, file := range files {
			if m.seen[file] {
				continue
			}
			m.seen[file] = true
			text, err := os.ReadFile(file)
			if err != nil {
				m.t.Fatal(err)
			}
			a := arrival{mailbox: strings.TrimSuffix(box, "@try.test"), letter: readLetter(string(text))}
			a.from = strings.Trim(a.letter.take("Return-Path"), "<>")
			a.letter.take("X-Original-To", "Delivered-To", "Received")
			all = append(all, a)
		}
	}
	return all
}

// idle waits until both queues are empty: nothing is on its way any more.
func (m *machine) idle() {
	m.t.Helper()
	for _, user := range []string{"root", "joe"} {
		m.sh(user, "for i in $(seq 1200); do mailq | grep -q 'queue is empty' && exit 0; read -rt 0.1 <> <(:) || true; done; mailq; exit 1")
	}
}
