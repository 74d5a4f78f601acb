package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A Submission is a message that a mail program sends for somebody who signs in.
type Submission struct {
	Port           int    // STARTTLS on loopback
	CAFile         string // of the server's certificate
	Mechanism      string // PLAIN or LOGIN
	User, Password string
	From, To       string
}

// A Submitter is a mail program.
type Submitter struct {
	Name string
	// Send runs the program in a folder of its own and returns what it said; an error
	// means that the message was not taken.
	Send func(ctx context.Context, folder string, s Submission) (string, error)
}

// Submitters are the mail programs that can send without a terminal.
func Submitters() []Submitter {
	return []Submitter{
		{"swaks", swaks}, {"msmtp", msmtp}, {"curl", curlSMTP}, {"mutt", mutt}, {"s-nail", snail}, {"python", pythonSMTP},
	}
}

func (s Submission) text() string {
	return "From: " + s.From + "\r\nTo: " + s.To + "\r\nSubject: proof\r\n\r\nhello\r\n"
}

func (s Submission) port() string { return strconv.Itoa(s.Port) }

// runIn runs a program that finds nothing of the person who runs the tests.
func runIn(ctx context.Context, folder, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "HOME="+folder, "LC_ALL=C.UTF-8", "MAILRC=/dev/null")
	cmd.Dir = folder
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func swaks(ctx context.Context, folder string, s Submission) (string, error) {
	return runIn(ctx, folder, "", "swaks", "--server", "127.0.0.1:"+s.port(), "--tls", "--tls-ca-path", s.CAFile, "--auth", s.Mechanism,
		"--auth-user", s.User, "--auth-password", s.Password, "--from", s.From, "--to", s.To, "--h-From", s.From, "--helo", "client.try.test")
}

func msmtp(ctx context.Context, folder string, s Submission) (string, error) {
	return runIn(ctx, folder, s.text(), "msmtp", "--host=127.0.0.1", "--port="+s.port(), "--tls", "--tls-trust-file="+s.CAFile,
		"--auth="+strings.ToLower(s.Mechanism), "--user="+s.User, "--passwordeval=echo "+s.Password, "--from="+s.From, s.To)
}

func curlSMTP(ctx context.Context, folder string, s Submission) (string, error) {
	file := filepath.Join(folder, "mail")
	if err := os.WriteFile(file, []byte(s.text()), 0o600); err != nil {
		return "", err
	}
	return runIn(ctx, folder, "", "curl", "-sS", "--ssl-reqd", "--cacert", s.CAFile, "smtp://127.0.0.1:"+s.port(), "--user", s.User+":"+s.Password,
		"--login-options", "AUTH="+s.Mechanism, "--mail-from", s.From, "--mail-rcpt", s.To, "-T", file)
}

func mutt(ctx context.Context, folder string, s Submission) (string, error) {
	rc := filepath.Join(folder, "muttrc")
	text := fmt.Sprintf("set smtp_url=\"smtp://%s@127.0.0.1:%d/\"\nset smtp_pass=\"%s\"\nset smtp_authenticators=\"%s\"\nset ssl_ca_certificates_file=\"%s\"\n"+
		"set ssl_starttls=yes\nset ssl_force_tls=yes\nset ssl_usesystemcerts=no\nset from=\"%s\"\nset copy=no\nset use_envelope_from=yes\nset envelope_from_address=\"%[6]s\"\n",
		strings.ReplaceAll(s.User, "@", "%40"), s.Port, s.Password, strings.ToLower(s.Mechanism), s.CAFile, s.From)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		return "", err
	}
	return runIn(ctx, folder, "hello\n", "mutt", "-n", "-F", rc, "-s", "proof", "--", s.To)
}

func snail(ctx context.Context, folder string, s Submission) (string, error) {
	return runIn(ctx, folder, "hello\n", "s-nail", "-:/", "-Sv15-compat", "-Sttycharset=UTF-8", "-Snosave",
		"-Smta=smtp://"+strings.ReplaceAll(s.User, "@", "%40")+":"+s.Password+"@localhost:"+s.port(),
		"-Ssmtp-use-starttls", "-Stls-ca-file="+s.CAFile, "-Stls-verify=strict", "-Ssmtp-auth="+strings.ToLower(s.Mechanism),
		"-Sfrom="+s.From, "-s", "proof", s.To)
}

const pythonSubmission = `
import sys, ssl, smtplib
port, ca, mechanism, user, secret, sender, to = sys.argv[1:8]
c = smtplib.SMTP("127.0.0.1", int(port), timeout=100)
c.starttls(context=ssl.create_default_context(cafile=ca))
c.ehlo()
c.user, c.password = user, secret
c.auth(mechanism, {"PLAIN": c.auth_plain, "LOGIN": c.auth_login}[mechanism])
c.sendmail(sender, to, sys.stdin.buffer.read())
c.quit()
`

func pythonSMTP(ctx context.Context, folder string, s Submission) (string, error) {
	return runIn(ctx, folder, s.text(), "python3", "-c", pythonSubmission, s.port(), s.CAFile, s.Mechanism, s.User, s.Password, s.From, s.To)
}

const pythonReading = `
import sys, ssl, imaplib
port, ca, user, secret = sys.argv[1:5]
c = imaplib.IMAP4_SSL("127.0.0.1", int(port), ssl_context=ssl.create_default_context(cafile=ca))
c.login(user, secret)
print(c.select("INBOX"))
c.logout()
`

// Readers are mail programs that look into a mailbox without a terminal: Port is that of
// IMAP with implicit TLS.
func Readers() []Submitter {
	return []Submitter{
		{"curl", func(ctx context.Context, folder string, s Submission) (string, error) {
			return runIn(ctx, folder, "", "curl", "-sS", "--cacert", s.CAFile, "imaps://127.0.0.1:"+s.port()+"/INBOX", "-X", "NOOP", "--user", s.User+":"+s.Password,
				"--login-options", "AUTH="+s.Mechanism)
		}},
		{"python", func(ctx context.Context, folder string, s Submission) (string, error) {
			return runIn(ctx, folder, "", "python3", "-c", pythonReading, s.port(), s.CAFile, s.User, s.Password)
		}},
		{"s-nail", func(ctx context.Context, folder string, s Submission) (string, error) {
			return runIn(ctx, folder, "exit\n", "s-nail", "-:/", "-#", "-Sv15-compat", "-Sttycharset=UTF-8", "-Stls-ca-file="+s.CAFile, "-Stls-verify=strict",
				"-f", "imaps://"+strings.ReplaceAll(s.User, "@", "%40")+":"+s.Password+"@localhost:"+s.port()+"/INBOX")
		}},
	}
}
