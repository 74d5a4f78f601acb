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
	if script := commands(p.Script()); strings.Contains(script, "sasl") || strings.Contains(script, "login_maps") {
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

// What is printed for Apache and its Roundcube; both were run by letterlockd/TestRoundcubeApache.
func TestApache(t *testing.T) {
	a := Apache{
		Issuer: "https://login.example.org/realms/mail/", PublicURL: "https://webmail.example.org", ClientID: "webmail", SecretFile: "/etc/letterlock/webmail.conf",
		Scope: "openid email offline_access", Resource: "urn:mail", NameClaim: "email", Root: "/var/lib/roundcube/public_html", FPM: "/run/php/php8.2-fpm.sock",
		CacheDir: "/var/cache/apache2/openidc", Renew: "127.0.0.1:8089", RenewBefore: 30,
	}
	site := a.Site()
	golden(t, "apache.conf", site)
	// Where people come in nothing is renewed: six requests at once would use one refresh token.
	front, back, _ := strings.Cut(site, "Listen 127.0.0.1:8089")
	if strings.Contains(commands(front), "OIDCRefreshAccessTokenBeforeExpiry") || strings.Count(back, "OIDCRefreshAccessTokenBeforeExpiry") != 1 {
		t.Error("tokens are renewed in the wrong place")
	}
	if strings.Contains(site, "%!") || strings.Contains(site, "LETTERLOCK_RENEW_BEFORE=30") != true {
		t.Errorf("not filled in:\n%s", site)
	}
	golden(t, "roundcube-apache.php", RoundcubeApache{}.Config())
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
	forward := func(s string) string { s, _, _ = strings.Cut(s, "# The way back"); return commands(s) }
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

// commands leaves out what is only said.
func commands(script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func bySQL() Postfix {
	p := postfix()
	p.Restrictions = "permit_mynetworks"
	for name, value := range map[string]string{
		"syslog_name": "postfix/submission", "smtpd_tls_security_level": "encrypt", "smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "yes",
		"smtpd_reject_unlisted_recipient": "no", "smtpd_client_restrictions": "", "smtpd_helo_restrictions": "", "smtpd_sender_restrictions": "",
		"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": "permit_sasl_authenticated,reject", "milter_macro_daemon_name": "ORIGINATING",
	} {
		p.Before["submission/inet/"+name] = value
	}
	p.SQL = &PostfixSQL{
		Table: Table{Host: "db.example.org", Port: "5432", Name: "letterlock", Role: "postfix", Password: "hush"}, Dir: "/etc/postfix", Auth: "private/letterlock-auth",
		Domains: []string{"example.org", "example.net"}, CatchAll: true,
		MainCF: MainCF{Classes: []string{"virtual"}, Own: []string{"virtual_mailbox_maps"},
			Main: map[string]string{"proxy_read_maps": "$local_recipient_maps $virtual_alias_maps", "virtual_alias_maps": "", "virtual_mailbox_maps": "inline:{{a@b=c, d}}", "virtual_transport": "lmtp:unix:private/dovecot-lmtp"}},
	}
	return p
}

// Every option of Debian's submission service is told of, and what is not ours stays.
func TestPostfixSQL(t *testing.T) {
	p := bySQL()
	script := p.Script()
	golden(t, "postfix-sql.sh", script)
	if faults := p.Faults(); len(faults) != 0 {
		t.Error(faults)
	}
	forward, back, _ := strings.Cut(script, "# The way back")
	for name := range p.Before {
		_, option, _ := strings.Cut(strings.TrimPrefix(name, "submission/"), "/")
		if !strings.Contains(forward, "#   -o "+option+"=") {
			t.Errorf("nothing is said of %s", option)
		}
	}
	for _, kept := range []string{"syslog_name", "smtpd_tls_security_level", "smtpd_reject_unlisted_recipient", "smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "milter_macro_daemon_name"} {
		if strings.Contains(forward, "postconf -P 'submission/inet/"+kept) {
			t.Errorf("%s is changed", kept)
		}
	}
	for _, want := range []string{
		"postconf -e 'virtual_mailbox_maps=inline:{{a@b=c, d}}'", "postconf -X virtual_alias_maps", "postconf -X proxy_read_maps",
		"postconf -P 'submission/inet/smtpd_sender_restrictions='", "rm -f '/etc/postfix/letterlock-senders.cf'",
	} {
		if !strings.Contains(back, want) {
			t.Errorf("the way back lacks %s", want)
		}
	}
	if strings.Contains(forward, "milter=") || strings.Contains(forward, "socketmap") || strings.Contains(forward, "letterlock/sasl") {
		t.Error("letterlockd is asked")
	}
	if strings.Contains(back, "hush") {
		t.Error("the way back tells the password")
	}
}

// The way back after a second run leads to the first: no table is taken away that main.cf or
// master.cf still names then.
func TestPostfixSQLUndoTwice(t *testing.T) {
	p := bySQL()
	once, _ := p.SQL.changes()
	for _, c := range once {
		p.SQL.Main[c.name] = c.value
		p.SQL.Own = append(p.SQL.Own, c.name)
	}
	for _, s := range p.settings("submission/inet") {
		p.Before["submission/inet/"+s.name] = s.value
	}
	back := p.Undo()
	if strings.Contains(back, "rm -f") {
		t.Errorf("a file in use is taken away:\n%s", back)
	}
	if !strings.Contains(back, "letterlock-aliases.cf") {
		t.Errorf("what stands there today does not come back:\n%s", back)
	}
}

// A second run changes nothing.
func TestPostfixSQLTwice(t *testing.T) {
	p := bySQL()
	once, _ := p.SQL.changes()
	for _, c := range once {
		p.SQL.Main[c.name] = c.value
	}
	twice, _ := p.SQL.changes()
	for i, c := range twice {
		if c.value != once[i].value {
			t.Errorf("%s: %s, then %s", c.name, once[i].value, c.value)
		}
	}
}

// Lists of recipients are only ever made longer: an empty one takes everybody's mail, and
// must not become one that knows letterlockd's people alone.
func TestPostfixSQLRecipients(t *testing.T) {
	for _, c := range []struct{ class, maps, transport, changed string }{
		{"virtual", "hash:/x", "lmtp:unix:x", "virtual_mailbox_maps"},
		{"virtual", "", "lmtp:unix:x", ""},
		{"virtual", "hash:/x", "virtual", ""}, // its answers are paths
		{"virtual", "hash:/x", "", ""},
		{"relay", "hash:/x", "", "relay_recipient_maps"},
		{"relay", "", "", ""},
		{"local", "hash:/x", "", ""},
	} {
		p := bySQL()
		p.SQL.Classes = []string{c.class}
		p.SQL.Main = map[string]string{"virtual_mailbox_maps": c.maps, "relay_recipient_maps": c.maps, "virtual_transport": c.transport}
		changes, notes := p.SQL.changes()
		got := ""
		for _, one := range changes {
			if strings.Contains(one.value, "recipients.cf") && one.name != "proxy_read_maps" {
				got = one.name
			}
		}
		if got != c.changed || (got == "") != (len(notes) == 1) {
			t.Errorf("%+v: changed %q, notes %q", c, got, notes)
		}
	}
}

// Recipients by the socket: lists are made longer, or filled, and the way back is whole.
func TestPostfixRecipients(t *testing.T) {
	p := postfix()
	p.Recipients = &MainCF{Classes: []string{"virtual"}, Own: []string{"virtual_mailbox_maps"}, Fill: true,
		Main: map[string]string{"virtual_alias_maps": "$virtual_maps", "virtual_mailbox_maps": "hash:/etc/postfix/boxes", "virtual_transport": "lmtp:unix:private/dovecot-lmtp"}}
	golden(t, "postfix-recipients.sh", p.Script())
	for _, want := range []string{"postconf -e 'virtual_mailbox_maps=hash:/etc/postfix/boxes'\n", "postconf -X virtual_alias_maps\n"} {
		if !strings.Contains(p.Undo(), want) {
			t.Errorf("the way back lacks %s:\n%s", want, p.Undo())
		}
	}
	const boxes = "socketmap:unix:letterlock/senders:mailboxes"
	for _, c := range []struct {
		class, maps, transport, want string
	}{
		{"virtual", "", "lmtp:unix:x", "virtual_mailbox_maps=" + boxes},
		{"virtual", boxes, "lmtp:unix:x", "virtual_mailbox_maps=" + boxes},
		{"virtual", "hash:/x", "virtual", ""},
		{"relay", "", "", "relay_recipient_maps=" + boxes},
		{"relay", "hash:/x", "", "relay_recipient_maps=hash:/x, " + boxes},
		{"local", "", "", ""},
		{"", "", "", ""},
	} {
		p.Recipients.Classes = strings.Fields(c.class)
		p.Recipients.Main = map[string]string{"virtual_mailbox_maps": c.maps, "relay_recipient_maps": c.maps, "virtual_transport": c.transport}
		script := p.Script()
		if got := strings.Count(commands(script), ":mailboxes"); (c.want == "") != (got == 0) || !strings.Contains(script, c.want) || (got == 0) != strings.Contains(script, "# Not changed: ") {
			t.Errorf("%+v:\n%s", c, script)
		}
		if !strings.Contains(script, "postconf -e 'virtual_alias_maps=socketmap:unix:letterlock/senders:aliases'") {
			t.Errorf("%+v: no aliases:\n%s", c, script)
		}
	}
	// Others' domains in the same class: an empty list is not filled, a longer one is.
	for maps, want := range map[string]string{"": "", "hash:/x": "relay_recipient_maps=hash:/x, " + boxes} {
		p.Recipients.Classes, p.Recipients.Shared = []string{"relay"}, []string{"relay"}
		p.Recipients.Main = map[string]string{"relay_recipient_maps": maps}
		script := p.Script()
		if filled := strings.Contains(commands(script), "relay_recipient_maps"); filled != (want != "") || !strings.Contains(script, want) || filled == strings.Contains(script, "# Not changed: relay_recipient_maps is empty") {
			t.Errorf("shared, %q:\n%s", maps, script)
		}
	}
	// Another Postfix than the usual: neither the script nor its way back changes the wrong one.
	if strings.Contains(p.Script(), "MAIL_CONFIG") {
		t.Error("the usual Postfix is named")
	}
	p.Folder = "/etc/postfix-it's"
	const which = `export MAIL_CONFIG='/etc/postfix-it'\''s'` + "\n"
	if script := p.Script(); strings.Index(script, which) > strings.Index(script, "postconf") || !strings.Contains(script, which) || !strings.HasPrefix(p.Undo(), which) {
		t.Errorf("no %s first in\n%s", which, script)
	}
	p.Folder, p.Senders = "", ""
	if faults := p.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "senders") {
		t.Errorf("%q", faults)
	}
}

// Where nobody submits there is one thing to do, and not two.
func TestNoSubmission(t *testing.T) {
	p := postfix()
	p.Services, p.Cleanup = nil, ""
	if faults := p.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "no submission service") {
		t.Errorf("%q", faults)
	}
}

func TestTableFaults(t *testing.T) {
	for _, password := range []string{"a b", "a'b", "a\\b", "a#b", "a%sb", "a\nuser = root", "${x}"} {
		faults := Table{Host: "h", Name: "n", Role: "r", Password: password}.Faults()
		if len(faults) != 1 || strings.Contains(faults[0], password) {
			t.Errorf("%q: %q", password, faults)
		}
	}
	if faults := (Table{Path: "/a/b#c"}).Faults(); len(faults) != 1 {
		t.Error(faults)
	}
}

func TestDovecotSQLOnly(t *testing.T) {
	d := Dovecot{Version: "2.3.19.1", Dir: "/etc/dovecot", SQL: &Table{Host: "/var/run/postgresql", Name: "letterlock", Role: "dovecot"},
		Doveadm: "127.0.0.1:8085", DoveadmKey: "hush too", Listeners: []Listener{{Path: "/var/spool/postfix/private/letterlock-auth", User: "postfix", Group: "postfix", Why: "Postfix."}}}
	text := all(d)
	golden(t, "dovecot-2.3-sql-only", text)
	if strings.Contains(text, "oauth2") {
		t.Error("2.3.19 crashes with both")
	}
}

// Dovecot 2.4 is not to be had here: each file says so.
func TestDovecot24(t *testing.T) {
	d := Dovecot{Version: "2.4", Dir: "/etc/dovecot", Listen: "127.0.0.1:12001", Secret: "hush", Doveadm: "127.0.0.1:8085", DoveadmKey: "hush too",
		Discovery: "https://id.example.org/.well-known/openid-configuration", ViewFile: "/var/lib/letterlock-views/mail.db"}
	golden(t, "dovecot-2.4", all(d))
	for _, f := range d.Files() {
		if strings.Contains(f.Text, "hush") && !f.Private || f.Name != "letterlock-doveadm.conf.ext" && !strings.Contains(f.Text, "*not run*") {
			t.Errorf("%s: %s", f.Name, f.Text)
		}
	}
	d.SQL = &Table{Host: "db.example.org", Port: "5432", Name: "letterlock", Role: "dovecot", Password: "hush"}
	golden(t, "dovecot-2.4-sql-only", all(d))
	if strings.Contains(all(d), "oauth") {
		t.Error("letterlockd is asked")
	}
}

func all(d Dovecot) string {
	var b strings.Builder
	for _, f := range d.Files() {
		b.WriteString("==> " + f.Name + "\n" + f.Text)
	}
	return b.String()
}
