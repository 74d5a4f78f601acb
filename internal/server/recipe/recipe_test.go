package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden compares with a file under testdata; what is in it was run (see the lab tests
// of cmd/letterlockd) and is to be run again when it changes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s differs (%v); got:\n%s", path, err, got)
	}
}

func postfix() Postfix {
	return Postfix{
		Version: "3.7.11", QueueDir: "/var/spool/postfix", Services: []string{"submission/inet", "submissions/inet"},
		Milters: "inet:127.0.0.1:11332", Before: map[string]string{"submission/inet/smtpd_sasl_auth_enable": "yes"},
		Cleanup: "cleanup    unix  n       -       y       -       0       cleanup -o header_checks=pcre:/etc/postfix/headers",
		SASL:    "/var/spool/postfix/letterlock/sasl", Senders: "/var/spool/postfix/letterlock/senders", Milter: "127.0.0.1:12004",
	}
}

func TestPostfix(t *testing.T) {
	golden(t, "postfix.sh", postfix().Script())
	if faults := postfix().Faults(); len(faults) != 0 {
		t.Error(faults)
	}
}

// What is switched on is what is switched off again.
func TestUndoIsWhole(t *testing.T) {
	forward, _, _ := strings.Cut(postfix().Script(), "# The way back")
	set, undone := strings.Count(forward, "postconf -P "), strings.Count(postfix().Undo(), "postconf ")
	if set != undone || set < 16 || strings.Count(postfix().Undo(), "auth_enable=yes") != 1 {
		t.Errorf("%d set, %d undone by\n%s", set, undone, postfix().Undo())
	}
	p := postfix()
	p.SASL, p.Senders = "", ""
	if script := p.Script(); strings.Contains(script, "sasl") || strings.Contains(script, "login_maps") {
		t.Errorf("what is off is set:\n%s", script)
	}
}

func TestPostfixFaults(t *testing.T) {
	p := postfix()
	p.Services, p.SASL = nil, "/run/letterlock/sasl"
	if faults := p.Faults(); len(faults) != 2 {
		t.Errorf("%q", faults)
	}
	p.QueueDir = "/var/spool/post"
	if faults := p.Faults(); len(faults) != 3 {
		t.Errorf("a folder that only begins like the queue's: %q", faults)
	}
}

func TestDovecot(t *testing.T) {
	d := Dovecot{Version: "2.3.19.1", Dir: "/etc/dovecot", Listen: "127.0.0.1:12001", Secret: "hush", Doveadm: "127.0.0.1:8085", DoveadmKey: "hush too", Discovery: "https://id.example.org/.well-known/openid-configuration"}
	var all strings.Builder
	for _, f := range d.Files() {
		all.WriteString("==> " + f.Name + "\n" + f.Text)
		if strings.Contains(f.Text, "hush") != f.Private {
			t.Errorf("%s: private is %t", f.Name, f.Private)
		}
	}
	golden(t, "dovecot-2.3", all.String())
	d.ViewFile = "/var/lib/letterlock-views/mail.db"
	all.Reset()
	for _, f := range d.Files() {
		if strings.Contains(f.Text, "driver = pgsql\n") {
			t.Errorf("%s: pgsql beside oauth2 crashes Dovecot 2.3.19", f.Name)
		}
		all.WriteString("==> " + f.Name + "\n" + f.Text)
	}
	golden(t, "dovecot-2.3-sql", all.String())
}

func TestQuote(t *testing.T) {
	if got := quote(`a'b $(c)`); got != `'a'\''b $(c)'` {
		t.Error(got)
	}
}

// What each service uses already is kept, its own and not another's; and a script that is
// printed and run again changes nothing.
func TestPostfixKeepsWhatIsThere(t *testing.T) {
	p := postfix()
	p.Restrictions = "permit_mynetworks"
	p.Before["submission/inet/smtpd_milters"] = "unix:dkim"
	p.Before["submissions/inet/smtpd_sender_restrictions"] = "reject_unknown_sender_domain, permit"
	script := p.Script()
	for _, want := range []string{
		"'submission/inet/smtpd_milters=unix:dkim,inet:127.0.0.1:12004'",
		"'submissions/inet/smtpd_milters=inet:127.0.0.1:11332,inet:127.0.0.1:12004'",
		"'submission/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch,permit_mynetworks'",
		"'submissions/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch,reject_unknown_sender_domain,permit'",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("%s is missing in\n%s", want, script)
		}
	}
	again := p
	again.Cleanup = "letterlock-cleanup unix n - y - 0 cleanup -o header_checks=pcre:/etc/postfix/headers"
	again.Before = map[string]string{}
	for line := range strings.Lines(script) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "postconf -P '"); ok {
			name, value, _ := strings.Cut(strings.TrimSuffix(rest, "'"), "=")
			again.Before[name] = value
		}
	}
	forward := func(s string) string { s, _, _ = strings.Cut(s, "# The way back"); return s }
	if forward(again.Script()) != forward(script) {
		t.Errorf("the second run prints\n%s", again.Script())
	}
	if strings.Contains(again.Undo(), "-MX") {
		t.Error("the way back from the second run takes away what was there before it")
	}
	p.Cleanup = ""
	if faults := p.Faults(); len(faults) != 1 {
		t.Errorf("two cleanup services: %q", faults)
	}
}

// postconf -P refuses a value with a blank in it, so no list is printed with one.
func TestNoBlanks(t *testing.T) {
	p := postfix()
	p.Milters = "inet:127.0.0.1:11332,  unix:opendkim/sock"
	p.Before["submission/inet/smtpd_sender_restrictions"] = "permit_mynetworks, reject_non_fqdn_sender"
	script := p.Script()
	for line := range strings.Lines(script) {
		if _, set, ok := strings.Cut(line, "postconf -P "); ok && strings.ContainsAny(strings.TrimSpace(set), " \t") {
			t.Errorf("postconf refuses %q", line)
		}
	}
	for _, want := range []string{"smtpd_milters=inet:127.0.0.1:11332,unix:opendkim/sock,inet:127.0.0.1:12004", "=permit_mynetworks,reject_non_fqdn_sender'"} {
		if !strings.Contains(script, want) {
			t.Errorf("missing %s in\n%s", want, script)
		}
	}
	p.Milters = "{ inet:127.0.0.1:1, default_action=accept }"
	if faults := p.Faults(); len(faults) != 1 {
		t.Errorf("%q", faults)
	}
}
