package recipe

import (
	"fmt"
	"net"
	"strings"
)

// notRun heads every file for Dovecot 2.4.
const notRun = `# Letterlock, for Dovecot 2.4: *not run*. This was written from its documentation; compare it
# with yours, and see that logins of every kind work before you rely on it.
`

// files24 are the files of Dovecot 2.4. Settings are global there, passdbs have names, files
// of their own for a passdb are gone, and tokens are judged by the mechanisms themselves.
func (d Dovecot) files24() []File {
	early := notRun + `# Without the files named *-letterlock.conf, and after a reload, everything is as it was.

# ann+phone@example.org is the login name of one app password.
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+
auth_username_format = %{user | lower}
`
	var files []File
	late := notRun
	if d.SQL == nil {
		early += "\n# Addresses with the secret in them: only root can read the file.\n!include_try " + d.Dir + "/letterlock-oauth2.conf.ext\n\n" +
			"# Before the passdbs that are there: an app password would count as a wrong one at those.\n" +
			"passdb letterlock {\n  driver = oauth2\n  mechanisms_filter = plain login\n  fields {\n    user = %{oauth2:mailbox}\n  }\n}\n"
		late += "# This adds to the list of 10-auth.conf, and takes nothing from it.\nauth_mechanisms {\n  xoauth2 = yes\n  oauthbearer = yes\n}\n"
		files = append(files, File{Name: "letterlock-oauth2.conf.ext", Text: d.oauth24(), Private: true})
	}
	if d.SQL != nil || d.ViewFile != "" {
		early += d.include24()
		files = append(files, File{Name: "letterlock-sql.conf.ext", Text: d.sql24(), Private: true})
	}
	late += d.listeners()
	if host, port, err := net.SplitHostPort(d.Doveadm); err == nil {
		late += fmt.Sprintf("\n# A revocation empties the authentication cache and ends the person's sessions.\n!include_try %s/letterlock-doveadm.conf.ext\n"+
			"service doveadm {\n  inet_listener http {\n    listen = %s\n    port = %s\n  }\n}\n", d.Dir, host, port)
		files = append(files, File{Name: "letterlock-doveadm.conf.ext", Text: "doveadm_api_key = " + d.DoveadmKey + "\n", Private: true})
	}
	return append([]File{{Name: "conf.d/05-letterlock.conf", Text: early}, {Name: "conf.d/95-letterlock.conf", Text: late}}, files...)
}

func (d Dovecot) include24() string {
	why := "While letterlockd does not answer: the same app passwords, from its view file."
	if d.SQL != nil {
		why = "App passwords by SQL alone: letterlockd is not asked, and need not run."
	}
	return "\n# " + why + "\n!include_try " + d.Dir + "/letterlock-sql.conf.ext\n"
}

// oauth24 names who asks in the address: 2.4 sends no client_id to introspection.
func (d Dovecot) oauth24() string {
	var b strings.Builder
	at := func(path string) string { return "http://dovecot:" + d.Secret + "@" + d.Listen + "/dovecot/" + path }
	b.WriteString(notRun + "oauth2 {\n")
	fmt.Fprintf(&b, "  introspection_mode = post\n  introspection_url = %s\n  grant_url = %s\n", at("introspect"), at("password"))
	b.WriteString("  client_id = dovecot\n")
	fmt.Fprintf(&b, "  client_secret = %s\n", d.Secret)
	b.WriteString("  # No defaults for these: without them an answer that lacks \"active\" is a yes.\n" +
		"  username_attribute = username\n  active_attribute = active\n  active_value = true\n  force_introspection = yes\n" +
		"  # letterlockd itself looks at the protocol; one of these scopes is enough here.\n  scope = imap pop3 smtp sieve\n" +
		"  # The address that throttling goes by comes in a header.\n  send_auth_headers = yes\n" +
		"  http_client_request_absolute_timeout = 9s\n  http_client_max_parallel_connections = 100\n")
	if d.Discovery != "" {
		fmt.Fprintf(&b, "  openid_configuration_url = %s\n", d.Discovery)
	}
	b.WriteString("}\n")
	return b.String()
}

func (d Dovecot) sql24() string {
	var b strings.Builder
	b.WriteString(notRun + "passdb letterlock-sql {\n  driver = sql\n  mechanisms_filter = plain login\n")
	table := Table{Path: d.ViewFile}
	if d.SQL != nil {
		table = *d.SQL
	} else {
		b.WriteString("  skip = authenticated\n")
	}
	fmt.Fprintf(&b, "  sql_driver = %s\n", table.kind())
	if table.Path != "" {
		fmt.Fprintf(&b, "  sqlite_path = %s\n", table.Path)
	} else {
		fmt.Fprintf(&b, "  pgsql %s {\n    parameters {\n", table.Host)
		for _, word := range strings.Fields(table.connect())[1:] {
			name, value, _ := strings.Cut(word, "=")
			fmt.Fprintf(&b, "      %s = %s\n", name, value)
		}
		b.WriteString("    }\n  }\n")
	}
	b.WriteString("  passdb_sql_query = SELECT username AS user, password, allow_nets FROM dovecot_passdb \\\n" +
		"    WHERE login = '%{user | lower}' AND service = '%{protocol | lower}'\n}\n")
	return b.String()
}
