//go:build lab

package mailauth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/household"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
	"github.com/letterlock-mail/letterlock/internal/server/senders"
)

const patience = 2 * time.Minute

// A post is a real Postfix that asks our three sockets, and the people behind them.
type post struct {
	t       *testing.T
	home    *household.Household
	door    *credential.Door
	ca      *lab.CA
	postfix *lab.Postfix
	sink    *lab.Sink
	log     *slog.Logger
	hour    atomic.Int64 // hours that the milter's clock is ahead

	passwords map[string]string
	stopSASL  func()
}

// testLog puts our log lines into the test's.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// people fills a household: ann with app passwords of every kind, bob, and one who left.
func people(t *testing.T, home *household.Household) map[string]string {
	t.Helper()
	home.PutPerson(identity.Person{ID: "ann", Address: "ann@try.test"})
	home.PutPerson(identity.Person{ID: "bob", Address: "bob@try.test"})
	home.PutPerson(identity.Person{ID: "new", Address: "new@try.test"}) // imported, never signed in
	home.PutPerson(identity.Person{ID: "gone", Address: "gone@try.test", Disabled: time.Now().Add(-time.Hour)})
	home.PutAddress(identity.Address{Address: "team@try.test", Targets: []string{"bob@try.test", "gone@try.test"},
		Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleLogin, identity.RoleSend}}}})
	passwords := map[string]string{}
	for _, c := range []identity.Credential{
		{ID: "all", Person: "ann", Name: "laptop"},
		{ID: "imap", Person: "ann", Name: "reader", Protocols: []identity.Protocol{identity.IMAP}},
		{ID: "smtp", Person: "ann", Name: "sender", Protocols: []identity.Protocol{identity.SMTP}},
		{ID: "net", Person: "ann", Name: "office", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		{ID: "old", Person: "ann", Name: "old", Expires: time.Now().Add(-time.Minute)},
		{ID: "revoked", Person: "ann", Name: "revoked", Revoked: time.Now().Add(-time.Minute)},
		{ID: "scanner", Person: "ann", Name: "scanner", Senders: []string{"ann@try.test"}, Recipients: []string{"ann@try.test"}, PerHour: 2},
		{ID: "gone", Person: "gone", Name: "laptop"},
		{ID: "bob", Person: "bob", Name: "laptop"},
	} {
		password, err := home.NewPassword(c)
		if err != nil {
			t.Fatal(err)
		}
		passwords[string(c.ID)] = password
	}
	return passwords
}

func newDoor(t *testing.T, home *household.Household, log *slog.Logger) *credential.Door {
	t.Helper()
	door := credential.New(credential.Options{Store: home, Tokens: home, Log: log, Now: time.Now, OutageGrace: time.Millisecond})
	serve(t, func(ctx context.Context) error { return door.Run(ctx) })
	return door
}

// serve runs a service until the test ends, or the returned function is called.
func serve(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("service: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func startPost(t *testing.T) *post {
	return startPostWith(t, "smtpd_milters = unix:private/letterlock-milter\nmessage_reject_characters = \\0\n")
}

// startPostWith starts a Postfix with more lines for main.cf.
func startPostWith(t *testing.T, more string) *post {
	t.Helper()
	p := &post{t: t, home: household.New(), ca: lab.RunCA(t), sink: lab.RunSink(t, lab.SinkOptions{}), log: testLog(t)}
	p.passwords = people(t, p.home)
	p.door = newDoor(t, p.home, p.log)
	p.postfix = lab.RunPostfix(t, lab.PostfixOptions{
		CA: p.ca, SASLPath: "private/letterlock-auth", Relay: p.sink.Addr(),
		Main: `smtpd_sender_login_maps = socketmap:unix:private/letterlock-maps:senders
smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch
virtual_mailbox_domains = try.test
virtual_mailbox_maps = socketmap:unix:private/letterlock-maps:mailboxes
virtual_alias_maps = socketmap:unix:private/letterlock-maps:aliases
virtual_transport = relay:[127.0.0.1]:` + strconv.Itoa(p.sink.Port) + `
smtpd_error_sleep_time = 0
` + more})
	p.startSASL()
	book := senders.NewBook(p.home, "+", time.Now)
	maps := senders.NewSocketmap(senders.SocketmapOptions{Book: book, Log: p.log})
	serveOn(t, p.socket("letterlock-maps"), maps.Serve)
	// The clock stands, so that no hour begins in the middle of a test.
	began := time.Now()
	now := func() time.Time { return began.Add(time.Duration(p.hour.Load()) * time.Hour) }
	milter := senders.NewMilter(senders.MilterOptions{Book: book, Counter: p.home, Log: p.log, Now: now})
	serveOn(t, p.socket("letterlock-milter"), milter.Serve)
	return p
}

func serveOn(t *testing.T, listener net.Listener, run func(context.Context, net.Listener) error) func() {
	t.Helper()
	return serve(t, func(ctx context.Context) error { return run(ctx, listener) })
}

func (p *post) startSASL() {
	p.t.Helper()
	p.serveSASL(p.socket("letterlock-auth"))
}

func (p *post) serveSASL(listener net.Listener) {
	p.t.Helper()
	server := mailauth.NewSASL(mailauth.SASLOptions{
		Door: p.door, Log: p.log, Now: time.Now, Random: rand.Reader, Discovery: "https://id.try.test/.well-known/oauth-authorization-server",
	})
	p.stopSASL = serveOn(p.t, listener, server.Serve)
}

// socket opens a socket in Postfix's private folder, for Postfix alone.
func (p *post) socket(name string) net.Listener {
	p.t.Helper()
	path := filepath.Join(p.postfix.Dir, "queue/private", name)
	listener, err := net.Listen("unix", path)
	if err != nil {
		p.t.Fatal(err)
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		p.t.Fatal(err)
	}
	gid, _ := strconv.Atoi(owner.Gid)
	if err := errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660)); err != nil {
		p.t.Fatal(err)
	}
	return listener
}

// run runs a program with a bound and returns what it said.
func (p *post) run(stdin, program string, args ...string) (string, error) {
	return runProgram(p.t, stdin, program, args...)
}

func runProgram(t *testing.T, stdin, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "LC_ALL=C.UTF-8", "MAILRC=/dev/null")
	cmd.Dir = home
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A letter is one sending with one program.
type letter struct {
	user, password string
	sender, from   string // from: the From field's value
	to             string
	extra          string // more fields, each with CRLF
}

func (p *post) letter() letter {
	return letter{user: "ann@try.test", password: p.passwords["all"], sender: "ann@try.test", from: "Ann <ann@try.test>", to: "friend@elsewhere.test"}
}

func (l letter) text() string {
	return "From: " + l.from + "\r\n" + l.extra + "To: " + l.to + "\r\nSubject: proof\r\n\r\nhello\r\n"
}

// swaks sends and returns the dialogue; it speaks PLAIN and LOGIN.
func (p *post) swaks(mechanism string, l letter) string {
	p.t.Helper()
	out, _ := p.run("", "swaks", "--server", "127.0.0.1:"+strconv.Itoa(p.postfix.Submission), "--tls", "--tls-ca-path", p.ca.File,
		"--auth", mechanism, "--auth-user", l.user, "--auth-password", l.password, "--from", l.sender, "--to", l.to,
		"--helo", "client.try.test", "--data", strings.ReplaceAll(l.text(), "\r\n", "\n"))
	return out
}

const pythonSMTP = `
import sys, ssl, smtplib
port, ca, mech, user, secret, sender, to = sys.argv[1:8]
text = sys.stdin.buffer.read()
c = smtplib.SMTP("127.0.0.1", int(port), timeout=100)
c.starttls(context=ssl.create_default_context(cafile=ca))
c.ehlo()
c.user, c.password = user, secret
forms = {"PLAIN": c.auth_plain, "LOGIN": c.auth_login,
  "XOAUTH2": lambda challenge=None: "" if challenge else "user=%s\x01auth=Bearer %s\x01\x01" % (user, secret),
  "OAUTHBEARER": lambda challenge=None: "\x01" if challenge else "n,a=%s,\x01auth=Bearer %s\x01\x01" % (user, secret)}
def say(what, pair): print(what, pair[0], pair[1].decode())
try:
    say("auth", c.auth(mech, forms[mech]))
except smtplib.SMTPAuthenticationError as e:
    say("auth", (e.smtp_code, e.smtp_error)); sys.exit(1)
except smtplib.SMTPServerDisconnected as e:
    print("auth closed", e); sys.exit(1)
for what, call in (("mail", lambda: c.mail(sender, ["SMTPUTF8"] if not (sender+to).isascii() else [])), ("rcpt", lambda: c.rcpt(to)), ("data", lambda: c.data(text))):
    try: pair = call()
    except smtplib.SMTPDataError as e: pair = (e.smtp_code, e.smtp_error)
    say(what, pair)
    if pair[0] >= 400: sys.exit(1)
c.quit()
`

// python sends and returns the reply codes: "auth 235", "mail 250", ….
func (p *post) python(mechanism string, l letter) string {
	p.t.Helper()
	out, _ := p.run(l.text(), "python3", "-c", pythonSMTP, strconv.Itoa(p.postfix.Submission), p.ca.File, mechanism, l.user, l.password, l.sender, l.to)
	return out
}

// TestClientsLogIn: every program sends with an app password and a right token passes.
func TestClientsLogIn(t *testing.T) {
	p := startPost(t)
	port := strconv.Itoa(p.postfix.Submission)
	sent := 0
	check := func(name, out string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			return
		}
		sent++
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		all, err := p.sink.Wait(ctx, sent)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if last := all[len(all)-1]; last.From != "ann@try.test" {
			t.Errorf("%s: envelope sender %q", name, last.From)
		}
	}
	l := p.letter()
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		out, err := p.run("", "swaks", "--server", "127.0.0.1:"+port, "--tls", "--tls-ca-path", p.ca.File, "--auth", mechanism,
			"--auth-user", l.user, "--auth-password", l.password, "--from", l.sender, "--to", l.to, "--h-From", l.from)
		check("swaks "+mechanism, out, err)
		out = p.python(mechanism, l)
		var problem error
		if !strings.Contains(out, "data 250") {
			problem = errors.New("not sent")
		}
		check("python "+mechanism, out, problem)

		out, err = p.run(l.text(), "msmtp", "--host=127.0.0.1", "--port="+port, "--tls", "--tls-trust-file="+p.ca.File, "--auth="+strings.ToLower(mechanism),
			"--user="+l.user, "--passwordeval=echo "+l.password, "--from="+l.sender, l.to)
		check("msmtp "+mechanism, out, err)

		file := filepath.Join(t.TempDir(), "mail")
		if err := os.WriteFile(file, []byte(l.text()), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err = p.run("", "curl", "-sS", "--ssl-reqd", "--cacert", p.ca.File, "smtp://127.0.0.1:"+port, "--user", l.user+":"+l.password,
			"--login-options", "AUTH="+mechanism, "--mail-from", l.sender, "--mail-rcpt", l.to, "-T", file)
		check("curl "+mechanism, out, err)

		rc := filepath.Join(t.TempDir(), "muttrc")
		if err := os.WriteFile(rc, []byte(fmt.Sprintf("set smtp_url=\"smtp://ann%%40try.test@127.0.0.1:%s/\"\nset smtp_pass=\"%s\"\nset smtp_authenticators=\"%s\"\n"+
			"set ssl_ca_certificates_file=\"%s\"\nset ssl_starttls=yes\nset ssl_force_tls=yes\nset ssl_usesystemcerts=no\nset from=\"ann@try.test\"\nset copy=no\nset use_envelope_from=yes\nset envelope_from_address=\"ann@try.test\"\n",
			port, l.password, strings.ToLower(mechanism), p.ca.File)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err = p.run("hello\n", "mutt", "-n", "-F", rc, "-s", "proof", "--", l.to)
		check("mutt "+mechanism, out, err)

		out, err = p.run("hello\n", "s-nail", "-:/", "-Sv15-compat", "-Sttycharset=UTF-8", "-Snosave", "-Smta=smtp://ann%40try.test:"+l.password+"@localhost:"+port,
			"-Ssmtp-use-starttls", "-Stls-ca-file="+p.ca.File, "-Stls-verify=strict", "-Ssmtp-auth="+strings.ToLower(mechanism),
			"-Sfrom=ann@try.test", "-s", "proof", l.to)
		check("s-nail "+mechanism, out, err)
	}
	token := p.letter()
	token.password = p.home.NewToken("ann", time.Now().Add(time.Hour), credential.ScopeSMTP)
	for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
		out := p.python(mechanism, token)
		var problem error
		if !strings.Contains(out, "data 250") {
			problem = errors.New("not sent")
		}
		check("python "+mechanism, out, problem)
	}
	for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
		bad := token
		bad.password = "llat_" + strings.Repeat("A", 43)
		if out := p.python(mechanism, bad); !strings.Contains(out, "auth 535") {
			t.Errorf("%s with a wrong token: %s", mechanism, out)
		}
	}
}

// TestRefusals is the list of what an app password may not.
func TestRefusals(t *testing.T) {
	p := startPost(t)
	good := p.letter()
	with := func(change func(*letter)) letter {
		l := good
		change(&l)
		return l
	}
	for _, c := range []struct {
		name   string
		letter letter
		want   string
	}{
		{"all is well", good, "data 250"},
		{"wrong password", with(func(l *letter) { l.password = "nope" }), "auth 535 5.7.8 Error: authentication failed: Invalid credentials"},
		{"bob with ann's password", with(func(l *letter) { l.user = "bob@try.test" }), "auth 535"},
		{"wrong protocol", with(func(l *letter) { l.password = p.passwords["imap"] }), "auth 535 5.7.8 Error: authentication failed: Invalid credentials"},
		{"right protocol", with(func(l *letter) { l.password = p.passwords["smtp"] }), "data 250"},
		{"wrong network", with(func(l *letter) { l.password = p.passwords["net"] }), "auth 535"},
		{"expired", with(func(l *letter) { l.password = p.passwords["old"] }), "auth 535"},
		{"revoked", with(func(l *letter) { l.password = p.passwords["revoked"] }), "auth 535"},
		{"disabled person", with(func(l *letter) { l.user, l.password = "gone@try.test", p.passwords["gone"] }), "auth 535"},
		{"by an alias, with a name", with(func(l *letter) { l.user = "Team@Try.Test" }), "data 250"},
		{"another's sender", with(func(l *letter) { l.sender = "bob@try.test" }), "mail 553 5.7.1"},
		{"nobody's sender", with(func(l *letter) { l.sender = "nobody@elsewhere.test" }), "mail 553 5.7.1"},
		{"own extension", with(func(l *letter) { l.sender, l.from = "ann+list@try.test", "ann+list@try.test" }), "data 250"},
		{"own alias", with(func(l *letter) { l.sender, l.from = "team@try.test", "Team <team@try.test>" }), "data 250"},
		{"empty sender", with(func(l *letter) { l.sender = "" }), "data 250"},
		{"another's From", with(func(l *letter) { l.from = "bob@try.test" }), "data 550 5.7.1 Message rejected: From: the address is not one that you may send as"},
		{"another's From, empty sender", with(func(l *letter) { l.sender, l.from = "", "bob@try.test" }), "data 550"},
		{"two From", with(func(l *letter) { l.extra = "From: bob@try.test\r\n" }), "data 550 5.7.1 Message rejected: it has more than one From field"},
		{"two From, the second oddly spelt", with(func(l *letter) { l.extra = "fROM : bob@try.test\r\n" }), "data 550"},
		{"a folded second From", with(func(l *letter) { l.extra = "From:\r\n bob@try.test\r\n" }), "data 550"},
		{"another's Sender", with(func(l *letter) { l.extra = "Sender: bob@try.test\r\n" }), "data 550 5.7.1 Message rejected: Sender"},
		{"another's Resent-From", with(func(l *letter) { l.extra = "Resent-From: bob@try.test\r\n" }), "data 550"},
		{"a group", with(func(l *letter) { l.from = "Us: ann@try.test;" }), "data 550"},
		{"hidden in an encoded word", with(func(l *letter) { l.from = "=?utf-8?q?bob=40try.test?= <ann@try.test>" }), "data 550"},
		{"hidden behind NUL", with(func(l *letter) { l.from = "ann@try.test\x00, bob@try.test" }), "data 550"},
		{"unlisted sender of the scanner", with(func(l *letter) {
			l.password, l.to, l.sender = p.passwords["scanner"], "ann@try.test", "team@try.test"
		}), "mail 553"},
		{"empty sender of the scanner", with(func(l *letter) { l.password, l.to, l.sender = p.passwords["scanner"], "ann@try.test", "" }), "mail 553"},
		{"unlisted recipient of the scanner", with(func(l *letter) { l.password = p.passwords["scanner"] }), "rcpt 550 5.7.1"},
		{"unlisted From of the scanner", with(func(l *letter) { l.password, l.to, l.from = p.passwords["scanner"], "ann@try.test", "team@try.test" }), "data 550"},
		{"the scanner, once", with(func(l *letter) { l.password, l.to = p.passwords["scanner"], "ann@try.test" }), "data 250"},
		{"the scanner, twice", with(func(l *letter) { l.password, l.to = p.passwords["scanner"], "ann@try.test" }), "data 250"},
		{"the scanner, once too often", with(func(l *letter) { l.password, l.to = p.passwords["scanner"], "ann@try.test" }), "mail 451 4.7.1"},
		{"to somebody who never signed in", with(func(l *letter) { l.to = "new@try.test" }), "data 250"},
		{"to an alias", with(func(l *letter) { l.to = "team@try.test" }), "data 250"},
		{"to somebody who left", with(func(l *letter) { l.to = "gone@try.test" }), "rcpt 550 5.1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out := p.python("PLAIN", c.letter); !strings.Contains(out, c.want) {
				t.Errorf("want %q:\n%s", c.want, out)
			}
		})
	}
	p.hour.Add(1)
	l := with(func(l *letter) { l.password, l.to = p.passwords["scanner"], "ann@try.test" })
	if out := p.python("PLAIN", l); !strings.Contains(out, "data 250") {
		t.Errorf("the scanner in the next hour:\n%s", out)
	}
	if out := p.swaks("PLAIN", with(func(l *letter) { l.sender = "bob@try.test" })); !strings.Contains(out, "553 5.7.1") {
		t.Errorf("swaks as another:\n%s", out)
	}
	p.home.Revoke("scanner", time.Now())
	p.door.EndCredential("scanner")
	if out := p.python("PLAIN", l); !strings.Contains(out, "auth 535") {
		t.Errorf("a password revoked just now:\n%s", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := p.postfix.WaitLog(ctx, func(s string) bool {
		return strings.Contains(s, "sasl_method=PLAIN, sasl_username=ann+scanner@try.test")
	}); err != nil {
		t.Error(err)
	}
}

// TestSocketmapAlone: the envelope is guarded without the milter, down to the senders of
// one app password.
func TestSocketmapAlone(t *testing.T) {
	p := startPostWith(t, "")
	for _, c := range []struct{ password, sender, from, want string }{
		{"all", "ann@try.test", "bob@try.test", "data 250"}, // that is why there is a milter
		{"all", "ann+x@try.test", "ann@try.test", "data 250"},
		{"all", "TEAM@try.test", "ann@try.test", "data 250"},
		{"all", "bob@try.test", "ann@try.test", "rcpt 553 5.7.1 <bob@try.test>: Sender address rejected: not owned by user ann@try.test"},
		{"all", "nobody@elsewhere.test", "ann@try.test", "rcpt 553 5.7.1"},
		{"all", "gone@try.test", "ann@try.test", "rcpt 553 5.7.1"},
		{"scanner", "ann@try.test", "ann@try.test", "data 250"},
		{"scanner", "team@try.test", "ann@try.test", "rcpt 553 5.7.1 <team@try.test>: Sender address rejected: not owned by user ann+scanner@try.test"},
		{"bob", "ann@try.test", "ann@try.test", "rcpt 553 5.7.1"},
	} {
		l := letter{user: "ann@try.test", password: p.passwords[c.password], sender: c.sender, from: c.from, to: "ann@try.test"}
		if c.password == "bob" {
			l.user = "bob@try.test"
		}
		if out := p.python("PLAIN", l); !strings.Contains(out, c.want) {
			t.Errorf("%s as %s: want %q:\n%s", c.password, c.sender, c.want, out)
		}
	}
	session := p.dialogue()
	p.home.SetAway(true)
	session.say("MAIL FROM:<ann@try.test>", "250")
	session.say("RCPT TO:<friend@elsewhere.test>", "451 4.3.0")
	p.home.SetAway(false)
}

// TestOutages: what is not our no is never Postfix's no.
func TestOutages(t *testing.T) {
	p := startPost(t)
	l := p.letter()
	expect := func(when, want string) {
		t.Helper()
		if out := p.python("PLAIN", l); !strings.Contains(out, want) || strings.Contains(out, "535") {
			t.Errorf("%s, want %q:\n%s", when, want, out)
		}
	}
	expect("at first", "data 250")
	p.home.SetAway(true)
	p.door.Changed() // what is known is old now, and the grace is over
	expect("store away", "auth 454 4.7.0")
	p.home.SetAway(false)
	expect("store back", "data 250")

	p.stopSASL()
	expect("socket gone under running smtpds", "auth 454 4.7.0")
	p.startSASL()
	expect("socket there again", "data 250")

	// A socket that its unit holds: who asks while nobody answers waits for the new
	// instance and notices nothing.
	p.stopSASL()
	listener := p.socket("letterlock-auth").(*net.UnixListener)
	listener.SetUnlinkOnClose(false)
	held, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	p.serveSASL(listener)
	expect("a held socket", "data 250")
	p.stopSASL()
	said := make(chan string)
	go func() { said <- p.python("PLAIN", l) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before, seen := len(p.postfix.Log()), 0
	if _, err := p.postfix.WaitLog(ctx, func(string) bool { seen++; return seen > before }); err != nil {
		t.Fatal(err)
	}
	again, err := net.FileListener(held)
	if err != nil {
		t.Fatal(err)
	}
	p.serveSASL(again)
	if out := <-said; !strings.Contains(out, "data 250") && !strings.Contains(out, "auth 454") || strings.Contains(out, "535") {
		t.Errorf("restart behind a held socket:\n%s", out)
	}
	expect("after it", "data 250")
}

// TestSendersAway: the maps and the milter defer when the store goes between sign-in and
// message.
func TestSendersAway(t *testing.T) {
	p := startPost(t)
	session := p.dialogue()
	session.say("MAIL FROM:<ann@try.test>", "250")
	session.say("RCPT TO:<friend@elsewhere.test>", "250")
	session.say("RSET", "250")
	p.home.SetAway(true)
	session.say("MAIL FROM:<ann@try.test>", "451 4.3.0")
	p.home.SetAway(false)
	session.say("MAIL FROM:<ann@try.test>", "250")
	p.home.SetAway(true)
	session.say("RCPT TO:<friend@elsewhere.test>", "451")
	p.home.SetAway(false)
	session.say("RCPT TO:<friend@elsewhere.test>", "250")
	session.say("DATA", "354")
	p.home.SetAway(true)
	session.say("From: ann@try.test\r\n\r\nhello\r\n.", "451 4.3.0")
	p.home.SetAway(false)
	session.say("MAIL FROM:<ann@try.test>", "250")
	session.say("RCPT TO:<friend@elsewhere.test>", "250")
	session.say("DATA", "354")
	session.say("From: ann@try.test\r\n\r\nhello\r\n.", "250")
}

// TestRecipientsOnPort25 is mail from outside: no sign-in, and no milter.
func TestRecipientsOnPort25(t *testing.T) {
	p := startPost(t)
	service := "127.0.0.1:" + strconv.Itoa(p.postfix.SMTP) + "/inet/smtpd_milters="
	if out, err := p.run("", "postconf", "-c", p.postfix.Dir, "-P", service); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := syscall.Kill(p.postfix.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := p.postfix.WaitLog(ctx, func(s string) bool { return strings.Contains(s, "reload --") }); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"ann@try.test": "250", "ann+x@try.test": "250", "new@try.test": "250", "team@try.test": "250",
		"gone@try.test": "550 5.1.1", "nobody@try.test": "550 5.1.1", "friend@elsewhere.test": "554 5.7.1",
	} {
		out, _ := p.run("", "swaks", "--server", "127.0.0.1:"+strconv.Itoa(p.postfix.SMTP), "--from", "friend@elsewhere.test", "--to", to, "--quit-after", "RCPT")
		found := false
		for line := range strings.Lines(out) {
			found = found || strings.HasPrefix(strings.TrimLeft(line, "<-*~ "), want) && !strings.Contains(line, "mail.try.test") && !strings.Contains(line, "2.0.0 Bye")
		}
		if !found || !strings.Contains(out, "RCPT TO") {
			t.Errorf("%s, want %s:\n%s", to, want, out)
		}
	}
}
