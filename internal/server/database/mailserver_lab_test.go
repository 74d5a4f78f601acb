//go:build lab

package database_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// phc is a hash as internal/server/credential makes it.
func phc(password string) string {
	salt := []byte("0123456789abcdef")
	hash := argon2.IDKey([]byte(password), salt, 2, 19456, 1, 32)
	encode := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=19456,t=2,p=1$" + encode(salt) + "$" + encode(hash)
}

// sqlDovecot is a real Dovecot that asks the views and nobody else.
func sqlDovecot(t *testing.T, introspection, driver, connect string) (login func(user, password string) bool) {
	t.Helper()
	dir := publicDir(t)
	conf := filepath.Join(dir, "sql.conf.ext")
	must(t, os.WriteFile(conf, []byte(`driver = `+driver+`
connect = `+connect+`
password_query = SELECT username AS user, password, allow_nets FROM dovecot_passdb WHERE login = '%u' AND service = '%s'
`), 0o644))
	mechanisms := "plain login"
	if introspection != "-" {
		mechanisms += " xoauth2 oauthbearer"
	}
	ca := lab.RunCA(t)
	d := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: introspection, Mechanisms: mechanisms, Extra: `
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+
passdb {
  driver = sql
  mechanisms = plain login
  args = ` + conf + `
}
`})
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ca.File)
	must(t, err)
	pool.AppendCertsFromPEM(pem)
	return func(user, password string) bool {
		t.Helper()
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.IMAPS), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		lines := bufio.NewScanner(conn)
		fmt.Fprintf(conn, "a LOGIN %q %q\r\n", user, password)
		for lines.Scan() {
			if line := lines.Text(); strings.HasPrefix(line, "a ") {
				return strings.HasPrefix(line, "a OK")
			}
		}
		t.Fatalf("login of %s: no answer: %v", user, lines.Err())
		return false
	}
}

// publicDir is a folder that other users may enter, as Dovecot's workers have to.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "database-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func withHash(c identity.Credential, password string) identity.Credential {
	c.Hash = phc(password)
	return c
}

// dovecotReads logs in to a real Dovecot over what the database shows it. The statements
// that change rights come from letterlockd; the logins ask SQL alone.
func dovecotReads(t *testing.T, db *database.DB, login func(user, password string) bool) {
	t.Helper()
	ctx := t.Context()
	office := withHash(credential("2", "ann", "office"), "sel2-secret")
	office.Networks = append(office.Networks, network("192.0.2.0/24"))
	mail := withHash(credential("3", "ann", "mail"), "sel3-secret")
	mail.Protocols = []identity.Protocol{identity.SMTP}
	must(t, db.AddPerson(ctx, person("ann")))
	for _, c := range []identity.Credential{withHash(credential("1", "ann", "phone"), "sel1-secret"), office, mail} {
		must(t, db.AddCredential(ctx, c))
	}
	for _, c := range []struct {
		user, password string
		want           bool
	}{
		{"ann+phone@example.org", "sel1-secret", true},
		{"ann@example.org", "sel1-secret", true},
		{"ann+phone@example.org", "sel2-secret", false},
		{"ann+phone@example.org", "' OR '1'='1", false},
		{"ann+office@example.org", "sel2-secret", false}, // from another network
		{"ann+mail@example.org", "sel3-secret", false},   // for another protocol
		{"ann+none@example.org", "sel1-secret", false},
		{"' OR '1'='1", "sel1-secret", false},
	} {
		if got := login(c.user, c.password); got != c.want {
			t.Errorf("login of %s: %v, want %v", c.user, got, c.want)
		}
	}
	must(t, db.RevokeCredential(ctx, "1", at(1), "lost"))
	if login("ann+phone@example.org", "sel1-secret") {
		t.Error("a revoked password logs in")
	}
	must(t, db.AddCredential(ctx, withHash(credential("4", "ann", "phone"), "sel4-secret")))
	must(t, db.Close()) // letterlockd is down
	if !login("ann+phone@example.org", "sel4-secret") {
		t.Error("no login while letterlockd is down")
	}
}

func TestDovecotReadsPostgres(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	place := newPlace(t, p)
	db := open(t, place, patient())
	mailRoles(t, p, db)
	name := place[strings.LastIndex(place, "/")+1 : strings.Index(place, "?")]
	dovecotReads(t, db, sqlDovecot(t, "-", "pgsql", fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=dove-cot", p.Port, name)))
}

func TestDovecotReadsViewFile(t *testing.T) {
	dir := publicDir(t)
	o := patient()
	o.ViewFile, o.ViewMode = filepath.Join(dir, "mail.db"), 0o644
	db := open(t, filepath.Join(t.TempDir(), "letterlock.db"), o)
	dovecotReads(t, db, sqlDovecot(t, "http://127.0.0.1:1/", "sqlite", o.ViewFile))
}

// With PostgreSQL the file is what stands beside a passdb of tokens, and it works while
// the database is away too.
func TestDovecotReadsViewFileOfPostgres(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	o := patient()
	o.ViewFile, o.ViewMode = filepath.Join(publicDir(t), "mail.db"), 0o644
	db := open(t, newPlace(t, p), o)
	dovecotReads(t, db, sqlDovecot(t, "http://127.0.0.1:1/", "sqlite", o.ViewFile))
}

// postmap asks a table as Postfix does.
func postmap(t *testing.T, kind, conf, key string) string {
	t.Helper()
	out, err := exec.CommandContext(within(t), "postmap", "-q", key, kind+":"+conf).Output()
	var exit *exec.ExitError
	if err != nil && (!asExit(err, &exit) || exit.ExitCode() != 1 || len(exit.Stderr) != 0) { // 1: not there
		t.Fatalf("postmap -q %s: %v: %s", key, err, exit.Stderr)
	}
	return strings.TrimSpace(string(out))
}

func asExit(err error, into **exec.ExitError) (ok bool) {
	*into, ok = err.(*exec.ExitError)
	return ok
}

func postfixReads(t *testing.T, kind, where string) {
	t.Helper()
	dir := t.TempDir()
	for _, c := range []struct{ query, key, want string }{
		{"SELECT mailbox FROM postfix_recipient WHERE address = '%s'", "ann@example.org", "ann@example.org"},
		{"SELECT mailbox FROM postfix_recipient WHERE address = '%s'", "Sales@example.org", "sales@example.org"},
		{"SELECT mailbox FROM postfix_recipient WHERE address = '%s'", "left@example.org", ""},
		{"SELECT target FROM postfix_alias WHERE address = '%s' ORDER BY target", "info@example.org", "ann@example.org,bob@example.org"},
		{"SELECT target FROM postfix_alias WHERE address = '%s' ORDER BY target", "@example.net", "bob@example.org"},
		{"SELECT login FROM postfix_sender_login WHERE address = '%s' ORDER BY login", "sales@example.org", "ann+scanner@example.org,ann+shop@example.org,ann@example.org,bob@example.org"},
		{"SELECT login FROM postfix_sender_login WHERE address = '%s' ORDER BY login", "left@example.org", "(nobody)"},
		{"SELECT login FROM postfix_sender_login WHERE address = '%s' ORDER BY login", "x' OR '1'='1", ""},
	} {
		conf := filepath.Join(dir, "table.cf")
		must(t, lab.WriteSettled(conf, []byte(where+"\nquery = "+c.query+"\n")))
		if got := postmap(t, kind, conf, c.key); got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.query, c.key, got, c.want)
		}
	}
}

func TestPostfixReads(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	place := newPlace(t, p)
	db := open(t, place, patient())
	mailHouse(t, db)
	mailRoles(t, p, db)
	name := place[strings.LastIndex(place, "/")+1 : strings.Index(place, "?")]
	postfixReads(t, "pgsql", fmt.Sprintf("hosts = 127.0.0.1:%d\nuser = postfix\npassword = none\ndbname = %s", p.Port, name))

	o := patient()
	o.ViewFile = filepath.Join(t.TempDir(), "mail.db")
	mailHouse(t, open(t, filepath.Join(t.TempDir(), "letterlock.db"), o))
	postfixReads(t, "sqlite", "dbpath = "+o.ViewFile)
}
