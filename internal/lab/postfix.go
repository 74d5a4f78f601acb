package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// PostfixOptions describe a submission server.
type PostfixOptions struct {
	// CA signs the server's certificate. Required.
	CA *CA
	// Dovecot answers for sign-ins (AuthPort) and owns the mailboxes that mail
	// for Domains is delivered to. Without it nobody can sign in and nothing
	// is delivered locally.
	Dovecot *Dovecot
	// SASLPath replaces Dovecot's auth port: any server of its protocol, as
	// smtpd_sasl_path takes it (inet:127.0.0.1:12002).
	SASLPath string
	// Domains delivered to Dovecot's mailboxes. Default: try.test.
	Domains []string
	// Mailboxes there are in Domains; an extension (alice+shop@) leads to the
	// same one. Default: those of Alice and Bob.
	Mailboxes []string
	// Relay takes mail for every other domain, such as Sink.Addr. Empty: such
	// mail bounces.
	Relay string
	// Listen are more addresses to take mail at, as port SMTP does: "8.20.1.1:25",
	// "[2600::25]:25". The server then knows of all interfaces and of IPv6.
	Listen []string
	// Cert takes the place of a certificate of CA for mail.try.test.
	Cert *Cert
	// Main is appended to main.cf.
	Main string
}

// Postfix is a running Postfix with a queue of its own. Mail is taken only from
// those who signed in, and only over TLS.
type Postfix struct {
	Host       string
	Submission int // STARTTLS
	Subs       int // implicit TLS
	SMTP       int // STARTTLS offered, not asked for: takes mail for Domains without AUTH
	Version    string

	Dir     string
	options PostfixOptions
	process *Process
}

// StartPostfix starts Postfix; about 0.3 s. It must be root.
func StartPostfix(ctx context.Context, o PostfixOptions) (*Postfix, error) {
	path, err := find("master", "postfix")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("start postfix: only root can: it changes to several users")
	}
	if o.CA == nil {
		return nil, errors.New("start postfix: it needs a CA")
	}
	if o.SASLPath == "" && o.Dovecot != nil {
		o.SASLPath = fmt.Sprintf("inet:127.0.0.1:%d", o.Dovecot.AuthPort)
	}
	if len(o.Domains) == 0 {
		o.Domains = []string{"try.test"}
	}
	if len(o.Mailboxes) == 0 {
		o.Mailboxes = []string{Alice().Email, Bob().Email}
	}
	p, err := startRetry(func() (*Postfix, error) { return startPostfix(ctx, path, o) })
	if err != nil {
		return nil, fmt.Errorf("start postfix: %w", err)
	}
	return p, nil
}

func startPostfix(ctx context.Context, path string, o PostfixOptions) (*Postfix, error) {
	p := &Postfix{Host: "127.0.0.1", options: o}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	p.Submission, p.Subs, p.SMTP = ports[0], ports[1], ports[2]
	if p.Dir, err = newFolder("postfix"); err != nil {
		return nil, err
	}
	if err := errors.Join(p.writeConfig(), p.makeQueue()); err != nil {
		os.RemoveAll(p.Dir)
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "postconf", "-c", p.Dir, "-h", "mail_version").Output(); err == nil {
		p.Version = strings.TrimSpace(string(out))
	}
	// -d keeps the output and does not ask for a session, which the leader of a
	// process group cannot get. The wrapper script would only add checks.
	p.process, err = StartProcess(ProcessOptions{
		Name: "postfix", Path: path, Args: []string{"-c", p.Dir, "-d"},
		Env: append(os.Environ(), "MAIL_CONFIG="+p.Dir, "LC_ALL=C"),
	})
	if err != nil {
		os.RemoveAll(p.Dir)
		return nil, err
	}
	line, err := p.process.WaitLog(ctx, func(s string) bool {
		return strings.Contains(s, "daemon started") || bindConflict(s)
	})
	switch {
	case err == nil && !bindConflict(line):
		return p, nil
	case bindConflict(line) || (err != nil && bindConflict(err.Error())):
		err = errPortTaken
	}
	p.Stop()
	return nil, err
}

// Stop ends Postfix and removes its queue.
func (p *Postfix) Stop() {
	if p.process != nil {
		p.process.Stop()
	}
	os.RemoveAll(p.Dir)
}

// Log returns what Postfix logged.
func (p *Postfix) Log() []string { return p.process.Log() }

// WaitLog waits for a line of the log, past ones included.
func (p *Postfix) WaitLog(ctx context.Context, match func(string) bool) (string, error) {
	return p.process.WaitLog(ctx, match)
}

// makeQueue lays out the queue as post-install would.
func (p *Postfix) makeQueue() error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return &Missing{Program: "user postfix", Package: "postfix"}
	}
	group, err := user.LookupGroup("postdrop")
	if err != nil {
		return &Missing{Program: "group postdrop", Package: "postfix"}
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	drop, _ := strconv.Atoi(group.Gid)
	type folder struct {
		name     string
		mode     os.FileMode
		uid, gid int
	}
	folders := []folder{
		{"queue", 0o755, 0, 0}, {"queue/pid", 0o755, 0, 0}, {"data", 0o700, uid, gid},
		{"queue/maildrop", 0o730, uid, drop}, {"queue/public", 0o710, uid, drop},
	}
	for _, name := range strings.Fields("active bounce corrupt defer deferred flush hold incoming private saved trace") {
		folders = append(folders, folder{"queue/" + name, 0o700, uid, gid})
	}
	for _, f := range folders {
		path := filepath.Join(p.Dir, f.name)
		if err := errors.Join(os.Mkdir(path, f.mode), os.Chmod(path, f.mode), os.Chown(path, f.uid, f.gid)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Postfix) writeConfig() error {
	cert := p.options.Cert
	if cert == nil {
		var err error
		if cert, err = p.options.CA.Issue("smtp.try.test", "mail.try.test", "mx.try.test"); err != nil {
			return err
		}
	}
	main := strings.NewReplacer("@dir@", p.Dir, "@cert@", cert.CertFile, "@key@", cert.KeyFile).Replace(postfixMain) +
		p.saslConf() + p.deliveryConf() + p.options.Main + "\n"
	master := strings.NewReplacer(
		"@submission@", loopback(p.Submission), "@submissions@", loopback(p.Subs), "@smtp@", loopback(p.SMTP),
	).Replace(postfixMaster)
	for i, address := range p.options.Listen {
		if i == 0 {
			main += "inet_interfaces = all\ninet_protocols = all\n"
		}
		master += address + " inet n - n - - smtpd\n  -o syslog_name=postfix/mx\n  -o smtpd_sasl_auth_enable=no\n"
	}
	return errors.Join(
		WriteSettled(filepath.Join(p.Dir, "main.cf"), []byte(lastOfEach(main))),
		os.WriteFile(filepath.Join(p.Dir, "master.cf"), []byte(master), 0o644),
	)
}

// WriteSettled writes a file of Postfix's as if that had been a while ago. Each program that
// finds its main.cf or a table's file changed within the last two seconds reads it again and
// again until it has stood still for that long.
func WriteSettled(path string, data []byte) error {
	long := time.Now().Add(-time.Hour)
	return errors.Join(os.WriteFile(path, data, 0o644), os.Chtimes(path, long, long))
}

// lastOfEach leaves out what a later line sets again. Every program of Postfix warns of
// such lines, through a socket that holds ten warnings until somebody reads them: the
// master was seen waiting for itself.
func lastOfEach(main string) string {
	var lines []string
	for line := range strings.Lines(main) {
		if n := len(lines); n > 0 && strings.HasPrefix(line, " ") { // goes on
			lines[n-1] += line
			continue
		}
		lines = append(lines, line)
	}
	seen := map[string]bool{}
	for i := len(lines) - 1; i >= 0; i-- {
		name, _, found := strings.Cut(lines[i], "=")
		if name = strings.TrimSpace(name); !found {
			continue
		}
		if seen[name] {
			lines[i] = ""
		}
		seen[name] = true
	}
	return strings.Join(lines, "")
}

func (p *Postfix) saslConf() string {
	if p.options.SASLPath == "" {
		return "smtpd_sasl_auth_enable = no\n"
	}
	return "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = " + p.options.SASLPath + "\n"
}

func (p *Postfix) deliveryConf() string {
	conf := "default_transport = error:5.1.2 no such domain in the lab\n"
	if host, port, err := net.SplitHostPort(p.options.Relay); err == nil {
		conf = fmt.Sprintf("relayhost = [%s]:%s\n", host, port)
	}
	d := p.options.Dovecot
	if d == nil {
		return conf
	}
	uid, gid := d.MailOwner()
	var boxes strings.Builder
	for _, name := range p.options.Mailboxes {
		fmt.Fprintf(&boxes, " {%s=%s/Maildir/}", name, name)
	}
	return conf + fmt.Sprintf(`virtual_mailbox_domains = %s
virtual_mailbox_base = %s
virtual_mailbox_maps = inline:{%s }
virtual_uid_maps = static:%d
virtual_gid_maps = static:%d
virtual_minimum_uid = 1
`, strings.Join(p.options.Domains, " "), d.MailRoot(), boxes.String(), uid, gid)
}

const postfixMain = `compatibility_level = 3.6
queue_directory = @dir@/queue
data_directory = @dir@/data
maillog_file = /dev/stdout
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mail.try.test
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
biff = no
append_dot_mydomain = no
recipient_delimiter = +
smtputf8_enable = yes
smtpd_tls_cert_file = @cert@
smtpd_tls_key_file = @key@
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_delay_reject = yes
smtpd_client_connection_count_limit = 0
smtp_tls_security_level = may
smtp_dns_support_level = disabled
smtp_host_lookup = native
disable_dns_lookups = yes
minimal_backoff_time = 5s
maximal_backoff_time = 30s
queue_run_delay = 5s
`

// postfixMaster runs nothing in a chroot: it would need a copy of the system's
// files in every queue.
const postfixMaster = `@smtp@ inet n - n - - smtpd
  -o syslog_name=postfix/smtp
  -o smtpd_sasl_auth_enable=no
@submission@ inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
@submissions@ inet n - n - - smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// Pid is the id of the process and of its group.
func (p *Postfix) Pid() int { return p.process.Pid() }
