package lab

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// writeConfig writes dovecot.conf and what it includes into d.Dir.
func (d *Dovecot) writeConfig() error {
	name, group, uid, gid, err := mailUser()
	if err != nil {
		return err
	}
	d.mailUID, d.mailGID = uid, gid
	cert, err := d.options.CA.Issue("imap.try.test", "pop.try.test", "smtp.try.test", "mail.try.test")
	if err != nil {
		return err
	}
	if err := os.Mkdir(d.MailRoot(), 0o755); err != nil {
		return err
	}
	if err := d.own(d.MailRoot()); err != nil {
		return err
	}
	var conf strings.Builder
	tokens := tokenConf
	if d.options.Introspection == "-" {
		tokens = ""
	}
	userdb := everybodyConf
	if d.options.Userdb != "" {
		userdb = d.options.Userdb
	}
	conf.WriteString(strings.NewReplacer(
		"@tokens@", strings.ReplaceAll(tokens, "@dir@", d.Dir), "@dir@", d.Dir, "@cert@", cert.CertFile, "@key@", cert.KeyFile, "@mechanisms@", d.options.Mechanisms,
		"@uid@", strconv.Itoa(uid), "@gid@", strconv.Itoa(gid),
	).Replace(strings.Replace(dovecotConf, "@userdb@", userdb, 1)))
	type listener struct {
		service, name string
		port          int
		ssl           bool
	}
	listeners := []listener{
		{"imap-login", "imap", d.IMAP, false}, {"imap-login", "imaps", d.IMAPS, true},
		{"pop3-login", "pop3", d.POP3, false}, {"pop3-login", "pop3s", d.POP3S, true},
		{"submission-login", "submission", d.Submission, false}, {"submission-login", "submissions", d.Subs, true},
		{"auth", "auth-client", d.AuthPort, false},
	}
	if d.options.Sieve {
		conf.WriteString(sieveConf)
		listeners = append(listeners, listener{"managesieve-login", "sieve", d.Sieve, false})
	}
	for _, l := range listeners {
		ssl := "no"
		if l.ssl {
			ssl = "yes"
		}
		fmt.Fprintf(&conf, "service %s {\n  inet_listener %s {\n    address = 127.0.0.1\n    port = %d\n    ssl = %s\n  }\n}\n",
			l.service, l.name, l.port, ssl)
	}
	conf.WriteString(d.relayConf())
	if os.Geteuid() != 0 {
		conf.WriteString(unprivilegedConf(name, group, d.options.Sieve))
	}
	conf.WriteString(d.options.Extra)
	if err := os.WriteFile(d.file("dovecot.conf"), []byte(conf.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(d.file("oauth2.ext"), []byte(d.oauthConf()), 0o600)
}

func (d *Dovecot) relayConf() string {
	host, port, err := net.SplitHostPort(d.options.Relay)
	if err != nil {
		// Port 1 refuses: a message is answered with a temporary failure.
		host, port = "127.0.0.1", "1"
	}
	return fmt.Sprintf("submission_relay_host = %s\nsubmission_relay_port = %s\nsubmission_relay_ssl = no\n", host, port)
}

func (d *Dovecot) oauthConf() string {
	o := d.options
	lines := []string{
		"introspection_url = " + o.Introspection,
		"introspection_mode = post",
		"client_id = " + o.ClientID,
		"client_secret = " + o.ClientSecret,
		"username_attribute = " + o.NameClaim,
		// The defaults of 2.3 said aloud: 2.4 has none.
		"active_attribute = active",
		"active_value = true",
		"timeout_msecs = 60000",
		"max_parallel_connections = 100",
		"send_auth_headers = yes",
		"tls_ca_cert_file = " + o.CA.File,
	}
	if o.Scope != "-" {
		lines = append(lines, "scope = "+o.Scope)
	}
	if o.OpenIDConfiguration != "" {
		lines = append(lines, "openid_configuration_url = "+o.OpenIDConfiguration)
	}
	return strings.Join(lines, "\n") + "\n"
}

// unprivilegedConf lets everything run as one ordinary user, who may not change
// its root folder either.
func unprivilegedConf(user, group string, sieve bool) string {
	var conf strings.Builder
	fmt.Fprintf(&conf, "default_internal_user = %s\ndefault_internal_group = %s\ndefault_login_user = %s\n", user, group, user)
	services := []string{
		"aggregator", "anvil", "director", "imap-login", "imap-urlauth-login", "ipc", "old-stats", "pop3-login", "stats", "submission-login",
	}
	if sieve {
		services = append(services, "managesieve-login")
	}
	for _, service := range services {
		fmt.Fprintf(&conf, "service %s {\n  chroot =\n}\n", service)
	}
	return conf.String()
}

const tokenConf = `passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = @dir@/oauth2.ext
}`

const sieveConf = `protocols = $protocols sieve
plugin {
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
`

const everybodyConf = `userdb {
  driver = static
  args = uid=@uid@ gid=@gid@ home=@dir@/mail/%u allow_all_users=yes
}`

// dovecotConf is for 2.3. The penalty is switched off because every client of
// the lab comes from one address; there is no failure delay because tests of
// bad tokens are many.
const dovecotConf = `base_dir = @dir@/run
state_dir = @dir@/state
log_path = /dev/stderr
auth_verbose = yes
protocols = imap pop3 submission
listen = 127.0.0.1
hostname = mail.try.test
ssl = required
ssl_cert = <@cert@
ssl_key = <@key@
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = yes
auth_mechanisms = @mechanisms@
auth_failure_delay = 0
@tokens@
@userdb@
mail_location = maildir:~/Maildir
first_valid_uid = @uid@
first_valid_gid = @gid@
namespace inbox {
  inbox = yes
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`
