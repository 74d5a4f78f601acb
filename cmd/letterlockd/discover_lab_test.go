//go:build lab && linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/island"
)

// TestLoginFindsEverything is `letterlock login ann@try.test` with nothing else, on an
// island with DNS of its own: it finds letterlockd, Dovecot and Postfix, registers
// itself, and its token opens the mailbox; logout takes back right and registration.
// Once the domain has SRV records and nothing more, and the mail server itself says
// whose tokens it takes; once it has autoconfig; and once a real name server has what
// config dns printed.
func TestLoginFindsEverything(t *testing.T) {
	if !island.Enter(t) {
		return
	}
	isle := island.Settle(t, "8.20.0.1")
	isle.DNS.Set("mail.try.test. 60 IN A 127.0.0.1")
	c := startFound(t)
	isle.DNS.Set(fmt.Sprintf("_imaps._tcp.try.test. 60 IN SRV 0 1 %d mail.try.test.", c.dovecot.IMAPS), fmt.Sprintf("_submissions._tcp.try.test. 60 IN SRV 0 1 %d mail.try.test.", c.postfix.Subs))
	t.Run("by device code, found by SRV and the server's challenge", func(t *testing.T) {
		h := c.person(t)
		h.life(h.byDevice(), fmt.Sprintf("its people sign in at %s", c.home), fmt.Sprintf("its mail server mail.try.test:%d", c.dovecot.IMAPS))
	})
	isle.DNS.Set("autoconfig.try.test. 60 IN A 127.0.0.1")
	t.Run("by browser, found by autoconfig", func(t *testing.T) {
		h := c.person(t)
		h.life(h.byBrowser(), fmt.Sprintf("its people sign in at %s", c.home), "https://autoconfig.try.test/mail/config-v1.1.xml")
	})
	t.Run("discover", func(t *testing.T) {
		h := c.person(t)
		said := h.run("discover", "ann@try.test", "--json")
		for _, want := range []string{`"url": "` + c.home + `"`, `"client": "registers itself"`, `"source": "autoconfig"`, `"proof": "certificate"`} {
			if !strings.Contains(said, want) {
				t.Errorf("no %s in %s", want, said)
			}
		}
	})
	t.Run("sending only, as ann chose", func(t *testing.T) {
		h := c.person(t)
		said := h.byBrowser("limit", "send-only")
		c.registered(c.made+1, c.ended)
		if !strings.Contains(said, "ann@try.test, may send mail and cannot read it") {
			t.Errorf("login said\n%s", said)
		}
		token := strings.TrimSpace(h.run("token", "ann@try.test", "--for", "smtp"))
		_, _, got := h.atIMAP("XOAUTH2", "ann@try.test", token)
		c.want("reading", got, "a NO")
		_, _, got = h.atSMTP("XOAUTH2", "ann@try.test", token)
		c.want("sending", got, "235")
		if out, err := h.command("token", "ann@try.test", "--for", "imap").CombinedOutput(); err == nil {
			t.Errorf("a token for reading: %s", out)
		}
	})
	t.Run("as a machine", func(t *testing.T) { c.person(t).machine() })
	t.Run("given up", func(t *testing.T) {
		h := c.person(t)
		cmd := h.command("login", "ann@try.test", "--flow", "paste")
		cmd.Stdin = strings.NewReader("")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "sign in at") {
			t.Errorf("a sign-in without a person: %v\n%s", err, out)
		}
		c.registered(c.made+1, c.ended+1)
	})
	t.Run("as config dns prints it, at a name server", c.testPublished)
}

// A foundSite is a chain behind TLS at the name that mail programs know.
type foundSite struct {
	*chain
	program     string // the binary of letterlock
	made, ended int    // registrations that this daemon has told of
}

func startFound(t *testing.T) *foundSite {
	t.Helper()
	const home = "https://mail.try.test"
	c := &chain{home: home, site: startSiteWith(t, "[web]\npublic_url = \""+home+"\"\nlisten = \"127.0.0.1:443\"\ncertificate = \"@folder@/web.pem\"\nkey = \"@folder@/web.key\"\nmaster_key_file = \"@folder@/master.key\"\n[oauth]\nregistration = true\n")}
	t.Setenv("SSL_CERT_FILE", c.ca.File)
	cert, err := c.ca.Issue("mail.try.test", "autoconfig.try.test", "ua-auto-config.try.test")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{cert.CertFile: "web.pem", cert.KeyFile: "web.key"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		c.write(to, string(data), 0o600)
	}
	conf, err := os.ReadFile(c.conf)
	if err != nil {
		t.Fatal(err)
	}
	c.write("letterlockd.toml", string(conf)+fmt.Sprintf("[portal]\nname = \"Try\"\nimap = \"mail.try.test:%d\"\nsubmission = \"mail.try.test:%d\"\n", c.dovecot.IMAP, c.postfix.Submission), 0o644)
	c.run("person", "add", "ann@try.test")
	c.browser = &seat{t, home, c.signInAs("ann@try.test")}
	c.serve()
	c.switchPostfix()
	binary := filepath.Join(c.folder, "letterlock")
	if out, err := exec.Command("go", "build", "-o", binary, "../letterlock").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return &foundSite{chain: c, program: binary}
}

// registered waits until so many clients have registered themselves, and so many of those
// registrations have ended: the daemon's log comes by a pipe, after the answer.
func (c *foundSite) registered(made, ended int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
	defer cancel()
	sawMade, sawEnded := 0, 0
	if _, err := c.process.WaitLog(ctx, func(line string) bool {
		sawMade += strings.Count(line, "msg=\"client registered\"")
		sawEnded += strings.Count(line, "msg=\"registration ended\"")
		return sawMade == made && sawEnded == ended
	}); err != nil {
		c.t.Fatalf("%d clients registered and %d of them ended, not %d and %d: %v", sawMade, sawEnded, made, ended, err)
	}
	c.made, c.ended = made, ended
}

// A foundPerson is ann at a computer that knows nothing but its authorities.
type foundPerson struct {
	*foundSite
	t    *testing.T
	home string
	env  []string
}

func (c *foundSite) person(t *testing.T) *foundPerson {
	home := t.TempDir()
	return &foundPerson{c, t, home, []string{"HOME=" + home, "PATH=/usr/bin:/bin", "LC_ALL=C", "SSL_CERT_FILE=" + c.ca.File}}
}

func (h *foundPerson) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(h.t.Context(), testPatience)
	h.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, h.program, args...)
	cmd.Env, cmd.Dir = h.env, h.home
	return cmd
}

func (h *foundPerson) run(args ...string) string {
	h.t.Helper()
	cmd := h.command(args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("letterlock %s: %v\n%s%s", strings.Join(args, " "), err, out, said.String())
	}
	return string(out) + said.String()
}

// byDevice signs in on a computer without a screen: ann types the code in elsewhere.
func (h *foundPerson) byDevice() string {
	h.t.Helper()
	cmd := h.command("login", "ann@try.test")
	said, err := cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	var text strings.Builder
	code := regexp.MustCompile(`[B-Z]{4}-[B-Z]{4}`)
	for lines := bufio.NewReader(said); err == nil; {
		var line string
		line, err = lines.ReadString('\n')
		text.WriteString(line)
		if found := code.FindString(line); found != "" {
			_, page := h.browser.do(http.MethodGet, "/device?user_code="+found, nil)
			_, page = h.browser.press(page, "/device")
			if res, page := h.browser.press(page, "/device/decide", "decision", "allow"); res.StatusCode != http.StatusSeeOther {
				h.t.Fatalf("%s %s", res.Status, page)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("letterlock login: %v\n%s", err, text.String())
	}
	return text.String()
}

// byBrowser signs in on a desktop, whose browser is a program that hands the address on.
// set fills the form of consent.
func (h *foundPerson) byBrowser(set ...string) string {
	h.t.Helper()
	pipe, browser := filepath.Join(h.home, "address"), filepath.Join(h.home, "browser")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(browser, []byte("#!/bin/sh\nprintf '%s\\n' \"$1\" > "+pipe+"\n"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.env = append(h.env, "BROWSER="+browser)
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // does not wait for a writer
	if err != nil {
		h.t.Fatal(err)
	}
	defer reader.Close()
	// In a container, as tests often are, a browser is thought to be out of reach.
	cmd := h.command("login", "ann@try.test", "--flow", "browser")
	var text strings.Builder
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); reader.Close() }()
	address, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		h.t.Fatalf("no address: %v, %v\n%s", err, <-ended, text.String())
	}
	res, page := h.browser.do(http.MethodGet, strings.TrimSpace(address), nil)
	if res.StatusCode != http.StatusOK {
		h.t.Fatalf("consent: %s %s", res.Status, page)
	}
	res, page = h.browser.press(page, "/consent", append([]string{"decision", "allow"}, set...)...)
	back, err := http.Get(res.Header.Get("Location"))
	if err != nil {
		h.t.Fatalf("%s %s: %v", res.Status, page, err)
	}
	_, _ = io.Copy(io.Discard, back.Body)
	back.Body.Close()
	if err := <-ended; err != nil {
		h.t.Fatalf("letterlock login: %v\n%s", err, text.String())
	}
	return text.String()
}

// life is what comes after the sign-in.
func (h *foundPerson) life(said string, wants ...string) {
	h.t.Helper()
	for _, want := range append(wants, "ann@try.test, may read and send mail") {
		if !strings.Contains(said, want) {
			h.t.Errorf("login did not say %q:\n%s", want, said)
		}
	}
	token := strings.TrimSpace(h.run("token", "ann@try.test"))
	if !strings.HasPrefix(token, "llat_") || strings.Contains(said, token) {
		h.t.Errorf("the token is %.5s..., or was shown", token)
	}
	// A real Dovecot and a real Postfix, at the servers that were found.
	if tested := h.run("test", "ann@try.test"); strings.Count(tested, "ok") < 4 {
		h.t.Errorf("letterlock test: %s", tested)
	}
	conf, err := os.ReadFile(filepath.Join(h.home, ".config/letterlock/config.toml"))
	if err != nil || strings.Contains(string(conf), "client_id") || !strings.Contains(string(conf), "mail.try.test:") {
		h.t.Errorf("%v: the configuration is\n%s", err, conf)
	}
	h.registered(h.made+1, h.ended)
	out := h.run("logout", "ann@try.test")
	if !strings.Contains(out, "the registration of this program is removed") || !strings.Contains(out, "revoked at the provider") {
		h.t.Errorf("logout: %s", out)
	}
	h.registered(h.made, h.ended+1)
	// Dovecot's cache is flushed within ten seconds, and this is the first to know.
	deadline := time.Now().Add(testPatience)
	for {
		_, challenge, got := h.atIMAP("XOAUTH2", "ann@try.test", token)
		if strings.HasPrefix(got, "a NO") {
			h.challenge("the token once revoked", challenge, true)
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the token once revoked: %s", got)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// machine is a board of tickets that acts as ann with a secret of its own: nobody is
// asked, and there is no refresh token to lose.
func (h *foundPerson) machine() {
	h.t.Helper()
	secret := strings.TrimSpace(h.foundSite.run("client", "add", "board", "--name", "Ticket board", "--person", "ann@try.test", "--scope", "imap,smtp"))
	path := filepath.Join(h.home, "board.secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	said := h.run("login", "ann@try.test", "--flow", "client-credentials", "--client-id", "board", "--client-secret-file", path)
	if !strings.Contains(said, "each token is asked for with "+path) {
		h.t.Errorf("login said\n%s", said)
	}
	if tested := h.run("test", "ann@try.test"); strings.Count(tested, "ok") < 4 {
		h.t.Errorf("letterlock test: %s", tested)
	}
	h.run("logout", "ann@try.test")
}
