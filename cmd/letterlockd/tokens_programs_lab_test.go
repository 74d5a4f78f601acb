//go:build lab

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// programsOfAnn are mail programs that others wrote, in a home with our letterlock: they
// know of nothing but its command that prints a token.
type programsOfAnn struct {
	*chain
	ctx          context.Context
	folder, home string // home shadows that of the pages
	binary       string
}

// letterlock signs in by a device code at the issuer, and mail programs of others read and
// send with what it gives them: msmtp, mutt, neomutt, curl and getmail.
func (c *chain) letterlock() {
	c.t.Helper()
	p := &programsOfAnn{chain: c, folder: c.folder, home: c.t.TempDir(), binary: filepath.Join(c.folder, "letterlock")}
	if out, err := exec.Command("go", "build", "-o", p.binary, "../letterlock").CombinedOutput(); err != nil {
		c.t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*testPatience)
	defer cancel()
	p.ctx = ctx
	p.deviceLogin()
	before := len(c.dovecot.Log())
	p.send()
	p.write("curlrc", p.run("", "letterlock", "token", "--curl", "ann@try.test"))
	p.arrived(4)
	together(func() { p.readWith("mutt") }, func() { p.readWith("neomutt") }, p.curlPOP3, p.getmail)
	p.bySASL(before)
	p.run("", "letterlock", "logout", "ann@try.test")
	_, page := c.browser.do(http.MethodGet, "/", nil)
	if open, _, _ := strings.Cut(page, "Ended app passwords"); strings.Contains(open, "<h3>Our letterlock") {
		c.t.Errorf("after logout the program still stands on the page: %s", open)
	}
	p.machine()
}

func (p *programsOfAnn) command(name string, args ...string) *exec.Cmd {
	if name == "letterlock" {
		name = p.binary
	}
	cmd := exec.CommandContext(p.ctx, name, args...)
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + p.folder + ":/usr/bin:/bin", "LC_ALL=C", "TERM=xterm", "CURL_CA_BUNDLE=" + p.ca.File}
	cmd.Dir = p.home
	return cmd
}

func (p *programsOfAnn) run(stdin, name string, args ...string) string {
	p.t.Helper()
	cmd := p.command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, said.String())
	}
	return string(out)
}

func (p *programsOfAnn) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// muttrc is for mutt and neomutt, as letterlock setup prints it, and trusts the lab's CA.
func (p *programsOfAnn) muttrc() string {
	return fmt.Sprintf(`set from=ann@try.test
set imap_user=ann@try.test
set imap_authenticators="oauthbearer:xoauth2"
set imap_oauth_refresh_command="letterlock token ann@try.test --for imap"
set folder="imaps://localhost:%d/"
set spoolfile="+INBOX"
set smtp_url="smtps://ann%%40try.test@localhost:%d/"
set smtp_authenticators="oauthbearer:xoauth2"
set smtp_oauth_refresh_command="letterlock token ann@try.test --for smtp"
set ssl_force_tls=yes
set certificate_file=%[3]s
set ssl_ca_certificates_file=%[3]s
set copy=no
set record=""
set delete=no
`, p.dovecot.IMAPS, p.postfix.Subs, p.ca.File)
}

// send has each program that sends send a letter to ann.
func (p *programsOfAnn) send() {
	p.t.Helper()
	const letter = "From: ann@try.test\r\nTo: ann@try.test\r\nSubject: by %s\r\n\r\nhello\r\n"
	smtp := strconv.Itoa(p.postfix.Subs)
	p.write(".msmtprc", "account default\nhost localhost\nport "+smtp+"\ntls on\ntls_starttls off\ntls_trust_file "+p.ca.File+
		"\nauth oauthbearer\nuser ann@try.test\nfrom ann@try.test\npasswordeval letterlock token ann@try.test\n")
	p.run(strings.ReplaceAll(fmt.Sprintf(letter, "msmtp"), "\r", ""), "msmtp", "ann@try.test")
	p.write(".muttrc", p.muttrc())
	for _, program := range []string{"mutt", "neomutt"} {
		p.run("hello\n", program, "-s", "by "+program, "ann@try.test")
	}
	p.write("letter.eml", fmt.Sprintf(letter, "curl"))
	p.write("curlsmtp", p.run("", "letterlock", "token", "ann@try.test", "--for", "smtp", "--curl"))
	p.run("", "curl", "-sS", "-K", "curlsmtp", "--mail-from", "ann@try.test", "--mail-rcpt", "ann@try.test", "--upload-file", "letter.eml", "smtps://localhost:"+smtp)
}

// arrived asks by curl until so many letters are there: delivery is Postfix's matter.
func (p *programsOfAnn) arrived(letters int) {
	p.t.Helper()
	place := fmt.Sprintf("imaps://localhost:%d/INBOX?SUBJECT%%20by", p.dovecot.IMAPS)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		found := p.run("", "curl", "-sS", "-K", "curlrc", "--url", place)
		if len(strings.Fields(found)) >= 2+letters { // * SEARCH 1 2
			return
		}
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			p.t.Fatalf("the letters did not arrive: %s", found)
		}
	}
}

// readWith opens the inbox in a terminal and copies a letter into a file.
func (p *programsOfAnn) readWith(program string) {
	p.t.Helper()
	cmd := p.command(program)
	terminal, err := pty.Start(cmd)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer terminal.Stop()
	copied := filepath.Join(p.home, program+".mbox")
	for _, step := range []struct{ see, keys string }{
		{"by msmtp", "C"}, {"Copy to mailbox", "\x15" + copied + "\r"},
		{"reate", "y"}, // only what changes is drawn
	} {
		if err := terminal.Expect(p.ctx, step.see); err != nil {
			p.t.Errorf("%s: %v", program, err)
			return
		}
		if err := terminal.Type(step.keys); err != nil {
			p.t.Errorf("%s: %v", program, err)
			return
		}
	}
	if err := terminal.Type("q"); err != nil {
		p.t.Errorf("%s: %v", program, err)
		return
	}
	if err := terminal.Wait(p.ctx); err != nil {
		p.t.Errorf("%s: %v", program, err)
	}
	if text, err := os.ReadFile(copied); err != nil || !strings.Contains(string(text), "Subject: by ") || !strings.Contains(string(text), "hello") {
		p.t.Errorf("%s copied %q, %v", program, text, err)
	}
}

// curlPOP3 fetches the first letter by POP3.
func (p *programsOfAnn) curlPOP3() {
	p.t.Helper()
	p.write("curlpop", p.run("", "letterlock", "token", "ann@try.test", "--for", "pop3", "--curl"))
	if text := p.run("", "curl", "-sS", "-K", "curlpop", fmt.Sprintf("pop3s://localhost:%d/1", p.dovecot.POP3S)); !strings.Contains(text, "hello") {
		p.t.Errorf("curl by POP3: %q", text)
	}
}

// getmail 6.18 has a race of its own when it delivers (see cmd/letterlock/e2e): it is judged
// by what it fetched.
func (p *programsOfAnn) getmail() {
	p.t.Helper()
	fetched := filepath.Join(p.home, "fetched")
	conf := p.write(".config/getmail/getmailrc", fmt.Sprintf(`[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = %d
username = ann@try.test
use_xoauth2 = True
password_command = ("%s", "token", "ann@try.test")
ca_certs = %s
[destination]
type = MDA_external
path = /usr/bin/tee
arguments = ("-a", "%s")
allow_root_commands = True
[options]
read_all = False
`, p.dovecot.IMAPS, p.binary, p.ca.File, fetched))
	limit, stop := context.WithCancel(p.ctx)
	defer stop()
	getmail := exec.CommandContext(limit, "getmail", "--getmaildir", filepath.Dir(conf))
	getmail.Env, getmail.Dir = []string{"HOME=" + p.home, "PATH=/usr/bin:/bin", "LC_ALL=C"}, p.home
	getmail.WaitDelay = 5 * time.Second
	done := make(chan string, 1)
	go func() {
		out, err := getmail.CombinedOutput()
		done <- fmt.Sprintf("%v\n%s", err, out)
	}()
	has := func() bool {
		text, err := os.ReadFile(fetched)
		return err == nil && strings.Contains(string(text), "Subject: by ")
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !has() {
		select {
		case <-tick.C:
		case said := <-done:
			if !has() {
				p.t.Errorf("getmail: %s", said)
			}
			return
		}
	}
	stop()
	<-done
}

// bySASL looks at the servers' logs: every one of these sign-ins was by a token.
func (p *programsOfAnn) bySASL(before int) {
	p.t.Helper()
	login := regexp.MustCompile(`(imap|pop3)-login: Info: Login: user=<ann@try\.test>, method=(\S+),`)
	reads, seen := map[string]int{}, 0
	enough := func() bool {
		return reads["imap OAUTHBEARER"] >= 3 && reads["imap XOAUTH2"] >= 1 && reads["pop3 OAUTHBEARER"]+reads["pop3 XOAUTH2"] == 1
	}
	// The log may be some lines behind.
	if _, err := p.dovecot.WaitLog(p.ctx, func(line string) bool {
		seen++
		if found := login.FindStringSubmatch(line); found != nil && seen > before {
			reads[found[1]+" "+found[2]]++
		}
		return enough()
	}); err != nil || len(reads) != 3 {
		p.t.Errorf("sign-ins at Dovecot: %v, %v", reads, err)
	}
	sent := regexp.MustCompile(`sasl_method=(\S+), sasl_username=ann@try\.test`).FindAllStringSubmatch(strings.Join(p.postfix.Log(), "\n"), -1)
	if len(sent) < 4 {
		p.t.Errorf("sign-ins at Postfix: %v", sent)
	}
	for _, one := range sent {
		if one[1] != "OAUTHBEARER" && one[1] != "XOAUTH2" {
			p.t.Errorf("a sign-in at Postfix by %s", one[1])
		}
	}
}

// machine is a board of tickets that proves itself by a key of its own: no secret of it
// leaves the computer, and there is no refresh token to lose.
func (p *programsOfAnn) machine() {
	p.t.Helper()
	p.home = p.t.TempDir() // another computer
	key := signingKey(p.t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	public := p.write("board.pub.pem", inPEM(p.t, "PUBLIC KEY", der, err))
	der, err = x509.MarshalPKCS8PrivateKey(key)
	private := p.write("board.pem", inPEM(p.t, "PRIVATE KEY", der, err))
	p.chain.run("client", "add", "board", "--name", "Ticket board", "--person", "ann@try.test", "--scope", "imap,smtp", "--auth", "private_key_jwt", "--jwks", public)
	p.run("", "letterlock", "login", "ann@try.test", "--account", "board", "--issuer", p.chain.home, "--client-id", "board", "--ca-file", p.ca.File, "--key", "file",
		"--flow", "client-credentials", "--client-key-file", private, "--imap", fmt.Sprintf("localhost:%d", p.dovecot.IMAPS), "--smtp", fmt.Sprintf("localhost:%d", p.postfix.Subs),
		"--imap-security", "tls", "--smtp-security", "tls")
	token := strings.TrimSpace(p.run("", "letterlock", "token", "board", "--min-validity", "59m"))
	_, _, got := p.atIMAP("OAUTHBEARER", "ann@try.test", token)
	p.want("IMAP with the machine's token", got, "a OK")
	_, _, got = p.atSMTP("XOAUTH2", "ann@try.test", token)
	p.want("SMTP with the machine's token", got, "235")
}

// deviceLogin is letterlock login by a code that ann types in on the page.
func (c *programsOfAnn) deviceLogin() {
	c.t.Helper()
	id := "letterlock"
	c.chain.run("client", "add", id, "--name", "Our letterlock", "--public", "--device", "--redirect", "http://127.0.0.1/")
	cmd := exec.CommandContext(c.ctx, c.binary, "login", "ann@try.test", "--issuer", c.chain.home, "--client-id", id, "--ca-file", c.ca.File, "--key", "file", "--flow", "device",
		"--imap", fmt.Sprintf("localhost:%d", c.dovecot.IMAPS), "--smtp", fmt.Sprintf("localhost:%d", c.postfix.Subs), "--pop3", fmt.Sprintf("localhost:%d", c.dovecot.POP3S),
		"--imap-security", "tls", "--smtp-security", "tls", "--pop3-security", "tls")
	cmd.Env = []string{"HOME=" + c.home, "PATH=/usr/bin:/bin", "LC_ALL=C"}
	said, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var text strings.Builder
	buffer := make([]byte, 4096)
	code := regexp.MustCompile(`[B-Z]{4}-[B-Z]{4}`)
	approved := false
	for {
		n, err := said.Read(buffer)
		text.Write(buffer[:n])
		if found := code.FindString(text.String()); found != "" && !approved {
			approved = true
			_, page := c.browser.do(http.MethodGet, "/device?user_code="+found, nil)
			_, page = c.browser.press(page, "/device")
			if !strings.Contains(page, "Our letterlock") || !strings.Contains(page, "127.0.0.1") {
				c.t.Errorf("the page does not say who asks and from where: %s", page)
			}
			if res, page := c.browser.press(page, "/device/decide", "decision", "allow"); res.StatusCode != http.StatusSeeOther {
				c.t.Fatalf("%s %s", res.Status, page)
			}
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		c.t.Fatalf("letterlock login: %v\n%s", err, text.String())
	}
}
