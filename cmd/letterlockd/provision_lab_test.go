//go:build lab

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
)

const scimToken = "lab-scim-token-0123456789abcdef0123456789"

// provisioned is a site where people come from imports and a directory: Postfix asks
// letterlockd for mailboxes and aliases, Dovecot takes mail by LMTP for those whom its
// userdb, the view file, knows, and a hook is told of everybody.
func provisioned(t *testing.T) (s *site, scim, told string) {
	t.Helper()
	ports := freePorts(t, 2)
	lmtp := ports[0]
	s = newSite(t)
	s.change = func(o *lab.DovecotOptions) {
		s.write("userdb.ext", "driver = sqlite\nconnect = "+s.folder+"/mail.db\nuser_query = SELECT username AS user FROM dovecot_userdb WHERE login = '%Lu'\n", 0o600)
		o.Userdb = "userdb {\n  driver = sql\n  args = " + s.folder + "/userdb.ext\n  default_fields = uid=@uid@ gid=@gid@ home=@dir@/mail/%u\n}"
		o.Extra += fmt.Sprintf("protocols = imap pop3 submission lmtp\nrecipient_delimiter = +\nservice lmtp {\n  inet_listener lmtp {\n    address = 127.0.0.1\n    port = %d\n  }\n}\n", lmtp)
	}
	s.start()
	told = filepath.Join(s.folder, "told")
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	s.write("scim.token", scimToken+"\n", 0o600)
	s.write("letterlockd.toml", string(conf)+fmt.Sprintf("[scim]\ntoken_file = \"%[1]s/scim.token\"\nlisten = \"127.0.0.1:%[2]d\"\n[hook]\ncommand = [\"/usr/bin/tee\", \"-a\", \"%[3]s\"]\n", s.folder, ports[1], told), 0o644)
	// A list that takes everybody, and delivery by Dovecot: what config postfix finds there.
	s.shell(fmt.Sprintf("postconf -e virtual_mailbox_maps= 'virtual_transport=lmtp:inet:127.0.0.1:%d' lmtp_tls_security_level=none\npostfix reload", lmtp))
	before := s.mainCF()
	undo := s.switchPostfix("--recipients")
	s.shell(undo)
	if after := s.mainCF(); after != before {
		t.Fatalf("the way back leads elsewhere: from\n%s\nto\n%s", before, after)
	}
	s.switchPostfix("--recipients")
	return s, fmt.Sprintf("http://127.0.0.1:%d/scim/v2", ports[1]), told
}

// directory asks as a directory does.
func (s *site) directory(method, url, body string, status int) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+scimToken)
	req.Header.Set("Content-Type", "application/scim+json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		s.t.Fatalf("%s %s: %d %s %v", method, url, res.StatusCode, text, err)
	}
	return string(text)
}

// arrive brings mail from outside, as another mail server does, and returns the reply to
// the recipient, or else to the message, which id names.
func (s *site) arrive(to, id string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.postfix.SMTP)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testPatience)); err != nil {
		s.t.Fatal(err)
	}
	c := &talk{s.t, bufio.NewReader(conn), conn}
	if got := c.reply(); !strings.HasPrefix(got, "220") {
		return got
	}
	for _, step := range []struct{ line, want string }{
		{"EHLO elsewhere.test", "250"}, {"MAIL FROM:<sender@elsewhere.test>", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"},
	} {
		if got := c.say(step.line); !strings.HasPrefix(got, step.want) {
			return got
		}
	}
	return c.say("From: sender@elsewhere.test\r\nTo: " + to + "\r\nSubject: proof\r\nMessage-ID: <" + id + "@elsewhere.test>\r\n\r\nhello\r\n.")
}

// saved waits until Dovecot has saved the message that id names, and looks for it on disk.
func (s *site) saved(mailbox, id string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	if _, err := s.dovecot.WaitLog(ctx, func(line string) bool {
		return strings.Contains(line, "lmtp("+mailbox+")") && strings.Contains(line, "msgid=<"+id+"@elsewhere.test>: saved mail")
	}); err != nil {
		s.t.Fatalf("%s: %s not delivered: %v", mailbox, id, err)
	}
	all, err := s.dovecot.Inbox(mailbox)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, message := range all {
		if strings.Contains(string(message), "<"+id+"@elsewhere.test>") {
			return
		}
	}
	s.t.Errorf("%s: %q is not among %d messages", mailbox, id, len(all))
}

// Mail is delivered to people who were imported, or made by a directory, and have never
// signed in; who is deactivated is refused everywhere at once, and is back when activated.
func TestProvisionedPeople(t *testing.T) {
	s, scim, told := provisioned(t)
	s.serve()
	s.write("people.csv", "address,name\nann@try.test,Ann\n", 0o600)
	s.write("people.json", `[{"address":"bob@try.test","name":"Bob"}]`, 0o600)
	s.run("person", "import", filepath.Join(s.folder, "people.csv"))
	s.run("person", "import", filepath.Join(s.folder, "people.json"))
	const schema = `"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]`
	made := s.directory("POST", scim+"/Users", `{`+schema+`,"userName":"Carl@try.test","displayName":"Carl"}`, http.StatusCreated)
	carl := scim + "/Users/" + regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(made)[1]
	s.run("address", "alias", "team@try.test", "ann@try.test", "carl@try.test")
	for _, c := range []struct{ to, mailbox, id string }{{"ann@try.test", "ann@try.test", "first-ann"}, {"Bob+Shop@try.test", "bob@try.test", "first-bob"}, {"carl@try.test", "carl@try.test", "first-carl"}} {
		s.want("mail for "+c.to, s.arrive(c.to, c.id), "250")
		s.saved(c.mailbox, c.id)
	}
	s.want("mail for nobody", s.arrive("nobody@try.test", "x"), "550")

	// Carl gets a device; then the directory deactivates him.
	phone := strings.TrimSpace(s.run("credential", "make", "carl@try.test", "--label", "phone"))
	idle, got := s.imap("carl@try.test", phone)
	s.want("IMAP", got, "a OK")
	s.want("select", idle.say("b SELECT INBOX"), "b OK")
	s.want("idle", idle.say("c IDLE"), "+")
	s.want("SMTP", s.submit("carl@try.test", phone, "carl@try.test", "carl@try.test", "ann@try.test"), "250")
	p := takePace(t)
	patch := func(active string) {
		t.Helper()
		s.directory("PATCH", carl, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Replace","path":"active","value":"`+active+`"}]}`, http.StatusOK)
	}
	patch("False")
	if got := idle.reply(); got != "closed" && !strings.HasPrefix(got, "* BYE") {
		t.Errorf("the open session heard %q", got)
	}
	p.within(10*time.Second, "the open session ended")
	s.want("mail while deactivated", s.arrive("carl@try.test", "x"), "550")
	s.want("SMTP while deactivated", s.submit("carl@try.test", phone, "carl@try.test", "carl@try.test", "ann@try.test"), "535")
	_, got = s.imap("carl@try.test", phone)
	s.want("IMAP while deactivated", got, "a NO")
	if out := s.run("person", "show", "carl@try.test"); !strings.Contains(out, "disabled") {
		t.Errorf("person show: %s", out)
	}
	s.want("an alias goes on for the others", s.arrive("team@try.test", "team"), "250")
	s.saved("ann@try.test", "team")

	patch("True")
	_, got = s.imap("carl@try.test", phone)
	s.want("IMAP once active again", got, "a OK")
	s.want("mail once active again", s.arrive("carl@try.test", "second"), "250")
	s.saved("carl@try.test", "second")
	s.directory("DELETE", carl, "", http.StatusNoContent)
	s.want("mail once deleted", s.arrive("carl@try.test", "x"), "550")
	_, got = s.imap("carl@try.test", phone)
	s.want("IMAP once deleted", got, "a NO")

	s.wait(`msg="hook ran" event=person.removed`)
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, m := range regexp.MustCompile(`"kind":"([^"]+)","actor":"([a-z]+)`).FindAllStringSubmatch(string(text), -1) {
		kinds = append(kinds, m[1]+"/"+m[2])
	}
	want := "person.added/shell person.added/shell person.added/scim address.changed/shell person.disabled/scim person.enabled/scim person.removed/scim"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("the hook was told %s, want %s", got, want)
	}
	if strings.Contains(string(text)+strings.Join(s.process.Log(), "\n"), scimToken) {
		t.Error("the directory's token stands in the log, or was told to the hook")
	}
	s.suspendedLater()
}

// suspendedLater: by the other setting, mail for who is disabled waits with its sender.
func (s *site) suspendedLater() {
	s.t.Helper()
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process.Stop()
	s.write("letterlockd.toml", strings.Replace(string(conf), "[postfix]\n", "[postfix]\nsuspended = \"later\"\n", 1), 0o644)
	s.run("person", "disable", "bob@try.test")
	s.serve()
	got := ""
	for deadline := time.Now().Add(testPatience); !strings.HasPrefix(got, "250") && time.Now().Before(deadline); {
		got = s.arrive("ann@try.test", "back") // an smtpd finds the daemon again
	}
	s.want("mail once the daemon is back", got, "250")
	s.want("mail for who is disabled", s.arrive("bob@try.test", "x"), "451")
	s.want("mail for nobody", s.arrive("nobody@try.test", "x"), "550")

	// Behind a list that was there, which stays.
	s.postconf("-e", "virtual_mailbox_maps=inline:{{old@try.test=old}}")
	s.switchPostfix("--recipients")
	s.want("mail for a mailbox of before", s.arrive("old@try.test", "old"), "250")
	s.want("mail for a person, behind a list", s.arrive("ann@try.test", "behind"), "250")
	s.saved("ann@try.test", "behind")
	s.want("mail for nobody, behind a list", s.arrive("nobody@try.test", "x"), "550")
}

// signOutUpstream signs the browser out at the provider, which says so by itself: the
// session that came of that browser ends here, and the other one stays.
func (d *desk) signOutUpstream(ctx context.Context, b *browser.Browser, op *lab.OP) {
	d.t.Helper()
	do(ctx, d.t, b,
		func() error { return b.Open(ctx, op.Issuer+"/session/end") },
		func() error { return b.Click(ctx, `button[name="logout"]`) },
	)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, sessions, _ := d.person(lab.Alice().Email)
		if len(sessions) == 1 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("the provider's logout ended nothing: %d sessions\n%s", len(sessions), strings.Join(op.Log(), "\n"))
		}
	}
	if trail := d.must("audit", "list", "--kind", "session.ended"); !strings.Contains(trail, "one session there") {
		d.t.Errorf("audit trail: %s", trail)
	}
}

// askedAgain asks the provider by the refresh token that was kept at the last sign-in, twice,
// for it rotates; then the provider ends the grant.
func (d *desk) askedAgain(ctx context.Context, op *lab.OP) {
	d.t.Helper()
	l := &plan{conf: d.p.conf, db: d.p.db, log: slog.New(slog.DiscardHandler), now: time.Now}
	asker, err := l.asker(d.p, "campus")
	if err != nil {
		d.t.Fatal(err)
	}
	bindings, err := d.p.db.BindingsAt(ctx, op.Issuer, "", 10)
	if err != nil || len(bindings) != 1 {
		d.t.Fatalf("%+v %v", bindings, err)
	}
	ask := func(what string, want membership.State) {
		d.t.Helper()
		answers, err := asker.Ask(ctx, bindings)
		if err != nil || answers[lab.Alice().Subject].State != want {
			d.t.Errorf("%s: %+v, %v", what, answers, err)
		}
	}
	before, err := d.p.db.Sealed(ctx, op.Issuer, lab.Alice().Subject)
	if err != nil {
		d.t.Fatal(err)
	}
	ask("a member", membership.Member)
	ask("a member still", membership.Member)
	after, err := d.p.db.Sealed(ctx, op.Issuer, lab.Alice().Subject)
	if err != nil || string(after.Sealed) == string(before.Sealed) {
		d.t.Errorf("the token was not rotated: %v", err)
	}
	if n, err := op.Revoke(ctx, lab.Alice().Email); err != nil || n == 0 {
		d.t.Fatalf("revoke: %d %v", n, err)
	}
	ask("a grant that was ended", membership.Unknown)
	if _, err := d.p.db.Sealed(ctx, op.Issuer, lab.Alice().Subject); !errors.Is(err, identity.ErrNotFound) {
		d.t.Errorf("a spent token is kept: %v", err)
	}
}
