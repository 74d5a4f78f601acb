package recipe

import (
	"fmt"
	"net"
	"strings"
)

// Dovecot are the facts about one Dovecot.
type Dovecot struct {
	Version string // "2.3.19.1"; 2.4 has a form of its own
	Dir     string // of its configuration, "/etc/dovecot"
	// Listen is the address of letterlockd's endpoints for Dovecot.
	Listen string
	Secret string // what Dovecot shows there
	// Doveadm is the loopback address at which this Dovecot takes orders of revocation,
	// and DoveadmKey what letterlockd shows there; empty: it takes none.
	Doveadm, DoveadmKey string
	// ViewFile is what is asked by SQL while letterlockd does not answer; empty: nothing is.
	ViewFile string
	// SQL is a database that is asked instead of letterlockd: there are no tokens then, and
	// nothing here needs it running.
	SQL *Table
	// Listeners are sockets of the authentication process for others.
	Listeners []Listener
	// Discovery is told to clients whose token was refused; empty: nothing is.
	Discovery string
}

// A Listener is a Unix socket at which sign-ins are asked about.
type Listener struct {
	Path, User, Group string
	Why               string
}

// A File is one file of configuration.
type File struct {
	Name string // below Dir
	Text string
	// Private: it holds a secret, and only root may read it.
	Private bool
}

// Files are what is put beside the files that are there. Ours are asked first: an app
// password that went to PAM, Kerberos or LDAP first would count there as a wrong one,
// and lock the person out. Whatever is no secret of ours goes on to those.
func (d Dovecot) Files() []File {
	switch {
	case strings.HasPrefix(d.Version, "2.4"):
		return d.files24()
	case d.SQL != nil:
		return d.sqlAlone()
	}
	files := []File{
		{Name: "conf.d/05-letterlock.conf", Text: strings.ReplaceAll(dovecotPassdbs, "@dir@", d.Dir)},
		{Name: "conf.d/95-letterlock.conf", Text: dovecotMechanisms + d.listeners() + d.orders()},
		// No scope: letterlockd itself looks at the protocol, and 2.3.19 takes a list of
		// scopes for one that a token must have whole, so that narrow tokens got nowhere.
		{Name: "letterlock-token.conf.ext", Text: d.endpoint("introspection_url", "introspect", "introspection_mode = post\n"), Private: true},
		{Name: "letterlock-password.conf.ext", Text: d.endpoint("grant_url", "password", "use_grant_password = yes\n# Who signs in by an alias gets the mailbox of the person.\npass_attrs = user=%{oauth2:mailbox}\n"), Private: true},
	}
	if d.ViewFile != "" {
		files[0].Text += strings.ReplaceAll(dovecotSQLPassdb, "@dir@", d.Dir)
		files = append(files, File{Name: "letterlock-sql.conf.ext", Text: "driver = sqlite\nconnect = " + d.ViewFile + "\n" + dovecotSQL, Private: true})
	}
	if d.Doveadm != "" {
		files = append(files, File{Name: "letterlock-doveadm.conf.ext", Text: "doveadm_api_key = " + d.DoveadmKey + "\n", Private: true})
	}
	return files
}

// sqlAlone are the files of a Dovecot that never asks letterlockd.
func (d Dovecot) sqlAlone() []File {
	passdb := dovecotHead + strings.ReplaceAll(dovecotSQLAlone, "@dir@", d.Dir)
	files := []File{
		{Name: "conf.d/05-letterlock.conf", Text: passdb},
		{Name: "letterlock-sql.conf.ext", Text: "driver = " + d.SQL.kind() + "\nconnect = " + d.SQL.connect() + "\n" + dovecotSQL, Private: true},
	}
	if late := d.listeners() + d.orders(); late != "" {
		files = append(files, File{Name: "conf.d/95-letterlock.conf", Text: "# Letterlock." + late})
	}
	if d.Doveadm != "" {
		files = append(files, File{Name: "letterlock-doveadm.conf.ext", Text: "doveadm_api_key = " + d.DoveadmKey + "\n", Private: true})
	}
	return files
}

func (d Dovecot) listeners() string {
	var b strings.Builder
	for _, l := range d.Listeners {
		fmt.Fprintf(&b, "\n# %s\nservice auth {\n  unix_listener %s {\n    mode = 0660\n    user = %s\n    group = %s\n  }\n}\n", l.Why, l.Path, l.User, l.Group)
	}
	return b.String()
}

// orders opens the door for revocations. The key stands in a file that only root can
// read; doveadm and dovecot-lda, which users run, read the configuration without it.
func (d Dovecot) orders() string {
	host, port, err := net.SplitHostPort(d.Doveadm)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(`
# A revocation empties the authentication cache and ends the person's sessions.
!include_try %s/letterlock-doveadm.conf.ext
service doveadm {
  inet_listener http {
    address = %s
    port = %s
  }
}
`, d.Dir, host, port)
}

const dovecotHead = `# Letterlock. This file and the other *-letterlock.conf are all there is: without them, and
# after a reload, everything is as it was. A reload ends every open session some seconds
# later, and programs sign in anew, unless shutdown_clients = no held before it.

# ann+phone@example.org is the login name of one app password.
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+
`

const dovecotPassdbs = dovecotHead + `
# Dovecot before 2.3.21 crashes when an empty password reaches an oauth2 passdb.
passdb {
  driver = static
  args = password={PLAIN}
  mechanisms = plain login
  result_success = return-fail
  result_failure = continue
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = @dir@/letterlock-token.conf.ext
  result_failure = return-fail
}
passdb {
  driver = oauth2
  mechanisms = plain login
  args = @dir@/letterlock-password.conf.ext
}
`

// The view file and not PostgreSQL itself: driver = pgsql beside an oauth2 passdb crashes
// the auth process of 2.3.19, so that the sqlite file is the one printed.
const dovecotSQLPassdb = `
# While letterlockd does not answer: the same app passwords, from its view file. Guesses are
# slowed by Dovecot's own penalty here. Never make
# this driver = pgsql beside the oauth2 passdbs above: Dovecot 2.3.19 crashes with both.
passdb {
  driver = sql
  mechanisms = plain login
  args = @dir@/letterlock-sql.conf.ext
  skip = authenticated
}
`

const dovecotSQLAlone = `
# App passwords by SQL alone: letterlockd is not asked, and need not run. There are no
# tokens; guesses are slowed by Dovecot's own penalty; a last use is not noted.
# Argon2 runs in the authentication process itself when the driver is pgsql: logins wait
# for each other, some fifty a second.
passdb {
  driver = sql
  mechanisms = plain login
  args = @dir@/letterlock-sql.conf.ext
}
`

const dovecotSQL = `# A person's plain address is their oldest app password here, ann+phone@example.org the one
# named phone. What is limited in recipients or messages an hour cannot send this way.
password_query = ` + passwordQuery + "\n"

const passwordQuery = `SELECT username AS user, password, allow_nets FROM dovecot_passdb WHERE login = '%Lu' AND service = '%Ls'`

// PasswordQuery is what Dovecot 2.3 asks SQL about a sign-in.
func PasswordQuery() string { return passwordQuery }

const dovecotMechanisms = `# Letterlock: tokens beside what is there. This stands late, because conf.d/10-auth.conf
# sets the list anew.
auth_mechanisms = $auth_mechanisms xoauth2 oauthbearer
`

func (d Dovecot) endpoint(setting, path, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s = http://%s/dovecot/%s\n%s", setting, d.Listen, path, more)
	fmt.Fprintf(&b, "client_id = dovecot\nclient_secret = %s\n", d.Secret)
	// The defaults of 2.3 said aloud. Without them an answer that lacks "active" is a yes.
	b.WriteString("username_attribute = username\nactive_attribute = active\nactive_value = true\n")
	// Ten slow answers would hold up everybody, and the address that throttling goes by
	// comes in a header.
	b.WriteString("timeout_msecs = 9000\nmax_parallel_connections = 100\nsend_auth_headers = yes\n")
	if d.Discovery != "" {
		fmt.Fprintf(&b, "openid_configuration_url = %s\n", d.Discovery)
	}
	return b.String()
}
