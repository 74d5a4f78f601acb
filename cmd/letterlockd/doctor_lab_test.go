//go:build lab

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
)

// doctor runs the command, in this process, and returns what it found by JSON, and its
// exit status.
func (s *site) doctor(dovecotDir string, flags ...string) ([]doctor.Finding, int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	var out, complaints bytes.Buffer
	p := &program{
		args: append([]string{"letterlockd", "--config", s.conf, "doctor", "--json", "--postfix-dir", s.postfix.Dir, "--dovecot-dir", dovecotDir}, flags...),
		term: &cli.Terminal{In: strings.NewReader(""), Out: &out, Err: &complaints}, getenv: os.Getenv, now: time.Now, random: rand.Reader,
	}
	code := p.run(ctx)
	var found []doctor.Finding
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		s.t.Fatalf("doctor: exit %d: %v\n%s%s", code, err, &out, &complaints)
	}
	for _, word := range []string{"dove-secret", "order-key", "never-shown", "dove-sql", "post-sql", "ARGON2"} {
		if strings.Contains(out.String()+complaints.String(), word) {
			s.t.Errorf("the doctor tells a secret:\n%s", &out)
		}
	}
	return found, int(code)
}

// notOK is the findings that are not ok.
func notOK(found []doctor.Finding) (ids []string, bad []doctor.Finding) {
	for _, f := range found {
		if f.Level != doctor.OK {
			bad = append(bad, f)
			if !slices.Contains(ids, f.ID) {
				ids = append(ids, f.ID)
			}
		}
	}
	return ids, bad
}

// postconf changes the configuration of the site's Postfix, which is not told.
func (s *site) postconf(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("postconf", append([]string{"-c", s.postfix.Dir}, args...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("postconf %q: %v\n%s", args, err, out)
	}
}

// A planted trap of Postfix, put in by postconf; others are what comes with it.
type plantedPostfix struct {
	id     string
	args   []string
	first  [][]string // what makes it a trap, and is none alone
	others []string
	// mended: the command that the finding names takes the trap away.
	mended bool
}

func (s *site) plantedPostfix() []plantedPostfix {
	sub, smtp := net.JoinHostPort("127.0.0.1", fmt.Sprint(s.postfix.Submission))+"/inet", net.JoinHostPort("127.0.0.1", fmt.Sprint(s.postfix.SMTP))+"/inet"
	queue := filepath.Join(s.postfix.Dir, "queue")
	at := func(setting string) []string { return []string{"-P", sub + "/" + setting} }
	return []plantedPostfix{
		{id: "postfix-auth-global", args: []string{"-P", smtp + "/smtpd_sasl_auth_enable=yes"}, mended: true},
		{id: "postfix-auth-off", args: at("smtpd_sasl_auth_enable=no"), mended: true},
		{id: "postfix-sasl-elsewhere", args: at(fmt.Sprintf("smtpd_sasl_path=inet:127.0.0.1:%d", s.dovecot.AuthPort))},
		{id: "postfix-noplaintext", args: at("smtpd_sasl_security_options=noanonymous,noplaintext"), mended: true},
		{id: "postfix-anonymous", args: at("smtpd_sasl_security_options="), mended: true},
		{id: "postfix-auth-before-tls", args: at("smtpd_tls_auth_only=no"), mended: true},
		{id: "postfix-no-encrypt", args: at("smtpd_tls_security_level=may"), mended: true},
		{id: "postfix-sender-map", args: at("smtpd_sender_login_maps=")},
		{id: "postfix-sender-check", args: at("smtpd_sender_restrictions=reject_known_sender_login_mismatch"), mended: true},
		{id: "postfix-sender-check", args: at("smtpd_sender_restrictions="), mended: true},
		{id: "postfix-sender-check-late", args: at("smtpd_sender_restrictions=permit_mynetworks,reject_sender_login_mismatch"), mended: true},
		{id: "postfix-sender-check-late", args: at("smtpd_sender_restrictions=permit_sasl_authenticated,reject_authenticated_sender_login_mismatch"), mended: true},
		{id: "postfix-sender-socket", args: at("smtpd_sender_login_maps=socketmap:unix:letterlock/senders:nonsense")},
		{id: "postfix-sender-socket", args: at("smtpd_sender_login_maps=socketmap:unix:letterlock/nobody:senders")},
		{id: "postfix-sasl-socket", args: at("smtpd_sasl_path=letterlock/nobody"), others: []string{"postfix-sasl-elsewhere"}},
		// A socket of another protocol, as when auth-master is named.
		{id: "postfix-sasl-socket", args: at("smtpd_sasl_path=letterlock/senders"), others: []string{"postfix-sasl-elsewhere"}},
		{id: "postfix-milter-off", args: at("smtpd_milters=")},
		{id: "postfix-milter-off", args: at("receive_override_options=no_milters")},
		{id: "postfix-milter-socket", args: at("smtpd_milters=unix:letterlock/milter,inet:127.0.0.1:1")},
		{id: "postfix-milter-accept", args: at("milter_default_action=accept"), mended: true},
		{id: "postfix-milter-accept", args: at("smtpd_milters={unix:letterlock/milter,default_action=accept}")},
		{id: "postfix-milter-macros", args: at("milter_mail_macros=i,{mail_addr}"), mended: true},
		{id: "postfix-bare-newline", args: at("smtpd_forbid_bare_newline=no"), mended: true},
		{id: "postfix-nul", args: at("cleanup_service_name=cleanup")},
		{id: "postfix-line-limit", args: []string{"-e", "line_length_limit=1024"}, mended: true},
		{id: "postfix-response-limit", args: []string{"-e", "smtpd_sasl_response_limit=2048"}, mended: true},
		{id: "postfix-open-relay", first: [][]string{at("smtpd_recipient_restrictions=permit")}, args: at("smtpd_relay_restrictions=permit"), mended: true},
		{id: "postfix-networks", args: []string{"-e", "mynetworks=127.0.0.0/8 0.0.0.0/0"}, mended: true},
		{id: "postfix-upstream", args: at("smtpd_upstream_proxy_protocol=haproxy")},
		{id: "postfix-chroot", first: [][]string{{"-F", sub + "/chroot=y"}}, args: at("smtpd_sasl_path=" + queue + "/letterlock/sasl")},
	}
}

// One site for all: the doctor changes nothing, and what is planted is taken out again.
func TestDoctor(t *testing.T) {
	s := startSite(t)
	s.serve()
	s.switchPostfix()
	t.Run("postfix", s.testDoctorPostfix)
	t.Run("dovecot", s.testDoctorDovecot)
	t.Run("rights", s.testDoctorRights)
	s.t = t
}

// Each trap of Postfix, planted alone into what config postfix made, is found, alone, and
// gone once mended as the doctor says.
func (s *site) testDoctorPostfix(t *testing.T) {
	s.t = t
	dove := s.dovecotCopy(nil)
	found, code := s.doctor(dove)
	if ids, bad := notOK(found); len(ids) != 0 || code != 0 {
		t.Fatalf("a clean set-up: exit %d\n%+v", code, bad)
	}
	if len(found) < 35 {
		t.Fatalf("exit %d, %d traps", code, len(found))
	}
	if out := s.run("doctor", "--postfix-dir", s.postfix.Dir, "--dovecot-dir", dove); out != "" {
		t.Fatalf("a clean set-up is not silent:\n%s", out)
	}
	clean := s.saveConf()
	for i, c := range s.plantedPostfix() {
		if i%plantEvery != 0 {
			continue
		}
		for _, args := range c.first {
			s.postconf(args...)
		}
		s.postconf(c.args...)
		s.found(c.id, c.others, dove, c.mended)
		clean()
	}
}

// found wants the one trap, and perhaps those that come with it.
func (s *site) found(id string, others []string, dove string, mended bool, flags ...string) {
	s.t.Helper()
	found, code := s.doctor(dove, flags...)
	ids, bad := notOK(found)
	want := append([]string{id}, others...)
	slices.Sort(want)
	slices.Sort(ids)
	wantCode := 0
	for _, f := range bad {
		switch {
		case f.Why == "" || f.What == "" || f.Mend == "" && !strings.HasSuffix(f.ID, "-version"):
			s.t.Errorf("%s is told by half: %+v", id, f)
		case f.Level == doctor.Wrong && !f.Live:
			wantCode = 78
		case f.Level == doctor.Wrong && wantCode == 0:
			wantCode = 69
		}
	}
	if !slices.Equal(ids, want) || code != wantCode {
		s.t.Errorf("%s: exit %d, not %d\n%+v", id, code, wantCode, bad)
	}
	if !mended {
		return
	}
	s.mend(bad)
	if ids, bad := notOK(first(s.doctor(dove, flags...))); len(ids) > 0 {
		s.t.Errorf("%s is not mended:\n%+v", id, bad)
	}
}

func first(found []doctor.Finding, _ int) []doctor.Finding { return found }

// mend runs the commands as printed, but for the reload: only files are read.
func (s *site) mend(bad []doctor.Finding) {
	s.t.Helper()
	for _, f := range bad {
		command, _, _ := strings.Cut(f.Mend, " && postfix ")
		s.shell(command)
	}
}

// saveConf returns what brings main.cf and master.cf back.
func (s *site) saveConf() func() {
	s.t.Helper()
	saved := map[string][]byte{}
	for _, name := range []string{"main.cf", "master.cf"} {
		data, err := os.ReadFile(filepath.Join(s.postfix.Dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		saved[name] = data
	}
	return func() {
		for name, data := range saved {
			if err := lab.WriteSettled(filepath.Join(s.postfix.Dir, name), data); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// dovecotCopy writes the configuration of the site's Dovecot, with the files that it
// includes and names, into a folder of its own, changed.
func (s *site) dovecotCopy(change func(string) string) string {
	s.t.Helper()
	from, to := filepath.Join(s.folder, "dovecot"), s.t.TempDir()
	copied := func(source, target string) {
		data, err := os.ReadFile(source)
		if err != nil {
			s.t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), from, to)
		text = strings.ReplaceAll(text, filepath.Join(s.dovecot.Dir, "oauth2.ext"), filepath.Join(to, "oauth2.ext"))
		if change != nil {
			text = change(text)
		}
		if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	copied(filepath.Join(s.dovecot.Dir, "dovecot.conf"), filepath.Join(to, "dovecot.conf"))
	copied(filepath.Join(s.dovecot.Dir, "oauth2.ext"), filepath.Join(to, "oauth2.ext"))
	if err := os.Mkdir(filepath.Join(to, "conf.d"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(from, "*.ext"))
	more, err2 := filepath.Glob(filepath.Join(from, "conf.d", "*"))
	if err := errors.Join(err, err2); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range append(names, more...) {
		copied(name, strings.Replace(name, from, to, 1))
	}
	return to
}

// Each trap of Dovecot, planted alone into a copy of what config dovecot made, is found.
func (s *site) testDoctorDovecot(t *testing.T) {
	s.t = t
	if ids, bad := notOK(first(s.doctor(s.dovecotCopy(nil)))); len(ids) > 0 {
		t.Fatalf("a clean set-up:\n%+v", bad)
	}
	swap := func(old, with string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, with) }
	}
	ahead := func(block string) func(string) string {
		return func(text string) string {
			if strings.HasPrefix(text, "base_dir") {
				return block + text
			}
			return text
		}
	}
	after := func(line string) func(string) string {
		return func(text string) string {
			if strings.HasPrefix(text, "base_dir") {
				return text + line
			}
			return text
		}
	}
	s.write("pgsql.ext", "driver = pgsql\nconnect = host=127.0.0.1 password=never-shown\n", 0o600)
	listen := strings.TrimSpace(s.listenOf())
	for _, c := range []struct {
		id     string
		change func(string) string
		others []string
	}{
		{id: "dovecot-not-asking", change: swap("grant_url = http://"+listen, "grant_url = http://127.0.0.1:1")},
		{id: "dovecot-not-first", change: ahead("passdb {\n  driver = pam\n  mechanisms = plain login\n}\n")},
		{id: "dovecot-not-first", change: ahead("passdb {\n  driver = pam\n  mechanisms = oauthbearer\n}\n")},
		{id: "dovecot-empty-password", change: swap("result_success = return-fail", "result_success = return-ok"), others: []string{"dovecot-not-first"}},
		{id: "dovecot-pgsql-beside", change: after("passdb {\n  driver = sql\n  mechanisms = plain login\n  args = " + s.folder + "/pgsql.ext\n}\n")},
		{id: "dovecot-active", change: swap("active_attribute = active\n", "")},
		{id: "dovecot-active", change: swap("active_value = true\n", "active_value =\n")},
		{id: "dovecot-timeout", change: swap("timeout_msecs = 9000", "timeout_msecs = 0")},
		{id: "dovecot-timeout", change: swap("timeout_msecs = 9000\n", "")},
		{id: "dovecot-parallel", change: swap("max_parallel_connections = 100\n", "")},
		{id: "dovecot-headers", change: swap("send_auth_headers = yes\n", "")},
		{id: "dovecot-mechanisms", change: after("auth_mechanisms = plain login\n")},
		{id: "dovecot-username-chars", change: after("auth_username_chars =\n")},
		{id: "dovecot-label", change: after("auth_username_chars = abcdefghijklmnopqrstuvwxyz01234567890.-_@\n")},
		{id: "dovecot-cache", change: after("auth_cache_size = 10M\n")},
		{id: "dovecot-plaintext", change: after("disable_plaintext_auth = no\n")},
		{id: "dovecot-plaintext", change: after("ssl = no\n")},
		{id: "dovecot-haproxy", change: after("service imap-login {\n  inet_listener behind {\n    port = 1143\n    haproxy = yes\n  }\n}\n")},
		{id: "dovecot-secret", change: swap("client_secret = dove-secret", "client_secret = another")},
	} {
		s.found(c.id, c.others, s.dovecotCopy(c.change), false)
	}

	dove := s.dovecotCopy(nil)
	s.write("doveadm.key", "another-key\n", 0o600)
	s.found("dovecot-doveadm", nil, dove, false)
	s.write("doveadm.key", "order-key\n", 0o600)

	// Web mail that Dovecot's penalty slows, once the penalty is on.
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	s.write("letterlockd.toml", string(conf)+"[throttle]\nallow = [\"192.0.2.7/32\"]\n", 0o644)
	s.found("dovecot-penalty", nil, s.dovecotCopy(swap("    mode = 0\n", "    mode = 0600\n")), false)
	s.write("letterlockd.toml", string(conf), 0o644)
}

func (s *site) listenOf() string {
	s.t.Helper()
	data, err := os.ReadFile(s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "listen = \"")
	listen, _, _ := strings.Cut(rest, "\"")
	return listen
}

// A socket that root can use and Postfix cannot: the group is in /etc/group only, or the
// folder is closed.
func (s *site) testDoctorRights(t *testing.T) {
	s.t = t
	dove := s.dovecotCopy(nil)
	folder := filepath.Join(s.postfix.Dir, "queue", "letterlock")
	info, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(folder, 0, 0); err != nil {
		t.Fatal(err)
	}
	s.found("postfix-sasl-socket", []string{"postfix-sender-socket", "postfix-milter-socket"}, dove, false)
	if err := errors.Join(os.Chown(folder, 0, int(info.Sys().(*syscall.Stat_t).Gid)), os.Chmod(folder, os.ModeSetgid|0o750)); err != nil {
		t.Fatal(err)
	}

	// Away altogether: everything live is wrong, and it is 69, not 78.
	s.kill()
	s.found("dovecot-secret", []string{"postfix-sasl-socket", "postfix-sender-socket", "postfix-milter-socket"}, dove, false)
}
