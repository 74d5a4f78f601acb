//go:build lab

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A besideSite is a site whose people sign in by Kerberos (carol) and LDAP (dora, eve).
type besideSite struct {
	*site
	kdc   *lab.KDC
	ports []int
}

func startBeside(t *testing.T) *besideSite {
	t.Helper()
	s := &besideSite{site: newSite(t), ports: freePorts(t, 2)}
	s.kdc = lab.RunKDC(t, lab.KDCOptions{Users: map[string]string{"carol": "carols-word"}, Services: []string{"imap/mail.try.test", "smtp/mail.try.test"}})
	if err := s.kdc.Ticket(t.Context(), "carol", "carols-word"); err != nil {
		t.Fatal(err)
	}
	ldap := lab.RunLDAP(t, map[string]string{"carol@try.test": "{CRYPT}!", "dora@try.test": "doras-word", "eve@try.test": "eves-word"})
	dove := filepath.Join(s.folder, "dovecot")
	if err := os.MkdirAll(filepath.Join(dove, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("dovecot.secret", "dove-secret\n", 0o600)
	s.write("dovecot/ldap.ext", fmt.Sprintf("uris = %s\nauth_bind = yes\nauth_bind_userdn = cn=%%u,%s\nbase = %s\npass_filter = (cn=%%u)\n", ldap.URL, ldap.Base, ldap.Base), 0o600)
	s.dovecot = lab.RunDovecot(t, lab.DovecotOptions{CA: s.ca, Introspection: "-", Mechanisms: "plain login gssapi", Extra: fmt.Sprintf(
		"shutdown_clients = no\nimport_environment = TZ KRB5_CONFIG=%[2]s\nauth_krb5_keytab = %[3]s\nauth_gssapi_hostname = \"$ALL\"\n"+
			"!include_try %[1]s/conf.d/05-letterlock.conf\npassdb {\n  driver = ldap\n  args = %[1]s/ldap.ext\n}\n!include_try %[1]s/conf.d/95-letterlock.conf\n", dove, s.kdc.Config, s.kdc.Keytab)})
	s.postfix = lab.RunPostfix(t, lab.PostfixOptions{CA: s.ca, Dovecot: s.dovecot, Mailboxes: []string{"ann@try.test", "carol@try.test", "dora@try.test"},
		Main: "service_throttle_time = 1s\nsmtpd_error_sleep_time = 0"})
	return s
}

// kerberos runs curl with carol's ticket and returns what went wrong.
func (s *besideSite) kerberos(args ...string) error {
	s.t.Helper()
	all := append([]string{"-u", "DEBUGINFOD_URLS"}, s.kdc.Env()[len(os.Environ()):]...)
	all = append(all, "curl", "-sS", "--cacert", s.ca.File, "--user", "carol@TRY.TEST:", "--login-options", "AUTH=GSSAPI")
	out, err := s.program("", "env", append(all, args...)...)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// logins are those that were there before: by ticket and by directory, at IMAP and SMTP.
func (s *besideSite) logins(when string) {
	s.t.Helper()
	_, got := s.imap("dora@try.test", "doras-word")
	s.want(when+": LDAP at IMAP", got, "a OK")
	s.want(when+": LDAP at SMTP", s.submit("dora@try.test", "doras-word", "dora@try.test", "dora@try.test", "carol@try.test"), "250")
	letter := filepath.Join(s.t.TempDir(), "letter")
	if err := os.WriteFile(letter, []byte("From: carol@try.test\r\nTo: dora@try.test\r\nSubject: ticket\r\n\r\nhello\r\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	at := func(port int) string { return fmt.Sprintf("mail.try.test:%d:127.0.0.1", port) }
	if err := s.kerberos("--resolve", at(s.dovecot.IMAPS), fmt.Sprintf("imaps://mail.try.test:%d/", s.dovecot.IMAPS), "-X", "NOOP"); err != nil {
		s.t.Errorf("%s: Kerberos at IMAP: %v", when, err)
	}
	if err := s.kerberos("--resolve", at(s.postfix.Submission), "--ssl-reqd", fmt.Sprintf("smtp://mail.try.test:%d/client.try.test", s.postfix.Submission),
		"--mail-from", "carol@try.test", "--mail-rcpt", "dora@try.test", "-T", letter); err != nil {
		s.t.Errorf("%s: Kerberos at SMTP: %v", when, err)
	}
}

// reload makes Dovecot read its files again and waits until it has.
func (s *besideSite) reload() {
	s.t.Helper()
	const said = "SIGHUP received"
	before, seen := strings.Count(strings.Join(s.dovecot.Log(), "\n"), said), 0
	if err := syscall.Kill(s.dovecot.Pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.dovecot.WaitLog(s.t.Context(), func(line string) bool {
		if strings.Contains(line, said) {
			seen++
		}
		return seen > before
	}); err != nil {
		s.t.Fatal(err)
	}
}

// Letterlockd is switched on beside logins by Kerberos and LDAP, and off again: those go on
// before, during and after, a session that idles does not notice, and what there was is
// there again byte for byte.
func TestBesideKerberosAndLDAP(t *testing.T) {
	s := startBeside(t)
	const ann, dora = "ann@try.test", "dora@try.test"
	s.logins("before")
	idle, got := s.imap(dora, "doras-word")
	s.want("sign-in", got, "a OK")
	s.want("select", idle.say("b SELECT INBOX"), "b OK")
	s.want("idle", idle.say("c IDLE"), "+")
	before := s.services()

	// On.
	fallback := filepath.Join(s.dovecot.Dir, "run/auth-letterlock")
	sockets := s.socketFolder()
	s.write("letterlockd.toml", fmt.Sprintf("domains = [\"try.test\"]\n[database]\nurl = \"sqlite:%[1]s/letterlockd.db\"\n[dovecot]\nlisten = \"127.0.0.1:%[2]d\"\nsecret_file = \"%[1]s/dovecot.secret\"\n"+
		"[postfix]\nsasl = \"%[3]s/sasl\"\nsenders = \"%[3]s/senders\"\nmilter = \"%[3]s/milter\"\nfallback = %[4]q\n", s.folder, s.ports[0], sockets, fallback), 0o644)
	s.run("person", "add", ann)
	s.run("person", "add", "eve@try.test")
	s.run("person", "disable", "eve@try.test")
	laptop, lost := s.make(ann, "laptop"), s.make(ann, "lost")
	s.run("credential", "revoke", ann, "lost")
	s.run("config", "dovecot", "--write", "--config-dir", filepath.Join(s.folder, "dovecot"))
	s.serve()
	s.reloadDovecot(fallback)
	undo := s.switchPostfix()

	// A revoked secret of ours goes to nobody else.
	s.want("revoked", s.submit(ann, lost, ann, ann, dora), "535")
	if log := strings.Join(s.dovecot.Log(), "\n"); strings.Contains(log, ann) {
		t.Errorf("Dovecot was asked about it:\n%s", log)
	}
	s.logins("during")
	_, got = s.imap(dora, "another-word")
	s.want("a wrong password of LDAP at IMAP", got, "a NO")
	for _, c := range []struct{ what, name, password, sender, from, want string }{
		{"a wrong password of LDAP", dora, "another-word", dora, dora, "535"},
		{"an app password", ann, laptop, ann, ann, "250"},
		{"as somebody of LDAP", ann, laptop, dora, ann, "553"},
		{"From somebody of LDAP", ann, laptop, ann, dora, "550"},
		{"LDAP as somebody of ours", dora, "doras-word", ann, dora, "553"},
		{"LDAP From somebody of ours", dora, "doras-word", dora, ann, "550"},
		{"LDAP with an extension", dora, "doras-word", "dora+x@try.test", dora, "250"},
		{"disabled here, known to LDAP", "eve@try.test", "eves-word", "eve@try.test", "eve@try.test", "535"},
	} {
		s.want(c.what, s.submit(c.name, c.password, c.sender, c.from, dora), c.want)
	}
	_, got = s.imap(ann, laptop)
	s.want("an app password at IMAP", got, "a OK")

	// Off.
	s.shell(undo)
	if err := errors.Join(os.Remove(filepath.Join(s.folder, "dovecot/conf.d/05-letterlock.conf")), os.Remove(filepath.Join(s.folder, "dovecot/conf.d/95-letterlock.conf"))); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.process.Stop()
	s.logins("after")
	// Dovecot says that it reads its files again before it has: until then it asks us, in vain.
	s.until("an app password after", "535", func() string { return s.submit(ann, laptop, ann, ann, dora) })
	if after := s.services(); after != before {
		t.Errorf("the way back leads elsewhere:\n%s\nbefore:\n%s", after, before)
	}
	s.want("the session that was there all the time", idle.say("DONE"), "c OK")
	for _, word := range []string{laptop, lost, "doras-word", "eves-word"} {
		if strings.Contains(strings.Join(s.process.Log(), "\n"), word) {
			t.Error("a secret stands in the log")
		}
	}
}
