package recipe

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A PostfixSQL is how Postfix goes on without letterlockd: sign-in by Dovecot, and the
// views by SQL.
type PostfixSQL struct {
	Table Table
	Dir   string // of Postfix's configuration
	// Auth is the socket of Dovecot's authentication, relative to the queue folder.
	Auth    string
	Domains []string // own mail domains
	// CatchAll: there are addresses like "@example.org". They cost a question for every
	// address that Postfix sees, so they are asked about only when there are any.
	CatchAll bool
	MainCF
}

// A Table is a database as Postfix and Dovecot find it.
type Table struct {
	// Path is the view file; empty: PostgreSQL.
	Path string
	// Host is a name, or the folder of a Unix socket, at which PostgreSQL lets the user
	// postfix or dovecot in by its own name.
	Host, Port, Name string
	Role             string
	Password         string
}

// Faults are reasons why the text would not work as it stands. They quote no password.
func (t Table) Faults() []string {
	var faults []string
	for what, word := range map[string]string{"host": t.Host, "port": t.Port, "name": t.Name, "role": t.Role, "path": t.Path} {
		if strings.ContainsFunc(word, awkward) {
			faults = append(faults, "the "+what+" of the database has a character that the mail servers' files cannot hold")
		}
	}
	// Postfix and libpq quote differently, and Dovecot ends a value at a number sign.
	if strings.ContainsFunc(t.Password, awkward) {
		faults = append(faults, "the role's password has a character that means something in Postfix's or Dovecot's files: take letters, digits, dots and dashes, as openssl rand -hex 32 gives them")
	}
	return faults
}

func awkward(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune("'\"\\#$%{}<>;=", r)
}

// kind is the table type of Postfix, and the driver of Dovecot.
func (t Table) kind() string {
	if t.Path != "" {
		return "sqlite"
	}
	return "pgsql"
}

// where are the lines of a Postfix table file that lead to the database.
func (t Table) where() string {
	if t.Path != "" {
		return "dbpath = " + t.Path + "\n"
	}
	host := t.Host
	switch {
	case strings.HasPrefix(host, "/"):
		host = "unix:" + host
	case t.Port != "":
		host += ":" + t.Port
	}
	text := fmt.Sprintf("hosts = %s\ndbname = %s\nuser = %s\n", host, t.Name, t.Role)
	if t.Password != "" {
		text += "password = " + t.Password + "\n"
	}
	return text
}

// connect is the setting of a Dovecot file.
func (t Table) connect() string {
	if t.Path != "" {
		return t.Path
	}
	words := []string{"host=" + t.Host}
	if t.Port != "" {
		words = append(words, "port="+t.Port)
	}
	words = append(words, "dbname="+t.Name, "user="+t.Role)
	if t.Password != "" {
		words = append(words, "password="+t.Password)
	}
	return strings.Join(words, " ")
}

// A lookup is one table file.
type lookup struct{ name, query, what string }

func (l lookup) ref(s PostfixSQL) string {
	return "proxy:" + s.Table.kind() + ":" + filepath.Join(s.Dir, l.name)
}

func (s PostfixSQL) senders() []lookup {
	known := lookup{"letterlock-senders.cf", "SELECT login FROM postfix_sender_login WHERE address = '%s'", "who may send as an address"}
	all := s.withCatchAll(known)
	// Logins that were there before go on: an address that nobody here knows is that of the
	// login of the same name. It has no extension, or ann+x@ would not be asked about as ann@.
	all[0].query += " UNION SELECT '%s' WHERE '%u' NOT LIKE '%%+%%' AND NOT EXISTS (SELECT 1 FROM postfix_sender_login WHERE address IN ('%s', '@%d'))"
	return all
}

func (s PostfixSQL) aliases() []lookup {
	return s.withCatchAll(lookup{"letterlock-aliases.cf", "SELECT target FROM postfix_alias WHERE address = '%s'", "where mail for an address goes"})
}

func (s PostfixSQL) mailboxes() lookup {
	return lookup{"letterlock-recipients.cf", "SELECT mailbox FROM postfix_recipient WHERE address = '%s'", "the mailboxes there are"}
}

// withCatchAll adds the table of "@domain" keys, which has to do without domain =.
func (s PostfixSQL) withCatchAll(l lookup) []lookup {
	if !s.CatchAll {
		return []lookup{l}
	}
	return []lookup{l, {strings.Replace(l.name, ".cf", "-catchall.cf", 1), l.query + " AND address LIKE '@%%'", l.what + ", for whole domains"}}
}

// text is the file.
func (s PostfixSQL) text(l lookup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Letterlock: %s.\n%squery = %s\n", l.what, s.Table.where(), l.query)
	if !strings.Contains(l.name, "-catchall") {
		// Otherwise every sender and recipient of the world is asked about, by its address,
		// its local part and its domain.
		fmt.Fprintf(&b, "domain = %s\n", strings.Join(s.Domains, ", "))
	}
	return b.String()
}

// changes are those of main.cf, and notes on what was left as it is.
func (s PostfixSQL) changes() (changes []change, notes []string) {
	var aliases []string
	for _, l := range s.aliases() {
		aliases = append(aliases, l.ref(s))
	}
	changes, notes = s.MainCF.recipients(aliases, s.mailboxes().ref(s))
	reads := s.Main["proxy_read_maps"]
	for _, l := range s.senders() {
		reads = also(reads, l.ref(s))
	}
	for _, alias := range aliases {
		reads = also(reads, alias)
	}
	if slices.ContainsFunc(changes, func(c change) bool { return strings.Contains(c.value, s.mailboxes().name) }) {
		reads = also(reads, s.mailboxes().ref(s))
	}
	return append(changes, change{"proxy_read_maps", reads,
		"What a service of master.cf names is not among those that proxymap opens by itself."}), notes
}

// files are the tables that are in use.
func (s PostfixSQL) files() []lookup {
	all := slices.Concat(s.senders(), s.aliases())
	changes, _ := s.changes()
	if slices.ContainsFunc(changes, func(c change) bool { return strings.Contains(c.value, s.mailboxes().name) }) {
		all = append(all, s.mailboxes())
	}
	return all
}

const sqlHead = `#
# By SQL alone Postfix cannot know, and so:
#   - Nobody looks at the From field: only the envelope's sender is held to its owner.
#     MAIL FROM:<> is open to everybody who signed in.
#   - App passwords with recipients or messages an hour of their own do not sign in here at
#     all, whether letterlockd runs or not. Limits of networks, protocols, senders and
#     expiry hold.
#   - People whom letterlockd does not know send as the name they sign in by, nothing else.
#   - Guesses are slowed by Dovecot's own penalty alone while letterlockd is away.
#   - While letterlockd is away ann@example.org is the oldest of Ann's app passwords, and
#     each of them signs in as ann+label@example.org. Revocations are felt at once.
#   - Postfix says 535 (wrong password), not 454 (later), while Dovecot cannot ask: so set
#     up Dovecot by "config dovecot --sql" or "--sql-only".
# "config postfix" without --sql has none of these gaps, and needs letterlockd running.
`

// write puts the files there, for root and the group of Postfix alone.
func (s PostfixSQL) write(b *strings.Builder) {
	b.WriteString("\n# The tables. proxymap, which opens them, runs as postfix and outside the chroot.\numask 077\n")
	for _, l := range s.files() {
		path := quote(filepath.Join(s.Dir, l.name))
		fmt.Fprintf(b, "cat >%s <<'EOF'\n%sEOF\nchgrp postfix %s\nchmod 640 %s\n", path, s.text(l), path, path)
	}
	changes, notes := s.changes()
	writeChanges(b, changes, notes)
}

// undo takes the files away and brings main.cf back. A file that is in use today, because the
// script has run before, stays: a table that main.cf names and nobody finds stops all mail.
func (s PostfixSQL) undo(b *strings.Builder, before map[string]string) {
	changes, _ := s.changes()
	s.undoChanges(b, changes)
	for _, l := range s.files() {
		if !names(s.Main, l.ref(s)) && !names(before, l.ref(s)) {
			fmt.Fprintf(b, "rm -f %s\n", quote(filepath.Join(s.Dir, l.name)))
		}
	}
}

// names reports whether one of some settings names a table.
func names(settings map[string]string, ref string) bool {
	for _, value := range settings {
		if strings.Contains(value, ref) {
			return true
		}
	}
	return false
}

// settings are those of one service.
func (s PostfixSQL) settings(p Postfix, service string) []setting {
	var maps []string
	for _, l := range s.senders() {
		maps = append(maps, l.ref(s))
	}
	return []setting{
		{"smtpd_sasl_auth_enable", "yes", "Sign-in, by Dovecot."},
		{"smtpd_sasl_type", "dovecot", ""},
		{"smtpd_sasl_path", s.Auth, ""},
		{"smtpd_sasl_security_options", "noanonymous", ""},
		{"smtpd_tls_auth_only", "yes", "No secret before TLS."},
		{"smtpd_sender_login_maps", strings.Join(maps, ","), "Nobody sends as another: the envelope."},
		{"smtpd_sender_restrictions", first(ownSender, p.inUse(service, "smtpd_sender_restrictions", p.Restrictions)), ""},
		{"smtpd_forbid_bare_newline", "normalize", "A message ends in one way only (CVE-2023-51764)."},
	}
}
