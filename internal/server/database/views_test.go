package database_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// mailHouse is a small organisation with one of everything that the views tell apart.
func mailHouse(t *testing.T, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	for _, name := range []string{"ann", "bob", "left"} {
		must(t, db.AddPerson(ctx, person(name)))
	}
	both, send := []identity.Role{identity.RoleLogin, identity.RoleSend}, []identity.Role{identity.RoleSend}
	for _, a := range []identity.Address{
		{Address: "sales@example.org", Owners: []identity.Owner{{Person: "ann", Roles: both}, {Person: "bob", Roles: send}}},
		{Address: "info@example.org", Targets: []string{"ann@example.org", "bob@example.org"}, Owners: []identity.Owner{{Person: "bob", Roles: send}}},
		{Address: "@example.net", Owners: []identity.Owner{{Person: "bob", Roles: both}}},
		{Address: "lefts@example.org", Targets: []string{"left@elsewhere.test"}, Owners: []identity.Owner{{Person: "left", Roles: both}}},
		{Address: "leftbox@example.org", Owners: []identity.Owner{{Person: "left", Roles: both}}},
		{Address: "nobodys@example.org"},
	} {
		must(t, db.PutAddress(ctx, a))
	}
	add := func(id, owner, name string, change func(*identity.Credential)) {
		c := credential(id, owner, name)
		c.Created = at(len(id)) // the longer the id, the younger
		if change != nil {
			change(&c)
		}
		must(t, db.AddCredential(ctx, c))
	}
	add("1", "ann", "laptop", nil)
	add("02", "ann", "phone", func(c *identity.Credential) { c.Protocols = []identity.Protocol{identity.IMAP} })
	add("003", "ann", "office", func(c *identity.Credential) {
		c.Networks = []netip.Prefix{network("192.0.2.0/24"), network("2001:db8::/32")}
	})
	add("0004", "ann", "shop", func(c *identity.Credential) {
		c.Protocols, c.Senders = []identity.Protocol{identity.SMTP}, []string{"sales@example.org", "bob@example.org"}
	})
	add("00005", "ann", "scanner", func(c *identity.Credential) {
		c.Protocols, c.Recipients = []identity.Protocol{identity.SMTP}, []string{"ann@example.org"}
	})
	add("06", "bob", "old", func(c *identity.Credential) { c.Expires = time.Now().Add(-time.Minute) })
	add("007", "bob", "new", func(c *identity.Credential) { c.Expires = time.Now().Add(24 * time.Hour) })
	add("0008", "bob", "one", func(c *identity.Credential) { c.Senders = []string{"any@example.net"} })
	// A catch-all does not reach what is somebody else's, however an app password lists it.
	must(t, db.PutAddress(ctx, identity.Address{Address: "anns@example.net", Owners: []identity.Owner{{Person: "ann", Roles: both}}}))
	add("00011", "bob", "wide", func(c *identity.Credential) {
		c.Protocols, c.Senders = []identity.Protocol{identity.SMTP}, []string{"anns@example.net", "anns+x@example.net", "other@example.net"}
	})
	add("09", "left", "phone", nil)
	add("10", "bob", "lost", nil)
	must(t, db.RevokeCredential(ctx, "10", at(1), "lost"))
	must(t, db.DisablePerson(ctx, "left", at(1), "left"))
}

// An ask runs a query as one of the mail servers and returns rows, columns separated by "|".
type ask func(query string) string

// views is run on both engines.
func views(t *testing.T, dovecot, postfix ask) {
	t.Helper()
	rows := func(text string) string {
		return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n", " ")), "\n")
	}
	passdb := func(login, service string) string {
		return rows(dovecot(`SELECT username, password, allow_nets FROM dovecot_passdb WHERE login = '` + login + `' AND service = '` + service + `'`))
	}
	const hash = "|{ARGON2ID}$argon2id$"
	for _, c := range []struct{ login, service, want string }{
		{"ann+laptop@example.org", "imap", "ann@example.org" + hash + "1|"},
		{"ann+laptop@example.org", "smtp", "ann@example.org" + hash + "1|"},
		{"ann+laptop@example.org", "lmtp", ""},
		{"ann+phone@example.org", "imap", "ann@example.org" + hash + "02|"},
		{"ann+phone@example.org", "smtp", ""},
		{"ann+phone@example.org", "pop3", ""},
		{"ann+office@example.org", "sieve", "ann@example.org" + hash + "003|192.0.2.0/24,2001:db8::/32"},
		{"ann+shop@example.org", "imap", ""},
		{"ann+shop@example.org", "smtp", "ann+shop@example.org" + hash + "0004|"},
		{"ann+shop@example.org", "submission", "ann+shop@example.org" + hash + "0004|"},
		{"ann+scanner@example.org", "smtp", ""},                            // SQL cannot keep its limits
		{"ann@example.org", "imap", "ann@example.org" + hash + "1|"},       // the oldest
		{"bob@example.org", "imap", "bob@example.org" + hash + "007|"},     // the oldest in force
		{"bob+old@example.org", "imap", ""},                                // expired
		{"bob+new@example.org", "imap", "bob@example.org" + hash + "007|"}, // not yet
		{"bob+lost@example.org", "imap", ""},                               // revoked
		{"left@example.org", "imap", ""}, {"left+phone@example.org", "imap", ""},
		{"nobody@example.org", "imap", ""}, {"Ann+laptop@example.org", "imap", ""},
	} {
		if got := passdb(c.login, c.service); got != c.want {
			t.Errorf("dovecot_passdb %s %s: %q, want %q", c.login, c.service, got, c.want)
		}
	}
	if got := rows(dovecot(`SELECT login, service FROM dovecot_passdb GROUP BY login, service HAVING count(*) > 1`)); got != "" {
		t.Errorf("dovecot_passdb has more than one row for %s", got)
	}
	for _, c := range []struct {
		ask         ask
		query, want string
	}{
		{dovecot, `SELECT login, username FROM dovecot_userdb WHERE login LIKE 'ann%' ORDER BY login`, `ann+laptop@example.org|ann@example.org
			ann+office@example.org|ann@example.org ann+phone@example.org|ann@example.org ann+scanner@example.org|ann@example.org
			ann+shop@example.org|ann@example.org ann@example.org|ann@example.org anns@example.net|anns@example.net`},
		{dovecot, `SELECT count(*) FROM dovecot_userdb WHERE login LIKE 'left%'`, `0`},
		{postfix, `SELECT address FROM postfix_recipient ORDER BY address`, `ann@example.org anns@example.net bob@example.org nobodys@example.org sales@example.org`},
		{postfix, `SELECT address, target FROM postfix_alias ORDER BY address, target`, `@example.net|bob@example.org ann@example.org|ann@example.org
			anns@example.net|anns@example.net bob@example.org|bob@example.org info@example.org|ann@example.org info@example.org|bob@example.org
			nobodys@example.org|nobodys@example.org sales@example.org|sales@example.org`},
		{postfix, `SELECT address, login FROM postfix_sender_login WHERE login LIKE 'ann%' ORDER BY address, login`, `ann@example.org|ann+scanner@example.org
			ann@example.org|ann@example.org anns@example.net|ann+scanner@example.org anns@example.net|ann@example.org sales@example.org|ann+scanner@example.org sales@example.org|ann+shop@example.org sales@example.org|ann@example.org`},
		{postfix, `SELECT address, login FROM postfix_sender_login WHERE login LIKE 'bob%' ORDER BY address, login`, `@example.net|bob@example.org
			any@example.net|bob+one@example.org any@example.net|bob@example.org bob@example.org|bob@example.org info@example.org|bob@example.org
			other@example.net|bob+wide@example.org other@example.net|bob@example.org sales@example.org|bob@example.org`},
		{postfix, `SELECT count(*) FROM postfix_sender_login WHERE login LIKE 'left%'`, `0`},
		{postfix, `SELECT address FROM postfix_sender_login WHERE login = '(nobody)' ORDER BY address`, `left@example.org leftbox@example.org lefts@example.org nobodys@example.org`},
	} {
		if got := rows(c.ask(c.query)); got != rows(c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", c.query, got, rows(c.want))
		}
	}
}

func TestViewFileShowsTheViews(t *testing.T) {
	dir := t.TempDir()
	o := patient()
	o.ViewFile = filepath.Join(dir, "mail.db")
	db := open(t, filepath.Join(dir, "letterlock.db"), o)
	mailHouse(t, db)
	file := reader(t, o.ViewFile)
	only := func(query string) string { return file(query) }
	views(t, only, only)
	// And the same after a start that finds the file as it is, and after one that has to
	// make it again.
	must(t, db.Close())
	again := open(t, filepath.Join(dir, "letterlock.db"), o)
	views(t, only, only)
	must(t, again.DeletePerson(t.Context(), "ann"))
	if got := file(`SELECT count(*) FROM mail_login WHERE login LIKE 'ann%'`); got != "0" {
		t.Errorf("%s rows of a deleted person", got)
	}
}

// The look each second for what has ended reads an index, however many app passwords there
// are.
func TestExpiringReadsAnIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letterlock.db")
	open(t, path, patient())
	plan := reader(t, path)(`EXPLAIN QUERY PLAN SELECT id FROM credential c WHERE c.expires > 1 AND c.expires <= 2 AND c.revoked = 0 ORDER BY c.expires, c.id`)
	if !strings.Contains(plan, "credential_expires") {
		t.Errorf("reads %s", plan)
	}
}
