//go:build lab

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// testDoctorBySQL plants each trap of the way by SQL into what config printed, and finds
// it, alone; it changes nothing that stays. psql runs an order at the database.
func (s *site) testDoctorBySQL(t *testing.T, pg *lab.Postgres) {
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	dove := s.dovecot.Dir
	found, code := s.doctor(dove, "--sql")
	if ids, bad := notOK(found); len(ids) != 0 || code != 0 {
		t.Fatalf("a clean set-up: exit %d\n%+v", code, bad)
	}
	psql := func(order string) func() {
		return func() {
			t.Helper()
			if _, err := pg.SQL(t.Context(), "mail", order); err != nil {
				t.Fatal(err)
			}
		}
	}
	sender := filepath.Join(s.postfix.Dir, "letterlock-senders.cf")
	query := filepath.Join(s.folder, "dovecot", "letterlock-sql.conf.ext")
	boxes := filepath.Join(s.postfix.Dir, "letterlock-recipients.cf")
	rewrite := func(path, from, to string) func() {
		return func() {
			t.Helper()
			data, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(data), from) {
				t.Fatalf("%v: no %q in %s", err, from, path)
			}
			// In place: owner and rights stay.
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o640); err != nil {
				t.Fatal(err)
			}
		}
	}
	conf := s.saveConf()
	at := s.service(s.postfix.Submission)
	for i, c := range []struct {
		id          string
		others      []string
		plant, back func()
		mended      bool
	}{
		{"postfix-sql-table", nil, func() { s.chmod(sender, 0o600) }, func() { s.chmod(sender, 0o640) }, false},
		{"postfix-sql-sample", nil, rewrite(boxes, "WHERE address = '%s'", "WHERE address = 'x%s'"), rewrite(boxes, "WHERE address = 'x%s'", "WHERE address = '%s'"), false},
		{"dovecot-sql-view", nil, psql("REVOKE SELECT ON dovecot_passdb FROM dovecot"), psql("GRANT SELECT ON dovecot_passdb TO dovecot"), false},
		{"dovecot-sql-query", nil, rewrite(query, "allow_nets FROM", "NULL AS allow_nets FROM"), rewrite(query, "NULL AS allow_nets FROM", "allow_nets FROM"), false},
		{"postfix-sql-table", nil, psql("REVOKE SELECT ON postfix_recipient FROM postfix"), psql("GRANT SELECT ON postfix_recipient TO postfix"), false},
		{"postfix-sql-approved", nil, func() { s.postconf("-X", "proxy_read_maps") }, conf, false},
		{"postfix-sql-off", nil, func() { s.postconf("-P", at+"/smtpd_sender_login_maps=static:carol@try.test") }, conf, false},
	} {
		if i%plantEvery != 0 {
			continue
		}
		c.plant()
		s.found(c.id, c.others, dove, c.mended, "--sql")
		c.back()
	}
	// What mends it is said with the flags that were given, and with none that were not.
	s.postconf("-P", at+"/smtpd_sender_login_maps=")
	found, _ = s.doctor(dove, "--sql")
	_, bad := notOK(found)
	want := "letterlockd config postfix --config-dir '" + s.postfix.Dir + "' --sql --sql-password-file FILE"
	for _, f := range bad {
		if strings.HasPrefix(f.ID, "postfix-s") && f.ID != "postfix-sender-check" && f.Mend != want {
			t.Errorf("%s is mended by %s, not %s", f.ID, f.Mend, want)
		}
	}
	if len(bad) == 0 {
		t.Error("no map of senders, and nothing is found")
	}
	conf()
}

func (s *site) chmod(path string, mode os.FileMode) {
	s.t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		s.t.Fatal(err)
	}
}
