package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// recordedPostfix is Debian's Postfix 3.7.11 after config postfix.
func recordedPostfix(t testing.TB) *postfixFacts {
	t.Helper()
	f, err := readPostfix(t.Context(), Options{
		Postfix: &Postfix{SASL: "/var/spool/postfix/letterlock/sasl", Milter: "/var/spool/postfix/letterlock/milter", Domain: "example.org"},
		Run: func(_ context.Context, program string, args ...string) ([]byte, error) {
			switch asked := program + " " + strings.Join(args, " "); {
			case asked == "postconf -M":
				return recorded(t, "postconf-M-3.7.txt"), nil
			case asked == "postconf -x -P":
				return recorded(t, "postconf-P-3.7.txt"), nil
			case strings.HasPrefix(asked, "postconf -x mail_version "):
				return recorded(t, "postconf-3.7.txt"), nil
			default:
				t.Errorf("ran %s", asked)
				return nil, os.ErrInvalid
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// read runs the rows that only read, and returns those that found something.
func (f *postfixFacts) read(t testing.TB) []string {
	t.Helper()
	var ids []string
	for _, row := range postfixTraps() {
		if !row.live && len(row.look(t.Context(), f)) > 0 {
			ids = append(ids, row.id)
		}
	}
	return ids
}

func TestRecordedPostfix(t *testing.T) {
	f := recordedPostfix(t)
	if len(f.services) != 2 || len(f.submissions()) != 1 || !f.submissions()[0].chroot {
		t.Fatalf("%+v", f.services)
	}
	if ids := f.read(t); !slices.Equal(ids, []string{"postfix-nul"}) {
		t.Errorf("found %q", ids)
	}
	s := f.submissions()[0]
	if at, ok := f.sasl(s); !ok || at.address != "/var/spool/postfix/letterlock/sasl" {
		t.Errorf("%+v", at)
	}
	if m := f.milters(s); len(m) != 2 || m[0].ours || !m[1].ours || m[0].socket.address != "127.0.0.1:11332" {
		t.Errorf("%+v", m)
	}
	if m := f.maps(s); len(m) != 1 || m[0].mapName != "senders" {
		t.Errorf("%+v", m)
	}
}

// What one setting at the submission service, or in main.cf, brings to light.
func TestPostfixRows(t *testing.T) {
	for _, c := range []struct {
		where, name, value string
		want               []string
	}{
		{"main", "mail_version", "2.11.3", []string{"postfix-version"}},
		{"main", "mail_version", "3.13-20270101", []string{"postfix-version"}},
		{"main", "mail_version", "3.12-20260821", nil},
		{"smtp", "smtpd_sasl_auth_enable", "yes", []string{"postfix-auth-global"}},
		{"smtp", "smtpd_relay_restrictions", "", []string{"postfix-open-relay"}},
		{"smtp", "smtpd_relay_restrictions", "permit, reject_unauth_destination", []string{"postfix-open-relay"}},
		{"submission", "smtpd_sasl_path", "/var/spool/postfix/letterlock/sasl", []string{"postfix-chroot"}},
		{"submission", "smtpd_sasl_path", "inet:127.0.0.1:12345", []string{"postfix-sasl-elsewhere"}},
		{"submission", "smtpd_sasl_type", "cyrus", []string{"postfix-sasl-elsewhere"}},
		{"submission", "smtpd_sender_login_maps", "socketmap:unix:/run/senders:senders", []string{"postfix-chroot"}},
		{"submission", "smtpd_sender_login_maps", "proxy:pgsql:/etc/postfix/senders.cf", nil},
		{"submission", "smtpd_sender_restrictions", "reject_sender_login_mismatch, permit_mynetworks", nil},
		{"submission", "smtpd_sender_restrictions", "permit_sasl_authenticated reject_sender_login_mismatch", []string{"postfix-sender-check-late"}},
		{"submission", "smtpd_sender_restrictions", "reject_known_sender_login_mismatch", []string{"postfix-sender-check"}},
		{"submission", "smtpd_sasl_tls_security_options", "noplaintext", []string{"postfix-noplaintext"}},
		{"submission", "smtpd_milters", "{ unix:letterlock/milter, default_action = accept }", nil},
		{"submission", "smtpd_milters", "{unix:letterlock/milter default_action=accept}", []string{"postfix-milter-accept"}},
		{"submission", "smtpd_milters", "unix:/run/milter", []string{"postfix-chroot"}},
		{"submission", "smtpd_forbid_bare_newline", "", []string{"postfix-bare-newline"}},
		{"submission", "line_length_limit", "many", []string{"postfix-line-limit"}},
		{"submission", "smtpd_upstream_proxy_protocol", "haproxy", []string{"postfix-upstream"}},
		{"main", "mynetworks", "[::]/0", []string{"postfix-networks"}},
	} {
		f := recordedPostfix(t)
		f.main["message_reject_characters"] = `\0`
		for i := range f.services {
			if strings.HasPrefix(f.services[i].name, c.where+"/") {
				f.services[i].own[c.name] = c.value
			}
		}
		if c.where == "main" {
			f.main[c.name] = c.value
		}
		if got := f.read(t); !slices.Equal(got, c.want) {
			t.Errorf("%s %s = %s: found %q, want %q", c.where, c.name, c.value, got, c.want)
		}
	}
}

func TestRecordedDovecot(t *testing.T) {
	version, root, err := parseDoveconf(recorded(t, "doveconf-2.3.19.txt"))
	if err != nil || version != "2.3.19.1" {
		t.Fatal(version, err)
	}
	if n := len(root.all("passdb", "")); n != 3 || root.get("protocols", "") != "imap pop3 submission" {
		t.Errorf("%d passdbs in %+v", n, root)
	}
	listener := root.all("service", "doveadm")[0].all("inet_listener", "http")
	if len(listener) != 1 || listener[0].get("port", "") != "8085" {
		t.Errorf("%+v", listener)
	}
	if !(passdb{block: root.all("passdb", "")[0]}).guard() {
		t.Error("the guard is not seen")
	}
}

func TestParseDoveconfRefuses(t *testing.T) {
	for _, text := range []string{"}\n", "passdb {\n", "nonsense\n", strings.Repeat("a {\n", 100), strings.Repeat("#", maxOutput+1)} {
		if _, _, err := parseDoveconf([]byte(text)); err == nil {
			t.Errorf("%.20q... was taken", text)
		}
	}
}

// A file that cannot be read is skipped aloud, never ok.
func TestUnreadFile(t *testing.T) {
	found, err := Look(t.Context(), Options{
		Dovecot: &Dovecot{Listen: "127.0.0.1:12001"},
		Run: func(context.Context, string, ...string) ([]byte, error) {
			return recorded(t, "doveconf-2.3.19.txt"), nil
		},
		ReadFile: func(string) ([]byte, error) { return nil, os.ErrPermission },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if slices.Contains([]string{"dovecot-active", "dovecot-secret", "dovecot-timeout", "dovecot-not-asking"}, f.ID) && f.Level != Skipped {
			t.Errorf("%+v", f)
		}
	}
}

func TestGreeting(t *testing.T) {
	for greeting, want := range map[string]string{
		"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n":     "",
		"VERSION\t1\t2\nSPID\t1\nMECH\tPLAIN\tplaintext\nDONE\n":                         "SPID comes before",
		"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nMECH\tLOGIN\tplaintext\nDONE\n": "after SPID",
		"VERSION\t2\t0\n": "another version",
		"VERSION\n":       "another version",
		"VERSION\t1\t2\nMECH\tEXTERNAL\nSPID\t1\nDONE\n": "PLAIN is not offered",
		"MECH\tPLAIN\nSPID\t1\nDONE\n":                   "no VERSION",
		"VERSION\t1\t2\nMECH\tPLAIN\n":                   "ends before DONE",
		strings.Repeat("x", maxGreeting+1) + "\n":        "ends before DONE",
	} {
		err := readGreeting(strings.NewReader(greeting))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60q: %v, want %s", greeting, err, want)
		}
	}
}

type exchange struct {
	io.Reader
	bytes.Buffer
}

func (e *exchange) Read(data []byte) (int, error) { return e.Reader.Read(data) }

func TestAskMap(t *testing.T) {
	for reply, good := range map[string]bool{
		"9:NOTFOUND ,": true, "11:OK ann@a.org,": false, "8:OK ann@a,": true, "8:NOTFOUND,": false, "8:TEMP try,": false, "7:PERM no,": false,
		"3:OK": false, "999999999:": false, "-1:,": false, "": false, "HTTP/1.1 400\r\n": false,
	} {
		e := &exchange{Reader: strings.NewReader(reply)}
		if err := askMap(e, "senders", "ann@a.org"); (err == nil) != good {
			t.Errorf("%q: %v", reply, err)
		}
		if e.String() != "17:senders ann@a.org," {
			t.Errorf("asked %q", e.String())
		}
	}
}

// A socket is tried with rights that are not ours; without root that is not possible.
func TestDialPlain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := &postfixFacts{Postfix: &Postfix{}}
	if _, err := f.dial(t.Context(), socket{network: "unix", address: path}); err == nil || err.Error() != "there is no such socket" {
		t.Error(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := f.dial(t.Context(), socket{network: "unix", address: path})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// The secret goes to the address in the file only, and into no finding.
func TestAskEndpoint(t *testing.T) {
	for status, want := range map[int]string{200: "", 401: "does not take", 500: "not letterlockd", 302: "not letterlockd"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/dovecot/introspect" || r.FormValue("client_secret") != "hush" || r.Header.Get("X-Dovecot-Auth-Service") == "" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"active":false}`)
		}))
		p := passdb{ext: map[string]string{"grant_url": server.URL + "/dovecot/password", "client_id": "dovecot"}, secret: secret.New("hush")}
		err := askEndpoint(t.Context(), p)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%d: %v", status, err)
		}
		server.Close()
	}
}

func TestRowsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	check := func(id, why string, level Level) {
		if id == "" || why == "" || seen[id] || level != Warning && level != Wrong {
			t.Errorf("row %q", id)
		}
		seen[id] = true
	}
	for _, row := range postfixTraps() {
		check(row.id, row.why, row.level)
	}
	for _, row := range dovecotTraps() {
		check(row.id, row.why, row.level)
	}
	text, err := json.Marshal(Finding{ID: "x", Level: OK, Why: "y"})
	if err != nil || string(text) != `{"id":"x","level":"ok","why":"y","live":false}` {
		t.Errorf("%s %v: scripts read this", text, err)
	}
}

// Every setting that a row reads is one that postconf is asked for.
func TestSettingsAreAskedFor(t *testing.T) {
	source, err := os.ReadFile("postfixtraps.go")
	more, err2 := os.ReadFile("postfix.go")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`(?:get|yes|restrictions|atLeast)\("([a-z_]+)"|main\["([a-z_]+)"\]|"(smtpd_[a-z]+_restrictions)"`)
	found := read.FindAllStringSubmatch(string(source)+string(more), -1)
	if len(found) < 30 {
		t.Errorf("only %d readings are seen", len(found))
	}
	for _, m := range found {
		if name := m[1] + m[2] + m[3]; !slices.Contains(settings(), name) {
			t.Errorf("%s is read and not asked for", name)
		}
	}
}

func TestBounded(t *testing.T) {
	b := &bounded{left: 4}
	if _, err := b.Write([]byte("abcd")); err != nil {
		t.Error(err)
	}
	if _, err := b.Write([]byte("e")); !errors.Is(err, errTooLong) {
		t.Error(err)
	}
}

func FuzzPostconf(f *testing.F) {
	f.Add(recorded(f, "postconf-P-3.7.txt"))
	f.Add(recorded(f, "postconf-M-3.7.txt"))
	f.Fuzz(func(t *testing.T, text []byte) {
		own := parsePostconf(text)
		facts := &postfixFacts{Postfix: &Postfix{Milter: "/m", SASL: "/s"}, main: own}
		facts.services = parseMaster(text, own, own)
		facts.services = append(facts.services, service{name: "submission/inet", submits: true, own: map[string]string{"smtpd_milters": string(text)}, main: own})
		facts.read(t)
	})
}

func FuzzDoveconf(f *testing.F) {
	f.Add(recorded(f, "doveconf-2.3.19.txt"))
	f.Fuzz(func(t *testing.T, text []byte) {
		version, root, err := parseDoveconf(text)
		if err != nil {
			return
		}
		facts := &dovecotFacts{Dovecot: &Dovecot{Listen: "127.0.0.1:1"}, version: version, root: root}
		for _, b := range root.all("passdb", "") {
			facts.passdbs = append(facts.passdbs, passdb{block: b, ext: parseExt(text)})
		}
		for _, row := range dovecotTraps() {
			if !row.live {
				row.look(t.Context(), facts)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readGreeting(bytes.NewReader(data))
		_ = readMilter(bytes.NewReader(data))
		if reply, err := readReply(bytes.NewReader(data)); err == nil && len(reply) > maxReply {
			t.Error("too long a reply was taken")
		}
	})
}
