//go:build lab

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// debianSubmission is what Debian's master.cf has for submission, once the comment signs
// are taken away.
const debianSubmission = `syslog_name=postfix/submission
smtpd_tls_security_level=encrypt
smtpd_sasl_auth_enable=yes
smtpd_tls_auth_only=yes
smtpd_reject_unlisted_recipient=no
smtpd_client_restrictions=
smtpd_helo_restrictions=
smtpd_sender_restrictions=
smtpd_relay_restrictions=
smtpd_recipient_restrictions=permit_sasl_authenticated,reject
milter_macro_daemon_name=ORIGINATING`

// sqlSite is PostgreSQL, a Dovecot and a Postfix with a chroot and Debian's options, and
// letterlockd that is never started. The two were there before; the files come later, and a
// reload.
func sqlSite(t *testing.T) (*site, *lab.Postgres) {
	t.Helper()
	s := newSite(t)
	s.write("hba.conf", "local all all peer\nhost all postgres,letterlock 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n", 0o644)
	pg := lab.RunPostgres(t, lab.PostgresOptions{Settings: []string{"hba_file = '" + filepath.Join(s.folder, "hba.conf") + "'"}})
	for _, text := range []string{`CREATE ROLE letterlock LOGIN; CREATE ROLE dovecot LOGIN PASSWORD 'dove-sql'; CREATE ROLE postfix LOGIN PASSWORD 'post-sql'`, `CREATE DATABASE mail OWNER letterlock`} {
		if _, err := pg.SQL(t.Context(), "postgres", text); err != nil {
			t.Fatal(err)
		}
	}
	s.write("dovecot.password", "dove-sql\n", 0o600)
	s.write("postfix.password", "post-sql\n", 0o600)
	s.write("letterlockd.toml", fmt.Sprintf("domains = [\"try.test\", \"own.test\"]\n[database]\nurl = \"postgres://letterlock@127.0.0.1:%d/mail?sslmode=disable\"\n[web]\nmaster_key_file = \"%s/master.key\"\n", pg.Port, s.folder), 0o644)
	s.run("migrate", "--dovecot-role", "dovecot", "--postfix-role", "postfix")

	dove := filepath.Join(s.folder, "dovecot")
	if err := os.MkdirAll(filepath.Join(dove, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("dovecot/users", "carol@try.test:{PLAIN}old-login\n", 0o644)
	lmtp := freePorts(t, 1)[0]
	s.dovecot = lab.RunDovecot(t, lab.DovecotOptions{CA: s.ca, Introspection: "-", Mechanisms: "plain login", Extra: fmt.Sprintf(
		"!include_try %[1]s/conf.d/05-letterlock.conf\npassdb {\n  driver = passwd-file\n  mechanisms = plain login\n  args = %[1]s/users\n}\n!include_try %[1]s/conf.d/95-letterlock.conf\n"+
			"auth_failure_delay = 0\nprotocols = imap pop3 submission lmtp\nservice lmtp {\n  inet_listener lmtp {\n    address = 127.0.0.1\n    port = %[2]d\n  }\n}\n", dove, lmtp)})
	s.postfix = lab.RunPostfix(t, lab.PostfixOptions{CA: s.ca, Dovecot: s.dovecot, SASLPath: "private/letterlock-auth", Mailboxes: []string{"carol@try.test"}, Domains: []string{"try.test", "own.test"},
		Main: fmt.Sprintf("virtual_transport = lmtp:inet:127.0.0.1:%d\nservice_throttle_time = 1s\nsmtpd_error_sleep_time = 0", lmtp)})
	set := []string{"-P"}
	for option := range strings.Lines(debianSubmission) {
		for _, service := range []string{s.service(s.postfix.Submission), s.service(s.postfix.Subs)} {
			if option = strings.TrimSpace(option); !strings.HasPrefix(option, "smtpd_tls_security") || service == s.service(s.postfix.Submission) {
				set = append(set, service+"/"+option)
			}
		}
	}
	s.postconf(set...)
	s.postconf("-F", s.service(s.postfix.Submission)+"/chroot=y", s.service(s.postfix.Subs)+"/chroot=y")
	return s, pg
}

func (s *site) service(port int) string { return fmt.Sprintf("127.0.0.1:%d/inet", port) }

// reloadDovecot makes Dovecot read its files again, and waits until it takes connections of
// Postfix.
func (s *site) reloadDovecot(socket string) {
	s.t.Helper()
	if err := syscall.Kill(s.dovecot.Pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(testPatience); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %s after the reload: %v", socket, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// All of point 1 that SQL can do, with letterlockd stopped: Dovecot by driver = pgsql and
// Postfix by proxy:pgsql:, as printed, and what it cannot do is refused.
func TestBySQLAlone(t *testing.T) {
	s, pg := sqlSite(t)
	const ann, bob, left = "ann@try.test", "bob@try.test", "left@try.test"
	for _, args := range [][]string{{"person", "add", ann}, {"person", "add", bob}, {"person", "add", "new@try.test"}, {"person", "add", left},
		{"address", "grant", "sales@try.test", ann}, {"address", "alias", "info@try.test", ann}, {"address", "grant", "@own.test", bob}} {
		s.run(args...)
	}
	laptop := s.make(ann, "laptop")
	phone := s.make(ann, "phone")
	shop := s.make(ann, "shop", "--sender", "sales@try.test")
	reader := s.make(ann, "reader", "--protocol", "imap")
	sender := s.make(ann, "sender", "--protocol", "smtp")
	office := s.make(ann, "office", "--network", "192.0.2.0/24")
	home := s.make(ann, "home", "--network", "127.0.0.0/8")
	scanner := s.make(ann, "scanner", "--recipient", ann)
	hourly := s.make(ann, "hourly", "--per-hour", "5")
	old := s.make(ann, "old", "--expires", "1s")
	expired := time.Now().Add(2 * time.Second)
	lost := s.make(ann, "lost")
	bobs := s.make(bob, "laptop")
	gone := s.make(left, "laptop")
	s.run("credential", "revoke", ann, "lost")
	s.run("person", "disable", left)

	before := s.services() + s.mainCF()
	socket := filepath.Join(s.postfix.Dir, "queue/private/letterlock-auth")
	s.run("config", "dovecot", "--sql-only", "--write", "--config-dir", filepath.Join(s.folder, "dovecot"), "--sql-password-file", filepath.Join(s.folder, "dovecot.password"), "--postfix-socket", socket)
	s.reloadDovecot(socket)
	script := s.run("config", "postfix", "--sql", "--config-dir", s.postfix.Dir, "--sql-password-file", filepath.Join(s.folder, "postfix.password"))
	s.shell(script)
	_, back, _ := strings.Cut(script, "# The way back to what stands there today:\n")
	<-time.After(time.Until(expired))

	for _, c := range []struct{ what, name, password, sender, to, want string }{
		{"own sender", ann, laptop, ann, bob, "250"},
		{"by the label", "ann+phone@try.test", phone, ann, bob, "250"},
		{"in capitals", "Ann@Try.Test", laptop, "ANN@try.test", bob, "250"},
		{"with an extension", ann, laptop, "ann+shop@try.test", bob, "250"},
		{"an address with the role", ann, laptop, "sales@try.test", bob, "250"},
		{"another's sender", ann, laptop, bob, bob, "553"},
		{"a stranger's sender", ann, laptop, "ceo@bank.example", bob, "553"},
		{"the sender of one who left", ann, laptop, left, bob, "553"},
		{"the same by the owner of all else", bob, bobs, "any@own.test", ann, "250"},
		{"not hers", ann, laptop, "any@own.test", ann, "553"},
		{"the one sender of an app password", "ann+shop@try.test", shop, "sales@try.test", bob, "250"},
		{"no other sender of it", "ann+shop@try.test", shop, ann, bob, "553"},
		{"for sending", "ann+sender@try.test", sender, ann, bob, "250"},
		{"for reading", "ann+reader@try.test", reader, ann, bob, "535"},
		{"from another network", "ann+office@try.test", office, ann, bob, "535"},
		{"from its network", "ann+home@try.test", home, ann, bob, "250"},
		{"limited in recipients", "ann+scanner@try.test", scanner, ann, ann, "535"},
		{"limited in rate", "ann+hourly@try.test", hourly, ann, ann, "535"},
		{"expired", "ann+old@try.test", old, ann, ann, "535"},
		{"revoked", "ann+lost@try.test", lost, ann, ann, "535"},
		{"of one who left", left, gone, left, ann, "535"},
		{"another's password", bob, laptop, bob, ann, "535"},
		{"a quote", "x' OR '1'='1", laptop, ann, ann, "535"},
		{"a login from before", "carol@try.test", "old-login", "carol@try.test", ann, "250"},
		{"a login from before as another", "carol@try.test", "old-login", ann, ann, "553"},
	} {
		s.want(c.what, s.submit(c.name, c.password, c.sender, c.sender, c.to), c.want)
	}
	for name, want := range map[string]string{ann: "a OK", "ann+office@try.test": "a NO", "ann+sender@try.test": "a NO", "ann+reader@try.test": "a OK"} {
		password := map[string]string{ann: laptop, "ann+office@try.test": office, "ann+sender@try.test": sender, "ann+reader@try.test": reader}[name]
		_, got := s.imap(name, password)
		s.want("IMAP of "+name, got, want)
	}
	s.recipients(map[string]string{"new@try.test": "250", "info@try.test": "250", "carol@try.test": "250", "any@own.test": "250", left: "550", "nobody@try.test": "550"})
	s.programs(ann, laptop, bob)
	s.delivered(bob)

	t.Run("doctor", func(t *testing.T) { s.testDoctorBySQL(t, pg) })

	s.run("credential", "revoke", ann, "phone")
	s.want("revoked just now", s.submit("ann+phone@try.test", phone, ann, ann, bob), "535")

	for _, name := range []string{"letterlock-senders.cf", "letterlock-aliases.cf", "letterlock-recipients.cf"} {
		if info, err := os.Stat(filepath.Join(s.postfix.Dir, name)); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	s.shell(strings.ReplaceAll(back, "#   ", ""))
	if after := s.services() + s.mainCF(); after != before {
		t.Errorf("the way back leads elsewhere:\n%s\nbefore:\n%s", after, before)
	}
	for _, word := range []string{"dove-sql", "post-sql", laptop, phone} {
		if strings.Contains(strings.Join(append(s.postfix.Log(), s.dovecot.Log()...), "\n"), word) {
			t.Error("a secret stands in a log")
		}
	}
}

// mainCF is what main.cf sets.
func (s *site) mainCF() string {
	s.t.Helper()
	out, err := exec.Command("postconf", "-c", s.postfix.Dir, "-n").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// recipients asks port 25, which takes mail from the world.
func (s *site) recipients(wants map[string]string) {
	s.t.Helper()
	out, err := exec.Command("swaks", "--version").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	for to, want := range wants {
		text, _ := s.program("", "swaks", "--server", fmt.Sprintf("127.0.0.1:%d", s.postfix.SMTP), "--from", "friend@elsewhere.test", "--to", to, "--quit-after", "RCPT")
		_, reply, _ := strings.Cut(text, " -> RCPT TO:<"+to+">\n")
		reply = strings.TrimLeft(reply, "<-*~ ")
		s.want("mail for "+to, reply, want)
	}
}

// program runs a program with a bound and returns what it said.
func (s *site) program(stdin, name string, args ...string) (string, error) {
	s.t.Helper()
	home := s.t.TempDir()
	cmd := exec.CommandContext(s.t.Context(), "timeout", append([]string{"120", name}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "LC_ALL=C.UTF-8", "MAILRC=/dev/null")
	cmd.Dir, cmd.Stdin = home, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const pythonSend = `
import sys, ssl, smtplib
port, ca, user, secret, to = sys.argv[1:6]
c = smtplib.SMTP("127.0.0.1", int(port), timeout=100)
c.starttls(context=ssl.create_default_context(cafile=ca))
c.login(user, secret)
c.sendmail(user, [to], "From: %s\r\nTo: %s\r\nSubject: python\r\n\r\nhello\r\n" % (user, to))
c.quit()
`

// programs sends one message with each mail program.
func (s *site) programs(user, password, to string) {
	s.t.Helper()
	port, ca := fmt.Sprint(s.postfix.Submission), s.ca.File
	letter := "From: " + user + "\r\nTo: " + to + "\r\nSubject: %s\r\n\r\nhello\r\n"
	escaped := strings.ReplaceAll(user, "@", "%40")
	dir := s.t.TempDir()
	file, rc := filepath.Join(dir, "mail"), filepath.Join(dir, "muttrc")
	if err := errors.Join(os.WriteFile(file, fmt.Appendf(nil, letter, "curl"), 0o600), os.WriteFile(rc, fmt.Appendf(nil,
		"set smtp_url=\"smtp://%s@127.0.0.1:%s/\"\nset smtp_pass=\"%s\"\nset smtp_authenticators=\"plain\"\nset ssl_ca_certificates_file=\"%s\"\nset ssl_starttls=yes\nset ssl_force_tls=yes\n"+
			"set ssl_usesystemcerts=no\nset from=\"%s\"\nset copy=no\nset use_envelope_from=yes\nset envelope_from_address=\"%s\"\n", escaped, port, password, ca, user, user), 0o600)); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range []struct {
		name, stdin string
		args        []string
	}{
		{"swaks", "", []string{"--server", "127.0.0.1:" + port, "--tls", "--tls-ca-path", ca, "--auth", "LOGIN", "--auth-user", user, "--auth-password", password, "--from", user, "--to", to, "--h-Subject", "swaks"}},
		{"msmtp", fmt.Sprintf(letter, "msmtp"), []string{"--host=127.0.0.1", "--port=" + port, "--tls", "--tls-trust-file=" + ca, "--auth=plain", "--user=" + user, "--passwordeval=echo " + password, "--from=" + user, to}},
		{"curl", "", []string{"-sS", "--ssl-reqd", "--cacert", ca, "smtp://127.0.0.1:" + port, "--user", user + ":" + password, "--mail-from", user, "--mail-rcpt", to, "-T", file}},
		{"mutt", "hello\n", []string{"-n", "-F", rc, "-s", "mutt", "--", to}},
		{"s-nail", "hello\n", []string{"-:/", "-Sv15-compat", "-Sttycharset=UTF-8", "-Snosave", "-Smta=smtp://" + escaped + ":" + password + "@localhost:" + port, "-Ssmtp-use-starttls",
			"-Stls-ca-file=" + ca, "-Stls-verify=strict", "-Ssmtp-auth=plain", "-Sfrom=" + user, "-s", "s-nail", to}},
		{"python3", "", []string{"-c", pythonSend, port, ca, user, password, to}},
	} {
		if out, err := s.program(c.stdin, c.name, c.args...); err != nil {
			s.t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

// delivered waits for what the programs sent.
func (s *site) delivered(to string) {
	s.t.Helper()
	for deadline := time.Now().Add(testPatience); ; {
		inbox, err := s.dovecot.Inbox(to)
		if err != nil {
			s.t.Fatal(err)
		}
		var missing []string
		for _, name := range []string{"swaks", "msmtp", "curl", "mutt", "s-nail", "python"} {
			found := false
			for _, m := range inbox {
				found = found || strings.Contains(string(m), "Subject: "+name)
			}
			if !found {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not delivered: %q", missing)
		}
		<-time.After(50 * time.Millisecond)
	}
}
