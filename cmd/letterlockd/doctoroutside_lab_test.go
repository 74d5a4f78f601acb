//go:build lab && linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/island"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
)

// outsideSite is letterlockd on an island, seen as mail programs and browsers see it: DNS
// has what config dns printed, and a web mail stands behind a gateway.
type outsideSite struct {
	*site
	isle    *island.Island
	webmail *httptest.Server
	broken  atomic.Bool // the web mail's PHP
	records []string
}

// A webMail that shows its login form to whom nobody vouches for.
func webMail(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization")+r.Header.Get("X-Remote-User") == "" {
		_, _ = io.WriteString(w, `<form method="post"><input type="PASSWORD" name="_pass"></form>`)
		return
	}
	_, _ = io.WriteString(w, "the inbox")
}

func startOutside(t *testing.T) *outsideSite {
	t.Helper()
	o := &outsideSite{isle: island.Settle(t, "8.20.0.1")}
	o.webmail = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		webMail(w, r)
	}))
	t.Cleanup(o.webmail.Close)
	o.site = newSite(t)
	t.Setenv("SSL_CERT_FILE", o.ca.File)
	cert, err := o.ca.Issue("mail.try.test", "autoconfig.try.test", "ua-auto-config.try.test", "webmail.try.test")
	if err != nil {
		t.Fatal(err)
	}
	o.write("letterlockd.toml", fmt.Sprintf(`domains = ["try.test"]
[database]
url = "sqlite:%[1]s/letterlockd.db"
[web]
public_url = "https://mail.try.test"
listen = "127.0.0.1:443"
certificate = %[2]q
key = %[3]q
master_key_file = "%[1]s/master.key"
[portal]
imap = "mail.try.test:993"
submission = "mail.try.test:465"
[gateway.webmail]
public_url = "https://webmail.try.test"
listen = "127.0.0.2:443"
certificate = %[2]q
key = %[3]q
upstream = %[4]q
kind = "roundcube"
`, o.folder, cert.CertFile, cert.KeyFile, o.webmail.URL), 0o644)
	for line := range strings.Lines(o.run("config", "dns")) {
		if record, _, _ := strings.Cut(strings.TrimSpace(line), " ; "); record != "" && record[0] != ';' {
			o.records = append(o.records, record)
		}
	}
	o.records = append(o.records, "mail.try.test. 60 IN A 127.0.0.1", "webmail.try.test. 60 IN A 127.0.0.2")
	o.publish(func(record string) string { return record })
	o.serve()
	return o
}

// publish puts all records into DNS as change has them; "": not there.
func (o *outsideSite) publish(change func(string) string) {
	for _, record := range o.records {
		name, _, _ := strings.Cut(record, " ")
		o.isle.DNS.Remove(name)
	}
	for _, record := range o.records {
		if record = change(record); record != "" {
			o.isle.DNS.Set(record)
		}
	}
}

// look is what the doctor finds that is not ok, as "LEVEL ID WHERE", and its exit status.
func (o *outsideSite) look(flags ...string) (found []doctor.Finding, short []string, code int) {
	o.t.Helper()
	out, err := exec.CommandContext(o.t.Context(), o.binary, append([]string{"--config", o.conf, "doctor", "--json"}, flags...)...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &found); err != nil {
		o.t.Fatalf("doctor: exit %d: %v\n%s", code, err, out)
	}
	for _, f := range found {
		if f.Level == doctor.OK {
			continue
		}
		short = append(short, string(f.Level)+" "+f.ID+" "+f.Where)
		if f.What == "" || f.Why == "" || f.Mend == "" && f.Level != doctor.Skipped {
			o.t.Errorf("told by half: %+v", f)
		}
	}
	slices.Sort(short)
	return found, short, code
}

// Each trap of DNS and web mail, planted alone, is found, alone; a clean set-up is silent.
func TestDoctorOutside(t *testing.T) {
	if !island.Enter(t) {
		return
	}
	o := startOutside(t)
	if out := o.run("doctor"); out != "" {
		t.Fatalf("a clean set-up is not silent:\n%s", out)
	}
	if found, _, code := o.look(); len(found) != 8 || code != 0 {
		t.Fatalf("exit %d, %+v", code, found)
	}
	o.isle.DNS.Set("elsewhere.test. 60 IN A 192.0.2.9")
	swap := func(name, record string) func(*testing.T) {
		return func(*testing.T) {
			o.publish(func(r string) string {
				if strings.HasPrefix(r, name+".try.test. ") {
					return record
				}
				return r
			})
		}
	}
	for _, c := range []struct {
		what  string
		plant func(*testing.T)
		want  []string
		mend  string // what has to be entered, or part of what mends it
		code  int
	}{
		{"no settings", swap("autoconfig", ""), []string{"warning dns-settings autoconfig.try.test"}, "enter: autoconfig.try.test. 3600 IN CNAME mail.try.test.", 0},
		{"settings elsewhere", swap("autoconfig", "autoconfig.try.test. 60 IN CNAME webmail.try.test."),
			[]string{"wrong dns-documents https://autoconfig.try.test/mail/config-v1.1.xml", "wrong dns-settings autoconfig.try.test"}, "enter: autoconfig.try.test. 3600 IN CNAME mail.try.test.", 69},
		{"an old digest", swap("_ua-auto-config", `_ua-auto-config.try.test. 60 IN TXT "v=UAAC1; a=sha256; d=yj0WO6sFU4GCciYUBWjzvvfqrBh869doeOC2Pp5EI1Y="`),
			[]string{"wrong dns-digest _ua-auto-config.try.test"}, `enter: _ua-auto-config.try.test. 300 IN TXT "v=UAAC1; a=sha256; d=`, 69},
		{"no digest", swap("_ua-auto-config", ""), []string{"warning dns-digest _ua-auto-config.try.test"}, "enter: _ua-auto-config.try.test. 300 IN TXT", 0},
		{"another server", swap("_imaps._tcp", "_imaps._tcp.try.test. 60 IN SRV 0 1 993 elsewhere.test."), []string{"wrong dns-servers _imaps._tcp.try.test"}, "enter: _imaps._tcp.try.test. 3600 IN SRV 0 1 993 mail.try.test.", 69},
		{"another port", swap("_submissions._tcp", "_submissions._tcp.try.test. 60 IN SRV 0 1 587 mail.try.test."), []string{"wrong dns-servers _submissions._tcp.try.test"}, "enter: _submissions._tcp", 69},
		{"off, and it is not", swap("_imaps._tcp", "_imaps._tcp.try.test. 60 IN SRV 0 0 0 ."), []string{"wrong dns-servers _imaps._tcp.try.test"}, "", 69},
		{"on, and it is not", swap("_pop3s._tcp", "_pop3s._tcp.try.test. 60 IN SRV 0 1 995 mail.try.test."), []string{"wrong dns-servers _pop3s._tcp.try.test"}, "enter: _pop3s._tcp.try.test. 3600 IN SRV 0 0 0 .", 69},
		{"not said to be off", swap("_sieve._tcp", ""), []string{"warning dns-servers _sieve._tcp.try.test"}, "", 0},
		{"web mail away", func(*testing.T) { o.broken.Store(true) },
			[]string{"wrong webmail-upstream [gateway.webmail]"}, "", 69},
		{"web mail beside the gateway", func(t *testing.T) {
			o.beside(t, "127.0.0.3:443", webMail)
			swap("webmail", "webmail.try.test. 60 IN A 127.0.0.3")(t)
		},
			[]string{"wrong webmail-form [gateway.webmail]"}, "[gateway.webmail]", 69},
		{"a proxy that believes what it is told", func(t *testing.T) {
			o.beside(t, "127.0.0.4:443", believer)
			swap("webmail", "webmail.try.test. 60 IN A 127.0.0.4")(t)
		},
			[]string{"wrong webmail-forged [gateway.webmail]"}, "", 69},
		{"web mail for everybody", o.everywhere, []string{"warning webmail-passed-by [gateway.webmail]"}, "", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			o.t = t
			c.plant(t)
			found, short, code := o.look()
			if !slices.Equal(short, c.want) || code != c.code {
				t.Errorf("exit %d\n%q\n%+v", code, short, found)
			}
			if c.mend != "" && !slices.ContainsFunc(found, func(f doctor.Finding) bool {
				return strings.HasPrefix(f.Mend, c.mend) || c.mend[0] == '[' && strings.Contains(f.Mend, c.mend)
			}) {
				t.Errorf("no %q in %+v", c.mend, found)
			}
			o.broken.Store(false)
			o.publish(func(record string) string { return record })
		})
	}
	o.t = t
	// Nobody to ask: unknown, not wrong.
	silent, err := net.ListenPacket("udp", "127.0.0.77:53")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	_, short, code := o.look("--dns-server", "127.0.0.77")
	if code != 0 || len(short) < 10 || slices.ContainsFunc(short, func(s string) bool { return !strings.HasPrefix(s, "skipped ") }) {
		t.Errorf("without DNS: exit %d, %q", code, short)
	}
}

// beside serves the names by TLS at another address, as a web server does that goes by the
// gateway.
func (o *outsideSite) beside(t *testing.T, address string, serve http.HandlerFunc) {
	t.Helper()
	config, err := o.ca.Server("webmail.try.test")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, TLS: config, Config: &http.Server{Handler: serve}}
	server.StartTLS()
	t.Cleanup(server.Close)
}

// believer lets in who says who it is, and sends the others to the sign-in.
func believer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Remote-User") != "" {
		webMail(w, r)
		return
	}
	http.Redirect(w, r, "https://mail.try.test/gateway/webmail", http.StatusSeeOther)
}

// everywhere has the web mail listen at the island's outer address too.
func (o *outsideSite) everywhere(t *testing.T) {
	t.Helper()
	at := netip.MustParseAddrPort(strings.TrimPrefix(o.webmail.URL, "http://"))
	listener, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(o.isle.Source), at.Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(webMail)}}
	server.Start()
	t.Cleanup(server.Close)
}
