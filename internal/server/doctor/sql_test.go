package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A fakePostfix prints what postconf would, and answers for postmap.
func fakePostfix(main map[string]string, postmap func(table string) Answer) Options {
	return Options{
		Postfix: &Postfix{SQL: true, Domain: "example.org", UID: 101, GID: 102, As: true},
		Sample:  func(context.Context) (string, error) { return "ann@example.org", nil },
		Run: func(_ context.Context, _ string, args ...string) ([]byte, error) {
			switch args[len(args)-1] {
			case "-M":
				return []byte("submission inet n - y - - smtpd\n"), nil
			case "-P":
				return []byte("submission/inet/smtpd_sender_login_maps = " + main["senders"] + "\n"), nil
			}
			var b strings.Builder
			b.WriteString("mail_version = 3.7.11\nqueue_directory = /var/spool/postfix\n")
			for name, value := range main {
				b.WriteString(name + " = " + value + "\n")
			}
			return []byte(b.String()), nil
		},
		Ask: func(_ context.Context, as User, program string, args ...string) (Answer, error) {
			if program != "postmap" || !as.As || as.UID != 101 || as.GID != 102 || args[0] != "-q" {
				return Answer{}, errors.New("asked otherwise than Postfix does")
			}
			if postmap == nil {
				return Answer{}, errors.New("no postmap")
			}
			return postmap(args[1] + " " + args[2]), nil
		},
	}
}

func TestPostfixBySQL(t *testing.T) {
	folder := t.TempDir()
	senders, boxes := filepath.Join(folder, "letterlock-senders.cf"), filepath.Join(folder, "letterlock-recipients.cf")
	for _, path := range []string{senders, boxes} {
		if err := os.WriteFile(path, []byte("hosts = db\nuser = mailer\npassword = hush\nquery = SELECT 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := func() map[string]string {
		return map[string]string{
			"senders": "proxy:pgsql:" + senders, "virtual_mailbox_maps": "hash:/etc/boxes, proxy:pgsql:" + boxes,
			"proxy_read_maps": "proxy:pgsql:" + senders + " proxy:pgsql:" + boxes,
		}
	}
	knows := func(string) Answer { return Answer{Out: "ann@example.org\n"} }
	for _, c := range []struct {
		what    string
		change  func(map[string]string)
		postmap func(string) Answer
		want    []string
	}{
		{"as printed", func(map[string]string) {}, knows, nil},
		{"several logins", func(map[string]string) {}, func(string) Answer { return Answer{Out: "ann+phone@example.org,ann@example.org\n"} }, nil},
		{"not asked", func(m map[string]string) { m["senders"] = "hash:/etc/senders" }, knows, []string{"wrong postfix-sql-off submission/inet: smtpd_sender_login_maps names no table of letterlockd's"}},
		{"not approved", func(m map[string]string) { m["proxy_read_maps"] = "proxy:pgsql:" + senders }, knows, []string{"wrong postfix-sql-approved " + boxes + ": proxy_read_maps does not name proxy:pgsql:" + boxes}},
		{"without proxymap", func(m map[string]string) { m["senders"], m["proxy_read_maps"] = "pgsql:"+senders, "proxy:pgsql:"+boxes }, knows, nil},
		{"nobody there", func(map[string]string) {}, func(query string) Answer {
			if strings.HasSuffix(query, "recipients.cf") {
				return Answer{Code: 1}
			}
			return knows(query)
		}, []string{"wrong postfix-sql-sample " + boxes + ": it does not know the mailbox of ann@example.org"}},
		{"somebody else", func(map[string]string) {}, func(query string) Answer {
			if strings.HasSuffix(query, "senders.cf") {
				return Answer{Out: "bob@example.org\n"}
			}
			return knows(query)
		}, []string{"wrong postfix-sql-sample " + senders + ": it does not know who may send as ann@example.org"}},
		{"no answer", func(map[string]string) {}, func(query string) Answer {
			if strings.HasSuffix(query, "senders.cf") {
				return Answer{Code: 1, Err: "postmap: fatal: open " + senders + ": Permission denied\n"}
			}
			return knows(query)
		}, []string{"wrong postfix-sql-table " + senders + ": the user postfix gets no answer: fatal: open " + senders + ": Permission denied"}},
	} {
		main := good()
		c.change(main)
		found, err := Look(t.Context(), fakePostfix(main, c.postmap))
		if err != nil {
			t.Fatal(err)
		}
		found = slices.DeleteFunc(found, func(f Finding) bool { return !strings.HasPrefix(f.ID, "postfix-sql-") })
		if got := bad(found); len(found) < 4 || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
		for _, f := range found {
			const again = "letterlockd config postfix --sql"
			if f.Level == Wrong && !strings.Contains(f.Mend, again) || strings.Contains(f.Mend, "hush") {
				t.Errorf("%s: mended by %s", c.what, f.Mend)
			}
			if f.Level == Wrong && strings.Contains(strings.Join(c.want, ""), boxes) && !strings.HasSuffix(f.Mend, " --sql-role 'mailer' --sql-password-file FILE") {
				t.Errorf("%s: flags are dropped: %s", c.what, f.Mend)
			}
		}
	}

	// Nobody to ask about is no fault.
	o := fakePostfix(good(), func(string) Answer { return Answer{Code: 1} })
	o.Sample = func(context.Context) (string, error) { return "", errors.New("the database is away") }
	found, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.ID == "postfix-sql-sample" && (f.Level != Skipped || f.What != "unknown: the database is away") {
			t.Errorf("%+v", f)
		}
	}
}

func TestDovecotBySQL(t *testing.T) {
	const conf = "# 2.3.19.1: /etc/dovecot/dovecot.conf\npassdb {\n  args = /etc/dovecot/letterlock-sql.conf.ext\n  driver = sql\n  mechanisms = plain login\n}\n" +
		"service auth {\n  unix_listener /var/spool/postfix/private/letterlock-auth {\n    mode = 0660\n  }\n}\n"
	const query = "SELECT username AS user FROM dovecot_passdb WHERE login = '%Lu'"
	refused := Answer{Out: "passdb: nobody@letterlock.invalid auth failed\nextra fields:\n  user=nobody@letterlock.invalid\n", Code: 77}
	for _, c := range []struct {
		what, conf, query string
		answer            Answer
		want              []string
	}{
		{"as printed", conf, query, refused, nil},
		{"another query", conf, "SELECT 1", refused, []string{"wrong dovecot-sql-query /etc/dovecot/letterlock-sql.conf.ext: password_query is not the one that config dovecot prints"}},
		{"not asked", "# 2.3.19.1: x\n", query, refused, []string{"wrong dovecot-sql-query passdb: no passdb asks the views of letterlockd"}},
		{"no answer", conf, query, Answer{Out: "passdb: nobody@letterlock.invalid auth failed\nextra fields:\n  temp\n", Code: 75}, []string{"wrong dovecot-sql-view /etc/dovecot/letterlock-sql.conf.ext: Dovecot gets no answer: its log says why"}},
		{"not running", conf, query, Answer{Err: "doveadm(root): Fatal: auth-client: connect(/run/dovecot/auth-client) failed: No such file or directory\n", Code: 75},
			[]string{"skipped dovecot-sql-view /etc/dovecot/letterlock-sql.conf.ext: unknown: Fatal: auth-client: connect(/run/dovecot/auth-client) failed: No such file or directory"}},
	} {
		o := Options{
			Dovecot: &Dovecot{SQL: true, Query: query},
			Run:     func(context.Context, string, ...string) ([]byte, error) { return []byte(c.conf), nil },
			ReadFile: func(string) ([]byte, error) {
				return []byte("driver = pgsql\nconnect = host=db user=reader password=hush\npassword_query = " + c.query + "\n"), nil
			},
			Ask: func(context.Context, User, string, ...string) (Answer, error) { return c.answer, nil },
		}
		found, err := Look(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := bad(found); !slices.Equal(got, slices.DeleteFunc(slices.Clone(got), func(s string) bool { return strings.Contains(s, "dovecot-not-asking") })) {
			t.Errorf("%s: %q", c.what, got)
		}
		sql := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return !strings.HasPrefix(f.ID, "dovecot-sql-") })
		if got := bad(sql); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
		for _, f := range sql {
			if f.Level == Wrong && f.Where != "passdb" && !strings.HasSuffix(f.Mend, "letterlockd config dovecot --write --config-dir /etc/dovecot --sql-only --sql-role 'reader' --sql-password-file FILE --postfix-socket '/var/spool/postfix/private/letterlock-auth' && doveadm reload") {
				t.Errorf("%s: flags are dropped: %s", c.what, f.Mend)
			}
			if strings.Contains(f.Mend+f.What, "hush") {
				t.Errorf("%s tells a password: %+v", c.what, f)
			}
		}
	}
}

// Of Postfix and Dovecot one alone may be on a machine: the other is said to be absent, and
// what is there is looked at. Where neither is, or where it has to be, that is an error.
func TestOneOfTwo(t *testing.T) {
	broken := errors.New("postconf: fatal: open /etc/postfix/main.cf: No such file or directory")
	for _, c := range []struct {
		what             string
		postfix, dovecot error // why the program cannot be run
		perhaps          bool
		want             []string
		err              bool
	}{
		{what: "both", perhaps: true, want: []string{"ok postfix-installed", "ok dovecot-installed"}},
		{what: "Dovecot alone", postfix: exec.ErrNotFound, perhaps: true, want: []string{"skipped postfix-installed: there is no postconf in PATH", "ok dovecot-installed"}},
		{what: "Postfix alone", dovecot: exec.ErrNotFound, perhaps: true, want: []string{"ok postfix-installed", "skipped dovecot-installed: there is no doveconf in PATH"}},
		{what: "neither", postfix: exec.ErrNotFound, dovecot: exec.ErrNotFound, perhaps: true, err: true},
		{what: "there, and broken", postfix: broken, perhaps: true, err: true},
		{what: "one broken, one absent", postfix: exec.ErrNotFound, dovecot: broken, perhaps: true, err: true},
		{what: "Dovecot alone, Postfix by the configuration", postfix: exec.ErrNotFound, err: true},
		{what: "both by the configuration", want: nil},
	} {
		o := fakePostfix(map[string]string{}, func(string) Answer { return Answer{} })
		o.Postfix.Perhaps = c.perhaps
		o.Dovecot = &Dovecot{SQL: true, Perhaps: c.perhaps}
		run := o.Run
		o.Run = func(ctx context.Context, program string, args ...string) ([]byte, error) {
			why := map[string]error{"postconf": c.postfix, "doveconf": c.dovecot}[program]
			switch {
			case why != nil:
				return nil, fmt.Errorf("run %s: %w", program, &exec.Error{Name: program, Err: why})
			case program == "doveconf":
				return []byte("# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n"), nil
			}
			return run(ctx, program, args...)
		}
		found, err := Look(t.Context(), o)
		if (err != nil) != c.err {
			t.Errorf("%s: %v", c.what, err)
		}
		var got []string
		rows := map[string]int{}
		for _, f := range found {
			name, rest, _ := strings.Cut(f.ID, "-")
			if rest == "installed" {
				got = append(got, strings.TrimSuffix(string(f.Level)+" "+f.ID+": "+f.What, ": "))
				if f.Why == "" {
					t.Errorf("%s: %+v", c.what, f)
				}
				continue
			}
			rows[name]++
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
		if !c.err && (rows["postfix"] > 0) != (c.postfix == nil) || !c.err && (rows["dovecot"] > 0) != (c.dovecot == nil) {
			t.Errorf("%s: looked at %v", c.what, rows)
		}
	}
}
