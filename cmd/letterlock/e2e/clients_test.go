//go:build lab

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A client is a mail program that is run with what setup printed for it, and with no
// other configuration.
type client struct {
	program  string // as setup calls it
	via      string // "token", "tunnel"
	startTLS bool
	// methods are the SASL mechanisms that Dovecot's log must show, each at least
	// once, and no other.
	methods []string
	// run makes the program fetch the message in the inbox or send one. The setup's
	// text is in its file already.
	run func(*desk)
}

func (c client) name() string {
	name := c.program
	if c.via == "tunnel" {
		name += "-tunnel"
	}
	if c.startTLS {
		name += "-starttls"
	}
	return name
}

// A desk is a person at a computer of their own with one account.
type desk struct {
	*testing.T
	*home
	site   *site
	who    lab.Person
	what   client
	file   string // where the configuration was written
	inbox  []byte // the message that waits in the mailbox
	sentTo string // an address of this desk alone
}

// TestClients lets every program fetch or send one real message.
func TestClients(t *testing.T) {
	all := slices.Concat(readers(), senders(), tunnels(), interactive())
	runClients(t, newSite(t, lab.OPOptions{People: peopleFor(all)}), all, nil)
}

// TestXOAUTH2Alone is a server that offers nothing else, as Microsoft's do: setup has
// to be told by the configuration, and no program may try OAUTHBEARER.
func TestXOAUTH2Alone(t *testing.T) {
	var some []client
	for _, c := range slices.Concat(readers(), senders(), tunnels(), interactive()) {
		if !c.startTLS && !slices.Equal(c.methods, []string{"XOAUTH2"}) {
			c.methods = []string{"XOAUTH2"}
			some = append(some, c)
		}
	}
	s := newSite(t, lab.OPOptions{People: peopleFor(some)}, func(o *lab.DovecotOptions) { o.Mechanisms = "xoauth2" })
	runClients(t, s, some, func(d *desk) {
		d.file = d.path("~/.config/letterlock/config.toml")
		data, err := os.ReadFile(d.file)
		if err != nil {
			d.Fatal(err)
		}
		section := regexp.MustCompile(`(?m)^\[provider\..*\]$`)
		if !section.Match(data) {
			d.Fatalf("no provider in\n%s", data)
		}
		d.write(d.file, section.ReplaceAllString(string(data), "$0\nmechanisms = [\"XOAUTH2\"]"))
	})
}

// TestLongTokens uses tokens as long as Microsoft's often are. Programs that cannot take
// them get in through the tunnel, and setup says so. Sending is left to those that wait
// with the token for the server's go-ahead: Dovecot's submission service refuses an
// AUTH line of that length.
func TestLongTokens(t *testing.T) {
	var some []client
	for _, c := range slices.Concat(readers(), tunnels(), interactive()) {
		if c.program == "mutt" {
			c.run = readWithMutt
		}
		limited := c.via == "token" && (c.program == "neomutt" || c.program == "aerc")
		if !c.startTLS && !limited {
			some = append(some, c)
		}
	}
	s := newSite(t, lab.OPOptions{People: append(peopleFor(some), lab.Alice()), TokenBits: 12288})
	runClients(t, s, some, nil)
	h := newHome(t)
	h.signIn(s, lab.Alice())
	for program, remedy := range map[string]string{"neomutt": "--via tunnel", "s-nail": "use another program"} {
		if r := h.letterlock("setup", program, lab.Alice().Email); r.code != 0 || !strings.Contains(r.stderr, "2048 bytes") || !strings.Contains(r.stderr, remedy) {
			t.Errorf("setup %s: %v", program, r)
		}
	}
}

func peopleFor(all []client) []lab.Person {
	var people []lab.Person
	for i, c := range all {
		people = append(people, person(c.name(), i))
	}
	return people
}

// runClients is one subtest for each. prepare is called between sign-in and setup.
func runClients(t *testing.T, s *site, all []client, prepare func(*desk)) {
	t.Helper()
	people := peopleFor(all)
	for i, c := range all {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, s, people[i], c)
			if prepare != nil {
				prepare(d)
			}
			d.setup(c.program, c.via)
			c.run(d)
			d.checkLogins(c.methods)
			d.checkSecrets()
		})
	}
}

// newDesk puts a message into somebody's mailbox and signs them in.
func newDesk(t *testing.T, s *site, who lab.Person, c client) *desk {
	t.Helper()
	d := &desk{T: t, home: newHome(t), site: s, who: who, what: c, sentTo: "to-" + who.Name + "@elsewhere.test"}
	d.ordinary()
	d.inbox = []byte("From: Carol <carol@elsewhere.test>\nTo: " + who.Email + "\nSubject: letter for " + who.Name +
		"\nDate: Sat, 21 Nov 2026 10:00:00 +0000\nMessage-ID: <1." + who.Name + "@elsewhere.test>\nMIME-Version: 1.0\n" +
		"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nFür " + who.Name + ":\n.\nthe line above has one dot\n..and two\n")
	if err := s.dovecot.Put(who.Email, d.inbox); err != nil {
		t.Fatal(err)
	}
	var more []string
	if c.startTLS {
		more = s.startTLS()
	}
	d.signIn(s, who, more...)
	return d
}

// programName is the program as setup calls it.
func (d *desk) programName() string { return d.what.program }

// setup writes what letterlock setup prints into the file that it names.
func (d *desk) setup(program, via string) string {
	d.Helper()
	r := d.letterlock("setup", program, d.who.Email, "--via", via)
	if r.code != 0 {
		d.Fatalf("setup: %v", r)
	}
	named := regexp.MustCompile(`(?m)^for (.*?) \(`).FindStringSubmatch(r.stderr)
	if named == nil {
		d.Fatalf("setup named no file: %v", r)
	}
	file := named[1]
	if !strings.HasPrefix(file, "~/") { // "a shell", "a script"
		file = "~/script"
	}
	d.file = d.write(file, r.stdout)
	return r.stdout
}

// append adds to the configuration what a person has to write by hand.
func (d *desk) append(text string) {
	d.Helper()
	data, err := os.ReadFile(d.file)
	if err != nil {
		d.Fatal(err)
	}
	d.write(d.file, string(data)+text)
}

// checkLogins reads in Dovecot's log how the program got in.
func (d *desk) checkLogins(want []string) {
	d.Helper()
	line := regexp.MustCompile(`Login: user=<` + regexp.QuoteMeta(d.who.Email) + `>, method=([^,]*),.*(TLS)`)
	// The line was written before the program got in; it may still be on its way.
	ctx := within(d)
	for _, method := range want {
		if _, err := d.site.dovecot.WaitLog(ctx, func(s string) bool {
			m := line.FindStringSubmatch(s)
			return m != nil && m[1] == method
		}); err != nil {
			d.Errorf("no login by %s: %v", method, err)
		}
	}
	for _, s := range d.site.dovecot.Log() {
		if m := regexp.MustCompile(`Login: user=<` + regexp.QuoteMeta(d.who.Email) + `>, method=([^,]*),`).FindStringSubmatch(s); m != nil {
			if !slices.Contains(want, m[1]) || !line.MatchString(s) {
				d.Errorf("a login that should not be: %s", s)
			}
		}
	}
}

// checkSecrets looks for token and password in everything the program and letterlock
// have left in the home.
func (d *desk) checkSecrets() {
	d.Helper()
	if files := found(d, d.dir, d.token(d.who.Email), d.who.Password); files != nil {
		d.Errorf("a secret is readable in %v", files)
	}
}

// program runs one of the mail programs, which has to succeed.
func (d *desk) program(stdin, name string, args ...string) result {
	d.Helper()
	start := time.Now()
	r := d.run(stdin, name, args...)
	d.Logf("%s took %v", name, time.Since(start).Round(time.Millisecond))
	if r.code != 0 {
		d.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return r
}

// folders makes what a program wants to find.
func (d *desk) folders(names ...string) {
	d.Helper()
	for _, name := range names {
		d.mkdir(name)
	}
}

// maildir makes ~/Mail/ACCOUNT as a maildir, and returns it.
func (d *desk) maildir() string {
	d.Helper()
	dir := "~/Mail/" + d.who.Email
	d.folders(dir+"/cur", dir+"/new", dir+"/tmp")
	return d.path(dir)
}

// fetched compares the only message in the maildirs below a folder with the one in
// the mailbox.
func (d *desk) fetched(dir string) {
	d.Helper()
	var files []string
	for _, pattern := range []string{"cur/*", "new/*", "*/cur/*", "*/new/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			d.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) != 1 {
		d.Fatalf("%d messages were fetched: %v", len(files), files)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		d.Fatal(err)
	}
	d.same(data)
}

// fetchedFile compares a file that holds the message, perhaps as the last of an mbox:
// alpine begins one with a message of its own.
func (d *desk) fetchedFile(file string) {
	d.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		d.Fatal(err)
	}
	if last := bytes.LastIndex(data, []byte("\n\nFrom ")); last >= 0 {
		data = data[last+2:]
	}
	d.same(data)
}

// same compares a message with the one in the mailbox: the body to the byte, but for
// line ends and an empty last line; the header may have got more fields.
func (d *desk) same(got []byte) {
	d.Helper()
	head, body := split(got)
	wantHead, wantBody := split(d.inbox)
	if strings.TrimRight(body, "\n") != strings.TrimRight(wantBody, "\n") {
		d.Errorf("the body is\n%q\nnot\n%q", body, wantBody)
	}
	for line := range strings.SplitSeq(wantHead, "\n") {
		if !slices.Contains(strings.Split(head, "\n"), line) {
			d.Errorf("%q is not in the header\n%s", line, head)
		}
	}
}

func split(message []byte) (head, body string) {
	text := string(bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n")))
	head, body, _ = strings.Cut(text, "\n\n")
	return head, body
}

// subject and text are what the programs are made to send.
func (d *desk) subject() string { return "sent by " + d.who.Name }

func (d *desk) text() string {
	return "from " + d.who.Name + "\n.\nthe line above has one dot\n..and two\n"
}

// letter is a whole message for programs that take one.
func (d *desk) letter() string {
	return "From: " + d.who.Email + "\nTo: " + d.sentTo + "\nSubject: " + d.subject() + "\nDate: Sat, 21 Nov 2026 11:00:00 +0000\nMessage-ID: <2." + d.who.Name + "@try.test>\n\n" + d.text()
}

// delivered waits for what the program sent to come out at the far end.
func (d *desk) delivered() (head, body string) {
	d.Helper()
	ctx := within(d)
	var got *lab.Delivered
	for n := 1; got == nil; n++ {
		all, err := d.site.sink.Wait(ctx, n)
		if err != nil {
			d.Fatal(err)
		}
		n = len(all)
		if i := slices.IndexFunc(all, func(m lab.Delivered) bool { return m.From == d.who.Email }); i >= 0 {
			got = &all[i]
		}
	}
	head, body = split(got.Data)
	if !slices.Equal(got.To, []string{d.sentTo}) {
		d.Errorf("the envelope is from %s to %v", got.From, got.To)
	}
	if !slices.ContainsFunc(strings.Split(head, "\n"), func(l string) bool { return strings.HasPrefix(l, "Subject: ") && strings.HasSuffix(l, d.subject()) }) {
		d.Errorf("the header is\n%s", head)
	}
	return head, body
}

// sent compares what the program sent with the text it was given.
func (d *desk) sent() {
	d.Helper()
	if _, body := d.delivered(); strings.TrimRight(body, "\n") != strings.TrimRight(d.text(), "\n") {
		d.Errorf("the body is\n%q\nnot\n%q", body, d.text())
	}
}

// sentPatch is sent for git: the text is followed by the patch.
func (d *desk) sentPatch() {
	d.Helper()
	if _, body := d.delivered(); !strings.HasPrefix(body, d.text()+"---\n") || !strings.Contains(body, "\n+content\n") {
		d.Errorf("the body is\n%q", body)
	}
}
