//go:build lab

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

const ann, bob = "ann@try.test", "bob@try.test"

// A cluster is two letterlockd on one PostgreSQL with a standby, one of them behind a real
// Postfix and Dovecot, whose sockets a unit holds. Between that one and the database is a
// wire that can be cut.
type cluster struct {
	*site
	whole            *testing.T // of which the parts are parts
	primary, standby *lab.Postgres
	wire             *lab.TCPFault
	second           *site
	held             []*os.File // sockets of the unit
	guard            int        // port of the second one's SASL
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c := &cluster{whole: t, primary: lab.RunPostgres(t, lab.PostgresOptions{})}
	if err := c.primary.NewDatabase(ctx, "mail"); err != nil {
		t.Fatal(err)
	}
	c.standby = c.primary.RunStandby(t)
	c.wire = lab.RunTCPFault(t, fmt.Sprintf("127.0.0.1:%d", c.primary.Port))
	both := func(first int) string {
		return fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/mail?sslmode=disable&target_session_attrs=read-write", first, c.standby.Port)
	}
	ports := freePorts(t, 3)
	key := filepath.Join(t.TempDir(), "master.key")
	pages := func(port int) string {
		// Nobody listens at the issuer: the identity provider is away from first to last.
		return fmt.Sprintf("[web]\npublic_url = \"http://127.0.0.1:%[1]d\"\nlisten = \"127.0.0.1:%[1]d\"\nmaster_key_file = %[2]q\n"+
			"[signin.campus]\ntype = \"oidc\"\nissuer = \"http://127.0.0.1:%[3]d\"\nclient_id = \"x\"\n", port, key, ports[2])
	}
	c.site = startSiteOn(t, both(c.wire.Port()))
	c.site.addSections(pages(ports[0]))
	c.site.home = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	c.second = &site{t: t, binary: c.site.binary, folder: t.TempDir(), database: both(c.primary.Port)}
	c.second.conf = filepath.Join(c.second.folder, "letterlockd.toml")
	c.guard = ports[1]
	c.second.write("letterlockd.toml", fmt.Sprintf("domains = [\"try.test\"]\n[web]\nmaster_key_file = %q\n[database]\nurl = %q\n[postfix]\nsasl = \"127.0.0.1:%d\"\n",
		key, c.second.database, c.guard), 0o644)
	c.holdSockets()
	return c
}

// holdSockets opens Postfix's sockets, as letterlockd-sasl.socket and the others do.
func (c *cluster) holdSockets() {
	c.t.Helper()
	for _, name := range []string{"sasl", "senders", "milter"} {
		path := filepath.Join(c.postfix.Dir, "queue", "letterlock", name)
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			c.t.Fatal(err)
		}
		listener.SetUnlinkOnClose(false)
		file, err := listener.File()
		if err != nil {
			c.t.Fatal(err)
		}
		listener.Close()
		if err := os.Chmod(path, 0o660); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { file.Close() })
		c.held = append(c.held, file)
	}
}

// serveByUnit starts the daemon as systemd does, with the sockets it holds.
func (c *cluster) serveByUnit() {
	c.t.Helper()
	process, err := lab.StartProcess(lab.ProcessOptions{
		Name: "letterlockd", Path: "/bin/sh", Args: []string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, c.binary, "--config", c.conf, "serve"},
		Env: append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(c.held)), "LISTEN_FDNAMES=sasl:senders:milter"), Files: c.held,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.process = process
	c.whole.Cleanup(process.Stop) // it outlives the part that starts it
	c.wait("msg=ready")
}

// make makes an app password, whose last word is given back.
func (s *site) make(person, label string, flags ...string) string {
	s.t.Helper()
	return strings.TrimSpace(s.run(append([]string{"credential", "make", person, "--label", label}, flags...)...))
}

// ask asks as Postfix does for somebody at an address, and returns OK, FAIL, or "later"
// when the connection is closed instead.
func ask(network, address, user, password, remote string) string {
	conn, err := net.DialTimeout(network, address, testPatience)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testPatience))
	fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=%s\tresp=%s\n",
		remote, base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if verb, _, _ := strings.Cut(lines.Text(), "\t"); verb == "OK" || verb == "FAIL" {
			return verb
		}
	}
	return "later"
}

// askFirst and askSecond ask the two instances.
func (c *cluster) askFirst(user, password, remote string) string {
	return ask("unix", filepath.Join(c.postfix.Dir, "queue", "letterlock", "sasl"), user, password, remote)
}

func (c *cluster) askSecond(user, password, remote string) string {
	return ask("tcp", fmt.Sprintf("127.0.0.1:%d", c.guard), user, password, remote)
}

// until asks again until the answer is the wanted one.
func (s *site) until(what, want string, answer func() string) {
	s.t.Helper()
	got := ""
	for deadline := time.Now().Add(testPatience); time.Now().Before(deadline); {
		if got = answer(); strings.HasPrefix(got, want) {
			return
		}
	}
	s.t.Errorf("%s: %q, want %s", what, got, want)
}

// TestOnPostgres is the whole of it on PostgreSQL: what app passwords may, by every mail
// program; revocation; two instances; and every outage there is, one after the other.
func TestOnPostgres(t *testing.T) {
	c := startCluster(t)
	for _, person := range []string{ann, bob} {
		c.run("person", "add", person)
	}
	c.serveByUnit()
	c.second.serve()
	undo := c.switchPostfix()
	brief := c.startBrief()

	c.part(t, "rights", c.testRights)
	c.part(t, "programs", c.testPrograms)
	c.part(t, "revocation", c.testRevocation)
	c.part(t, "one throttle", c.testOneThrottle)
	c.part(t, "trail", c.testTrail)
	c.part(t, "killed, its sockets held", c.testKilledByUnit)
	c.part(t, "identity provider away", c.testProviderAway)
	c.part(t, "cut off", c.testCutOff)
	c.part(t, "database stopped and restarted", c.testStopped)
	c.part(t, "failover", c.testFailover)
	c.part(t, "expiry", brief)

	c.t = t
	c.shell(undo)
	if log := strings.Join(append(c.process.Log(), c.second.process.Log()...), "\n"); strings.Contains(log, "panic") || strings.Contains(log, "order-key") {
		t.Errorf("the log says\n%s", log)
	}
	for _, line := range c.postfix.Log() {
		if strings.Contains(line, "no SASL authentication mechanisms") {
			t.Errorf("an smtpd found no socket: %s", line)
		}
	}
}

// part runs a part of the story; what it finds is reported there.
func (c *cluster) part(t *testing.T, name string, run func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		c.t, c.second.t = t, t
		begun := time.Now()
		run()
		t.Logf("%v", time.Since(begun).Round(10*time.Millisecond))
		if t.Failed() {
			log := c.process.Log()
			t.Logf("the daemon said\n%s", strings.Join(log[max(0, len(log)-60):], "\n"))
		}
	})
	c.t, c.second.t = t, t
}

// testRights is the table of what an app password may and may not, at Postfix and Dovecot.
func (c *cluster) testRights() {
	c.run("address", "grant", "shop@try.test", ann, "--role", "send")
	passwords := map[string]string{"": "nonsense"}
	for label, flags := range map[string][]string{
		"laptop": nil, "reader": {"--protocol", "imap"}, "sender": {"--protocol", "smtp"},
		"office": {"--network", "192.0.2.0/24"}, "home": {"--network", "127.0.0.0/8"},
		"scanner": {"--protocol", "smtp", "--recipient", ann, "--per-hour", "1"}, "shop": {"--sender", "shop@try.test"},
		"old": {"--expires", "1ms"}, "lost": nil,
	} {
		passwords[label] = c.make(ann, label, flags...)
	}
	bobs := c.make(bob, "laptop")
	c.run("credential", "revoke", ann, "lost")
	var all sync.WaitGroup
	for _, one := range []struct{ what, user, label, sender, from, to, want string }{
		{"own sender", ann, "laptop", ann, ann, bob, "250"},
		{"an owned address", ann, "laptop", "shop@try.test", "shop@try.test", bob, "250"},
		{"an extension", ann, "laptop", "ann+list@try.test", "ann+list@try.test", bob, "250"},
		{"another's sender", ann, "laptop", bob, ann, bob, "553"},
		{"another's From", ann, "laptop", ann, "Bob <" + bob + ">", bob, "550"},
		{"nobody's sender", ann, "laptop", "ceo@bank.example", ann, bob, "553"},
		{"a foreign From", ann, "laptop", ann, "ceo@bank.example", bob, "550"},
		{"an address of ann's in bob's hands", bob, "bob", "shop@try.test", bob, ann, "553"},
		{"a password for sending", ann, "sender", ann, ann, bob, "250"},
		{"a password for reading", ann, "reader", ann, ann, bob, "535"},
		{"from another network", ann, "office", ann, ann, bob, "535"},
		{"from its network", ann, "home", ann, ann, bob, "250"},
		{"expired", ann, "old", ann, ann, bob, "535"},
		{"revoked", ann, "lost", ann, ann, bob, "535"},
		{"another's password", bob, "laptop", bob, bob, ann, "535"},
		{"no password", ann, "", ann, ann, bob, "535"},
		{"the shop's sender", ann, "shop", "shop@try.test", "shop@try.test", bob, "250"},
		{"the shop as ann", ann, "shop", ann, "shop@try.test", bob, "553"},
		{"the shop with ann's From", ann, "shop", "shop@try.test", ann, bob, "550"},
		{"the scanner to somebody else", ann, "scanner", ann, ann, bob, "550"},
	} {
		password := passwords[one.label]
		if one.label == "bob" {
			password = bobs
		}
		all.Go(func() { c.want(one.what, c.submit(one.user, password, one.sender, one.from, one.to), one.want) })
	}
	all.Go(func() {
		c.onceAnHour("the scanner to its owner", func() string { return c.submit(ann, passwords["scanner"], ann, ann, ann) })
	})
	for label, want := range map[string]string{
		"laptop": "a OK", "reader": "a OK", "home": "a OK", "shop": "a OK",
		"sender": "a NO", "scanner": "a NO", "office": "a NO", "old": "a NO", "lost": "a NO", "": "a NO",
	} {
		all.Go(func() {
			conn, got := c.imap(ann, passwords[label])
			c.want("IMAP: "+label, got, want)
			conn.end()
		})
	}
	all.Wait()
	c.until("the second instance", "OK", func() string { return c.askSecond(ann, passwords["laptop"], "192.0.2.77") })
	c.want("the second instance, revoked", c.askSecond(ann, passwords["lost"], "192.0.2.77"), "FAIL")
}

// testPrograms has every mail program sign in, send and read.
func (c *cluster) testPrograms() {
	password := c.make(ann, "programs")
	wrong := password[:len(password)-1] + "0"
	if wrong == password {
		wrong = password[:len(password)-1] + "1"
	}
	var all sync.WaitGroup
	try := func(p lab.Submitter, port int, mechanism string) {
		folder := c.t.TempDir()
		all.Go(func() {
			ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
			defer cancel()
			out, err := p.Send(ctx, folder, lab.Submission{Port: port, CAFile: c.ca.File, Mechanism: mechanism, User: ann, Password: password, From: ann, To: bob})
			if err != nil {
				c.t.Errorf("%s %s: %v\n%s", p.Name, mechanism, err, out)
			}
			// A program that lets anything pass would prove nothing.
			if out, err := p.Send(ctx, folder, lab.Submission{Port: port, CAFile: c.ca.File, Mechanism: mechanism, User: ann, Password: wrong, From: ann, To: bob}); err == nil {
				c.t.Errorf("%s %s with a wrong password: no error\n%s", p.Name, mechanism, out)
			}
		})
	}
	for i, p := range lab.Submitters() {
		try(p, c.postfix.Submission, []string{"PLAIN", "LOGIN"}[i%2])
	}
	for _, p := range lab.Readers() {
		try(p, c.dovecot.IMAPS, "PLAIN")
	}
	all.Wait()
}

// testRevocation: both instances, Dovecot, an open IDLE and an open SMTP session feel it.
func (c *cluster) testRevocation() {
	phone, laptop := c.make(ann, "phone"), c.make(ann, "tablet")
	c.until("the second instance", "OK", func() string { return c.askSecond(ann, phone, "192.0.2.77") })
	idle := c.idle(ann, phone)
	smtp := c.smtpSession(ann, phone)
	c.want("SMTP before", smtp.send(ann, bob), "250")
	// By a shell, which tells neither instance.
	c.second.run("credential", "revoke", ann, "phone", "--reason", "lost")
	p := takePace(c.t)
	c.want("the open SMTP session", smtp.send(ann, bob), "421")
	c.ends("the open IDLE", idle)
	c.until("the first instance", "FAIL", func() string { return c.askFirst(ann, phone, "192.0.2.77") })
	c.until("the second instance", "FAIL", func() string { return c.askSecond(ann, phone, "192.0.2.77") })
	p.within(soon, "felt everywhere")
	_, got := c.imap(ann, phone)
	c.want("IMAP once revoked", got, "a NO")
	c.want("the other password", c.submit(ann, laptop, ann, ann, bob), "250")
}

// idle signs in and idles.
func (s *site) idle(user, password string) *talk {
	s.t.Helper()
	conn, got := s.imap(user, password)
	s.want("sign-in", got, "a OK")
	s.want("select", conn.say("b SELECT INBOX"), "b OK")
	s.want("idle", conn.say("c IDLE"), "+")
	return conn
}

// soon is thrice the ten seconds that are promised, because tests run beside others.
const soon = 30 * time.Second

// ends wants the session to be over soon.
func (s *site) ends(what string, conn *talk) {
	s.t.Helper()
	p := takePace(s.t)
	if got := conn.reply(); got != "closed" && !strings.HasPrefix(got, "* BYE") {
		s.t.Errorf("%s heard %q", what, got)
	}
	p.within(soon, what+" ended")
}

// smtpSession is a connection that has signed in and stays.
func (s *site) smtpSession(user, password string) *talk {
	s.t.Helper()
	conn := s.dial(s.postfix.Subs)
	s.want("greeting", conn.reply(), "220")
	conn.say("EHLO client.try.test")
	s.want("sign-in", conn.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))), "235")
	return conn
}

// send sends a message in a session, and returns the reply that ended it.
func (c *talk) send(from, to string) string {
	c.t.Helper()
	for _, step := range []struct{ line, want string }{{"MAIL FROM:<" + from + ">", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"}} {
		if got := c.say(step.line); !strings.HasPrefix(got, step.want) {
			return got
		}
	}
	return c.say("From: " + from + "\r\nTo: " + to + "\r\nSubject: proof\r\n\r\nhello\r\n.")
}

// startBrief opens an IDLE with an app password that is about to expire, and returns what
// looks at it in the end.
func (c *cluster) startBrief() func() {
	c.t.Helper()
	life := 30 * time.Second
	p := takePace(c.t)
	before := time.Now()
	// Bob's, for he loses nothing else meanwhile that would end it.
	password := c.make(bob, "brief", "--expires", life.String())
	conn, got := c.imap(bob, password)
	for n := 1; strings.HasPrefix(got, "a NO") && time.Since(before) > life; n++ { // too brief for this machine
		life *= 2
		p, before = takePace(c.t), time.Now()
		password = c.make(bob, fmt.Sprintf("brief-%d", n), "--expires", life.String())
		conn, got = c.imap(bob, password)
	}
	c.want("sign-in", got, "a OK")
	c.want("select", conn.say("b SELECT INBOX"), "b OK")
	c.want("idle", conn.say("c IDLE"), "+")
	type end struct {
		said string
		at   time.Time
		took time.Duration
	}
	ended := make(chan end, 1)
	go func() {
		said := conn.reply()
		ended <- end{said, time.Now(), p.read()}
	}()
	return func() {
		e := <-ended
		if e.said != "closed" && !strings.HasPrefix(e.said, "* BYE") {
			c.t.Errorf("the IDLE of what expires heard %q", e.said)
		}
		p.judge(e.took, life+soon, "the IDLE of what expires ended")
		if e.at.Before(before.Add(life)) {
			c.t.Errorf("an app password of %v was made, and its IDLE ended after %v", life, e.at.Sub(before))
		}
		_, got := c.imap(bob, password)
		c.want("IMAP once expired", got, "a NO")
	}
}

// testOneThrottle: guesses at one instance shut the guesser out at both, and nobody else.
func (c *cluster) testOneThrottle() {
	laptop := c.make(bob, "phone")
	const guesser, owner = "203.0.113.9", "192.0.2.77"
	c.until("the owner", "OK", func() string { return c.askFirst(bob, laptop, owner) })
	c.until("the owner", "OK", func() string { return c.askSecond(bob, laptop, owner) })
	// What was guessed fades from the end of a span of ten minutes on: when one ends meanwhile,
	// who has guessed just enough may be heard again, and guesses once more.
	for round, again := 0, true; again; round++ {
		span := throttleSpan()
		var guesses sync.WaitGroup
		for n := range 60 {
			guesses.Go(func() { c.askFirst(bob, fmt.Sprintf("guess-%d-%d", round, n), guesser) })
		}
		guesses.Wait()
		first := c.askFirst(bob, fmt.Sprintf("one-more-%d", round), guesser)
		second := ""
		for deadline := time.Now().Add(testPatience); second != "later" && span == throttleSpan() && time.Now().Before(deadline); {
			second = c.askSecond(bob, fmt.Sprintf("another-%d", round), guesser)
		}
		right := c.askSecond(bob, laptop, guesser)
		if again = span != throttleSpan(); !again {
			c.want("the guesser at the first", first, "later")
			c.want("the guesser at the second", second, "later")
			c.want("with the right one, from there", right, "later")
		}
	}
	c.want("the owner at the first", c.askFirst(bob, laptop, owner), "OK")
	c.want("the owner at the second", c.askSecond(bob, laptop, owner), "OK")
}

// throttleSpan is the number of the span by which the throttle counts.
func throttleSpan() int64 { return time.Now().Unix() / 600 }

// testTrail: what was refused stands in the audit trail, a line for many.
func (c *cluster) testTrail() {
	// Lines are written every other second, and one of another's password stands there before.
	c.until("bob's trail", "yes", func() string {
		out := c.run("audit", "list", "--person", bob, "--kind", "signin.refused")
		if strings.Contains(out, "SMTP: not a secret of this server") && strings.Contains(out, "203.0.113.9") {
			return "yes"
		}
		return out
	})
	// One for each of two reasons, at two instances, in an hour; and an hour may end meanwhile.
	if n := strings.Count(c.run("audit", "list", "--person", bob, "--kind", "signin.refused"), "203.0.113.9"); n > 8 {
		c.t.Errorf("%d lines of 60 guesses", n)
	}
	for _, reason := range []string{"not for this protocol", "not from this network", "expired", "revoked"} {
		if trail := c.run("audit", "list", "--person", ann, "--kind", "signin.refused"); !strings.Contains(trail, reason) {
			c.t.Errorf("ann's trail does not tell of %q:\n%s", reason, trail)
		}
	}
}

// page is what a browser without a session sees.
func (s *site) page(path string) string {
	s.t.Helper()
	b := &surfer{t: s.t, home: s.home, cookie: "none"}
	return b.get(path)
}

// addSections adds to the configuration.
func (s *site) addSections(text string) {
	s.t.Helper()
	data, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("letterlockd.toml", string(data)+text, 0o644)
}

// try runs letterlockd where it may fail.
func (s *site) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.binary, append([]string{"--config", s.conf}, args...)...).CombinedOutput()
	return string(out), err
}

// buildDaemon finds letterlockd: this very test under that name, as TestMain has it, which
// saves a link for each site.
func buildDaemon(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("letterlockd")
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
