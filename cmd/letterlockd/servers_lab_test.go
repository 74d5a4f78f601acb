//go:build lab

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// testPatience guards against waiting for ever; the machine may be busy. What has to happen
// soon is held against a pace.
const testPatience = 10 * time.Minute

// A site is letterlockd, run as people run it, beside a real Postfix and Dovecot that
// are configured by what it prints.
type site struct {
	t       *testing.T
	binary  string
	folder  string
	conf    string
	ca      *lab.CA
	dovecot *lab.Dovecot
	postfix *lab.Postfix
	process *lab.Process
	metrics string // address

	database string // URL; empty: SQLite
	home     string // of the pages
	more     string // further sections of the configuration
	change   func(*lab.DovecotOptions)
}

// newSite is letterlockd in a folder of its own.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, folder: t.TempDir(), ca: lab.RunCA(t), binary: buildDaemon(t)}
	// Dovecot's auth process reads below it.
	if err := errors.Join(os.Chmod(filepath.Dir(s.folder), 0o755), os.Chmod(s.folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	s.conf = filepath.Join(s.folder, "letterlockd.toml")
	return s
}

func startSite(t *testing.T, dovecotFlags ...string) *site {
	t.Helper()
	return newSite(t).start(dovecotFlags...)
}

// startSiteWith has further sections in its configuration.
func startSiteWith(t *testing.T, more string, dovecotFlags ...string) *site {
	t.Helper()
	s := newSite(t)
	s.more = more
	return s.start(dovecotFlags...)
}

// startSiteOn has its database at a URL.
func startSiteOn(t *testing.T, database string, dovecotFlags ...string) *site {
	t.Helper()
	s := newSite(t)
	s.database = database
	return s.start(dovecotFlags...)
}

// start starts Postfix and Dovecot as letterlockd has them configured.
func (s *site) start(dovecotFlags ...string) *site {
	t := s.t
	t.Helper()
	ports := freePorts(t, 3)
	s.metrics = fmt.Sprintf("127.0.0.1:%d", ports[2])
	s.write("dovecot.secret", "dove-secret\n", 0o600)
	s.write("doveadm.key", "order-key\n", 0o600)
	dove := filepath.Join(s.folder, "dovecot")
	if err := os.MkdirAll(filepath.Join(dove, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Before Postfix is there, its queue is not: Dovecot's half is enough for config dovecot.
	s.configure("", ports[0], ports[1])
	s.run(append([]string{"config", "dovecot", "--write", "--config-dir", dove}, dovecotFlags...)...)
	s.write("dovecot/users", "carol@try.test:{PLAIN}old-login\n", 0o644)
	o := lab.DovecotOptions{
		CA: s.ca, Introspection: fmt.Sprintf("http://127.0.0.1:%d/dovecot/introspect", ports[0]), ClientID: "dovecot", ClientSecret: "dove-secret",
		NameClaim: "username", Scope: "imap", Mechanisms: "plain login",
		// Ours first, as in a conf.d; then the logins that were there before.
		Extra: fmt.Sprintf("!include %[1]s/conf.d/05-letterlock.conf\npassdb {\n  driver = passwd-file\n  mechanisms = plain login\n  args = %[1]s/users\n}\n!include %[1]s/conf.d/95-letterlock.conf\n", dove),
	}
	if s.change != nil {
		s.change(&o)
	}
	s.dovecot = lab.RunDovecot(t, o)
	s.postfix = lab.RunPostfix(t, lab.PostfixOptions{CA: s.ca, Dovecot: s.dovecot, Mailboxes: []string{"ann@try.test", "bob@try.test"},
		// How long an smtpd that could not reach us is missed; 60 s by default.
		Main: "service_throttle_time = 1s"})
	s.configure(s.socketFolder(), ports[0], ports[1])
	return s
}

// socketFolder is what a package or a unit would make: below Postfix's queue, its group
// that of Postfix, who may connect to what is made in it.
func (s *site) socketFolder() string {
	s.t.Helper()
	owner, err := user.Lookup("postfix")
	if err != nil {
		s.t.Fatal(err)
	}
	gid, _ := strconv.Atoi(owner.Gid)
	path := filepath.Join(s.postfix.Dir, "queue", "letterlock")
	if err := errors.Join(os.Mkdir(path, 0o750), os.Chown(path, 0, gid), os.Chmod(path, os.ModeSetgid|0o750)); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *site) configure(sockets string, dovecot, doveadm int) {
	s.t.Helper()
	url := s.database
	if url == "" {
		url = "sqlite:" + s.folder + "/letterlockd.db"
	}
	text := fmt.Sprintf("domains = [\"try.test\"]\n[database]\nurl = %[4]q\nview_file = \"%[1]s/mail.db\"\n[dovecot]\nlisten = \"127.0.0.1:%[2]d\"\nsecret_file = \"%[1]s/dovecot.secret\"\n"+
		"[metrics]\nlisten = \""+s.metrics+"\"\n[doveadm.here]\nurl = \"http://127.0.0.1:%[3]d/doveadm/v1\"\nkey_file = \"%[1]s/doveadm.key\"\n", s.folder, dovecot, doveadm, url)
	if sockets != "" {
		text += fmt.Sprintf("[postfix]\nsasl = \"%[1]s/sasl\"\nsenders = \"%[1]s/senders\"\nmilter = \"%[1]s/milter\"\n", sockets)
	}
	s.write("letterlockd.toml", text+strings.ReplaceAll(s.more, "@folder@", s.folder), 0o644)
}

func (s *site) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// run runs letterlockd and returns its standard output.
func (s *site) run(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"--config", s.conf}, args...)...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("letterlockd %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return string(out)
}

// serve starts the daemon and waits until it is ready.
func (s *site) serve() {
	s.t.Helper()
	process, err := lab.StartProcess(lab.ProcessOptions{Name: "letterlockd", Path: s.binary, Args: []string{"--config", s.conf, "serve"}, Env: os.Environ()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = process
	s.t.Cleanup(process.Stop)
	s.wait("msg=ready")
}

// wait waits for a line of the daemon's log, past ones included.
func (s *site) wait(text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	if _, err := s.process.WaitLog(ctx, func(line string) bool { return strings.Contains(line, text) }); err != nil {
		s.t.Fatalf("the daemon did not say %q: %v\n%s", text, err, strings.Join(s.process.Log(), "\n"))
	}
}

// kill is a crash.
func (s *site) kill() {
	s.t.Helper()
	if err := syscall.Kill(s.process.Pid(), syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.process.Stop()
}

// switchPostfix runs the script that is printed, as printed.
func (s *site) switchPostfix(flags ...string) (undo string) {
	s.t.Helper()
	script := s.run(append([]string{"config", "postfix", "--config-dir", s.postfix.Dir}, flags...)...)
	// It has to find its Postfix by itself.
	if want := "\nexport MAIL_CONFIG='" + s.postfix.Dir + "'\n"; !strings.Contains(script, want) {
		s.t.Fatalf("no%sin\n%s", want, script)
	}
	s.shell(script)
	_, back, ok := strings.Cut(script, "# The way back to what stands there today:\n")
	if !ok {
		s.t.Fatalf("no way back in\n%s", script)
	}
	return strings.ReplaceAll(back, "#   ", "")
}

// services is what master.cf sets at each service.
func (s *site) services() string {
	s.t.Helper()
	out, err := exec.Command("postconf", "-c", s.postfix.Dir, "-P").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

func (s *site) shell(script string) {
	s.t.Helper()
	cmd := exec.Command("sh")
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+s.postfix.Dir, "LC_ALL=C")
	cmd.Stdin = strings.NewReader(script)
	reloads := strings.Contains(script, "\npostfix reload")
	before, old := s.reloads(), s.postfix.Listening()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("the printed script: %v\n%s\n%s", err, out, script)
	}
	if reloads {
		s.reloaded(before, old)
	}
}

// reloadSaid is what Postfix's master says before it reads its files again.
const reloadSaid = ": reload -- version"

func (s *site) reloads() int {
	return strings.Count(strings.Join(s.postfix.Log(), "\n"), reloadSaid)
}

// reloaded waits until nobody takes connections by the configuration of before: the script
// ends when the master has been sent the signal, and who waits for the next client already
// may be faster than the word that it shall end.
func (s *site) reloaded(before int, old []int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	seen := 0
	if _, err := s.postfix.WaitLog(ctx, func(line string) bool {
		if strings.Contains(line, reloadSaid) {
			seen++
		}
		return seen > before
	}); err != nil {
		s.t.Fatal(err)
	}
	for slices.ContainsFunc(s.postfix.Listening(), func(pid int) bool { return slices.Contains(old, pid) }) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatal("an smtpd goes on with the configuration of before")
		}
	}
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports, err := lab.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// A talk is a line protocol over TLS.
type talk struct {
	t *testing.T
	r *bufio.Reader
	w io.Writer
}

func (s *site) dial(port int) *talk {
	s.t.Helper()
	config := s.ca.Client()
	config.ServerName = "mail.try.test"
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testPatience)); err != nil {
		s.t.Fatal(err)
	}
	return &talk{s.t, bufio.NewReader(conn), conn}
}

// say sends a line and returns the reply's last line: of SMTP the one without a dash,
// of IMAP the one with the tag.
func (c *talk) say(line string) string {
	c.t.Helper()
	if _, err := io.WriteString(c.w, line+"\r\n"); err != nil {
		return "closed"
	}
	return c.reply()
}

// end hangs up.
func (c *talk) end() { _ = c.w.(io.Closer).Close() }

func (c *talk) reply() string {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "closed"
		}
		if strings.HasPrefix(line, "* ") && !strings.HasPrefix(line, "* BYE") || len(line) > 3 && line[3] == '-' {
			continue
		}
		return strings.TrimSpace(line)
	}
}

// submit signs in and sends a message, and returns the reply that ended it.
func (s *site) submit(name, password, sender, from, to string) string {
	s.t.Helper()
	c := s.dial(s.postfix.Subs)
	defer c.end()
	if got := c.reply(); !strings.HasPrefix(got, "220") {
		return got
	}
	c.say("EHLO client.try.test")
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00" + password))
	for _, step := range []struct{ line, want string }{
		{"AUTH PLAIN " + plain, "235"}, {"MAIL FROM:<" + sender + ">", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"},
	} {
		if got := c.say(step.line); !strings.HasPrefix(got, step.want) {
			return got
		}
	}
	return c.say("From: " + from + "\r\nTo: " + to + "\r\nSubject: proof\r\n\r\nhello\r\n.")
}

// imap signs in and returns the connection and the reply.
func (s *site) imap(name, password string) (*talk, string) {
	s.t.Helper()
	c := s.dial(s.dovecot.IMAPS)
	if _, err := c.r.ReadString('\n'); err != nil { // the greeting
		s.t.Fatal(err)
	}
	return c, c.say(`a LOGIN "` + name + `" "` + password + `"`)
}

func (s *site) want(what, got, want string) {
	s.t.Helper()
	if !strings.HasPrefix(got, want) {
		s.t.Errorf("%s: %q, want %s", what, got, want)
	}
}

// The printed configuration, as printed: one's own password works at Postfix and
// Dovecot, nobody sends as another, limits hold, and logins from before go on.
func TestPrintedConfiguration(t *testing.T) {
	s := startSite(t)
	s.run("person", "add", "ann@try.test")
	s.run("person", "add", "bob@try.test")
	laptop := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "laptop"))
	reader := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "reader", "--protocol", "imap"))
	scanner := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "scanner", "--protocol", "smtp", "--recipient", "ann@try.test", "--per-hour", "1"))
	s.serve()
	before := s.services()
	undo := s.switchPostfix()

	const ann, bob = "ann@try.test", "bob@try.test"
	for _, c := range []struct{ what, password, sender, from, to, want string }{
		{"own sender", laptop, ann, ann, bob, "250"},
		{"another's sender", laptop, bob, ann, bob, "553"},
		{"another's From", laptop, ann, "Bob <" + bob + ">", bob, "5"},
		{"another's From behind a NUL", laptop, ann, ann + "\x00, Bob <" + bob + ">", bob, "5"},
		{"a foreign From", laptop, ann, "ceo@bank.example", bob, "5"},
		{"a password for reading", reader, ann, ann, bob, "535"},
		{"no password", "nonsense", ann, ann, bob, "535"},
		{"the scanner to somebody else", scanner, ann, ann, bob, "5"},
	} {
		s.want(c.what, s.submit(ann, c.password, c.sender, c.from, c.to), c.want)
	}
	s.onceAnHour("the scanner to its owner", func() string { return s.submit(ann, scanner, ann, ann, ann) })
	for _, c := range []struct{ what, name, password, want string }{
		{"own password", ann, laptop, "a OK"},
		{"a password for reading", ann, reader, "a OK"},
		{"a password for sending", ann, scanner, "a NO"},
		{"another's password", bob, laptop, "a NO"},
		{"a login from before", "carol@try.test", "old-login", "a OK"},
		{"a wrong one from before", "carol@try.test", "older-login", "a NO"},
	} {
		_, got := s.imap(c.name, c.password)
		s.want("IMAP: "+c.what, got, c.want)
	}

	s.counted(`kind="password",protocol="smtp",reason="",result="ok"`, `kind="password",protocol="imap",reason="not for this protocol",result="refused"`)

	s.shell(undo)
	if after := s.services(); after != before {
		t.Errorf("the way back leads elsewhere:\n%s\nbefore:\n%s", after, before)
	}
	for _, word := range []string{laptop, reader, scanner, "dove-secret", "order-key"} {
		if strings.Contains(strings.Join(s.process.Log(), "\n"), word) {
			t.Errorf("a secret stands in the log")
		}
	}
}

// onceAnHour sends with an app password that may send one message an hour. Hours are those of
// the clock: when one ends in between, one more may go.
func (s *site) onceAnHour(what string, send func() string) {
	s.t.Helper()
	hour := time.Now().Truncate(time.Hour)
	s.want(what, send(), "250")
	got := send()
	if strings.HasPrefix(got, "250") && !time.Now().Truncate(time.Hour).Equal(hour) {
		got = send()
	}
	s.want(what+" once more", got, "451")
}

// counted looks whether /metrics has seen such sign-ins, and /healthz is content.
func (s *site) counted(labels ...string) {
	s.t.Helper()
	for path, wants := range map[string][]string{"metrics": labels, "healthz": {"ok"}} {
		resp, err := http.Get("http://" + s.metrics + "/" + path)
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			s.t.Errorf("/%s: %d, %v", path, resp.StatusCode, err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				s.t.Errorf("/%s lacks %s", path, want)
			}
		}
	}
}

// A revocation ends an open session within ten seconds, and a killed daemon makes
// Postfix say later, never no.
func TestRevokedAndKilled(t *testing.T) {
	s := startSite(t)
	s.run("person", "add", "ann@try.test")
	phone := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "phone"))
	laptop := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "laptop"))
	s.serve()
	s.switchPostfix()
	const ann = "ann@try.test"

	idle, got := s.imap(ann, phone)
	s.want("sign-in", got, "a OK")
	s.want("select", idle.say("b SELECT INBOX"), "b OK")
	s.want("idle", idle.say("c IDLE"), "+")
	p := takePace(t)
	s.run("credential", "revoke", ann, "phone", "--reason", "lost")
	if got := idle.reply(); got != "closed" && !strings.HasPrefix(got, "* BYE") {
		t.Errorf("the revoked session heard %q", got)
	}
	p.within(10*time.Second, "the session ended")
	_, got = s.imap(ann, phone)
	s.want("IMAP once revoked", got, "a NO")
	s.want("SMTP once revoked", s.submit(ann, phone, ann, ann, ann), "535")
	s.want("the other password", s.submit(ann, laptop, ann, ann, ann), "250")

	s.kill()
	if got := s.submit(ann, laptop, ann, ann, ann); strings.HasPrefix(got, "5") || strings.HasPrefix(got, "2") {
		t.Errorf("with the daemon killed: %q", got)
	}
	_, got = s.imap(ann, laptop)
	s.want("IMAP with the daemon killed", got, "a NO [UNAVAILABLE]")
	s.serve()
	s.want("SMTP once it is back", s.untilAnswered(ann, laptop), "250")

	s.run("person", "disable", ann)
	s.wait("kind=person.disabled")
	s.want("SMTP once disabled", s.submit(ann, laptop, ann, ann, ann), "535")
}

// untilAnswered submits until Postfix has found the daemon again: an smtpd that could
// not reach it ends, and the master waits before it starts another.
func (s *site) untilAnswered(name, password string) string {
	s.t.Helper()
	for deadline := time.Now().Add(testPatience); ; {
		got := s.submit(name, password, name, name, name)
		if strings.HasPrefix(got, "2") || strings.HasPrefix(got, "535") || time.Now().After(deadline) {
			return got
		}
	}
}

// With letterlockd killed, Dovecot goes on by the view file: new sign-ins, by the plain name
// and by a label's; what was revoked before, and what a shell revokes meanwhile, stays out;
// and logins from before go on.
func TestDovecotBySQLAlone(t *testing.T) {
	s := startSite(t, "--sql")
	s.run("person", "add", "ann@try.test")
	laptop := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "laptop"))
	phone := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "phone"))
	lost := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "lost"))
	sender := strings.TrimSpace(s.run("credential", "make", "ann@try.test", "--label", "sender", "--protocol", "smtp"))
	s.serve()
	try := func(when, name, password, want string) {
		t.Helper()
		_, got := s.imap(name, password)
		s.want(when+": "+name, got, want)
	}
	try("running", "ann@try.test", phone, "a OK")
	s.run("credential", "revoke", "ann@try.test", "lost")
	s.kill()
	for _, c := range []struct{ name, password, want string }{
		{"ann@try.test", laptop, "a OK"},
		{"ann+laptop@try.test", laptop, "a OK"},
		{"Ann+Phone@try.test", phone, "a OK"},
		{"ann+lost@try.test", lost, "a NO"},
		{"ann+phone@try.test", laptop, "a NO"},
		{"ann+sender@try.test", sender, "a NO"},
		{"ann@try.test", "", "a NO"},
		{"carol@try.test", "old-login", "a OK"},
	} {
		try("killed", c.name, c.password, c.want)
	}
	s.run("credential", "revoke", "ann@try.test", "phone")
	try("revoked while it is away", "ann+phone@try.test", phone, "a NO")
	s.serve()
	try("back", "ann@try.test", laptop, "a OK")
	try("back", "ann@try.test", phone, "a NO")
	// Dovecot waits the longer before it asks again the more often nobody answered: last.
	s.kill()
	s.postfixBySQL(laptop, phone)
}

// postfixBySQL switches Postfix to the view file, by the socket of Dovecot that it had, and
// back.
func (s *site) postfixBySQL(laptop, phone string) {
	s.t.Helper()
	before := s.services() + s.mainCF()
	if err := os.Chmod(filepath.Join(s.folder, "mail.db"), 0o644); err != nil { // of the group postfix, elsewhere
		s.t.Fatal(err)
	}
	script := s.run("config", "postfix", "--sql", "--config-dir", s.postfix.Dir)
	if !strings.Contains(script, "proxy:sqlite:") || strings.Contains(script, "pgsql") {
		s.t.Errorf("not by the view file:\n%s", script)
	}
	s.shell(script)
	for _, c := range []struct{ name, password, sender, want string }{
		{"ann@try.test", laptop, "ann@try.test", "250"},
		{"ann+laptop@try.test", laptop, "ann@try.test", "250"},
		{"ann@try.test", laptop, "bob@try.test", "553"},
		{"ann+phone@try.test", phone, "ann@try.test", "535"},
	} {
		s.want("SMTP by the view file, "+c.name+" as "+c.sender, s.submit(c.name, c.password, c.sender, c.sender, "bob@try.test"), c.want)
	}
	_, back, _ := strings.Cut(script, "# The way back to what stands there today:\n")
	s.shell(strings.ReplaceAll(back, "#   ", ""))
	if after := s.services() + s.mainCF(); after != before {
		s.t.Errorf("the way back leads elsewhere:\n%s\nbefore:\n%s", after, before)
	}
}
