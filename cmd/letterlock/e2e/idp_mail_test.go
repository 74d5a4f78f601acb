//go:build unix

package e2e

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

// A mailHost is a mail server of Google's or Microsoft's in small: it offers what they
// offer, asks the fake of its provider about the token, and says no in their words.
type mailHost struct {
	protocol string
	check    func(token string) error
	// challenge and no are said to a token that is not good enough.
	challenge, no string
	// refuses is said to a good token, mailbox to a command after the sign-in.
	refuses, mailbox string
}

// listen serves on loopback until the test ends.
func (m mailHost) listen(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer conn.Close(); m.serve(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

func (m mailHost) serve(conn net.Conn) {
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	say(map[string]string{"imap": "* OK The service is ready.", "pop3": "+OK The POP3 service is ready.", "smtp": "220 ready"}[m.protocol])
	yes := map[string]string{"imap": "OK done.", "pop3": "+OK 0 0", "smtp": "250 2.0.0 OK"}[m.protocol]
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		words, tag := strings.Fields(lines.Text()), ""
		if m.protocol == "imap" {
			tag, words = words[0]+" ", words[1:]
		}
		switch words[0] {
		case "CAPABILITY":
			say("* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR\r\n" + tag + yes)
		case "CAPA":
			say("+OK\r\nSASL PLAIN XOAUTH2\r\n.")
		case "EHLO":
			say("250-fake\r\n250 AUTH LOGIN XOAUTH2")
		case "AUTHENTICATE", "AUTH":
			m.auth(say, lines, tag, words[1:])
		case "LIST", "STAT", "NOOP":
			if m.mailbox == "" {
				say(tag + yes)
				continue
			}
			say(tag + m.mailbox)
		case "LOGOUT", "QUIT":
			say(tag + yes)
			return
		default:
			say(tag + "BAD")
		}
	}
}

func (m mailHost) auth(say func(string), lines *bufio.Scanner, tag string, words []string) {
	invite := map[string]string{"imap": "+ ", "pop3": "+ ", "smtp": "334 "}[m.protocol]
	response := words[len(words)-1]
	if len(words) == 1 {
		say(invite)
		lines.Scan()
		response = lines.Text()
	}
	raw, _ := base64.StdEncoding.DecodeString(response)
	_, token, _ := strings.Cut(string(raw), "auth=Bearer ")
	switch {
	case m.check(strings.TrimRight(token, "\x01")) != nil:
		if m.challenge != "" {
			say(invite + base64.StdEncoding.EncodeToString([]byte(m.challenge)))
			lines.Scan()
		}
		say(tag + m.no)
	case m.refuses != "":
		say(tag + m.refuses)
	default:
		say(tag + map[string]string{"imap": "OK AUTHENTICATE completed.", "pop3": "+OK User successfully logged on.", "smtp": "235 2.7.0 Authentication successful"}[m.protocol])
	}
}

// exchange are Microsoft's servers, which look for one scope each.
func exchange(m *fakeidp.Microsoft) map[string]*mailHost {
	wants := func(scope string) func(string) error {
		return func(token string) error { _, err := m.Check(token, outlook+scope); return err }
	}
	return map[string]*mailHost{
		"imap": {protocol: "imap", check: wants(readMail), no: "NO AUTHENTICATE failed."},
		"pop3": {protocol: "pop3", check: wants("POP.AccessAsUser.All"), no: "-ERR Authentication failure: unknown user name or bad password."},
		"smtp": {protocol: "smtp", check: wants(sendBySMTP), no: "535 5.7.3 Authentication unsuccessful [fake.outlook.com]"},
	}
}

// gmail are Google's servers, which all want the one mail scope.
func gmail(g *fakeidp.Google) map[string]*mailHost {
	check := func(token string) error { _, err := g.Check(token, fakeidp.GoogleMail); return err }
	challenge := `{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}`
	return map[string]*mailHost{
		"imap": {protocol: "imap", check: check, challenge: challenge, no: "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"},
		"pop3": {protocol: "pop3", check: check, challenge: challenge, no: "-ERR [AUTH] Username and password not accepted."},
		"smtp": {protocol: "smtp", check: check, challenge: challenge, no: "535-5.7.8 Username and Password not accepted. For more information, go to\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials fake - gsmtp"},
	}
}

// serverFlags start the hosts and name them as flags do.
func serverFlags(t *testing.T, hosts map[string]*mailHost) []string {
	t.Helper()
	var flags []string
	for protocol, host := range hosts {
		flags = append(flags, "--"+protocol, host.listen(t), "--"+protocol+"-security", "plain")
	}
	return flags
}

// TestMailServersRefuse: letterlock test names what stands against a good sign-in.
func TestMailServersRefuse(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	for _, k := range []struct {
		name  string
		set   func(map[string]*mailHost)
		args  []string // of login
		code  int
		texts []string
	}{
		{"all well", func(map[string]*mailHost) {}, nil, 0, []string{"ok (LIST)", "ok (STAT)", "ok (NOOP)"}},
		{"SMTP AUTH off", func(hosts map[string]*mailHost) {
			hosts["smtp"].refuses = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information."
		}, nil, 77, []string{"5.7.139", "SMTP AUTH is off for the tenant or the mailbox", "token --for graph", "Set-CASMailbox -SmtpClientAuthenticationDisabled $false"}},
		{"no such mailbox", func(hosts map[string]*mailHost) {
			hosts["imap"].mailbox = "BAD User is authenticated but not connected."
		}, nil, 77,
			[]string{"mailbox failed", "another account signed in than the mailbox's, no licence, or IMAP is switched off", "sign in with the mailbox's own account"}},
		{"shared mailbox", func(hosts map[string]*mailHost) {
			hosts["imap"].mailbox = "BAD User is authenticated but not connected."
		}, []string{"--mailbox", "shared@corp.example"}, 77,
			[]string{"the token belongs to " + workMail + ", the mailbox is shared@corp.example", "for a shared mailbox give its address as the IMAP user"}},
		{"too many", func(hosts map[string]*mailHost) {
			hosts["smtp"].refuses = "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"
		}, nil, 75, []string{"three connections and 30 messages a minute are the limit", "try again later"}},
		{"not now", func(hosts map[string]*mailHost) { hosts["smtp"].refuses = "454 4.7.0 Temporary authentication failure" }, nil, 75, []string{"4.7.0"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			w.resetMicrosoft(c)
			hosts := exchange(c.public)
			k.set(hosts)
			h := signedInAtMicrosoft(t, w, nil, append(serverFlags(t, hosts), k.args...)...)
			r := h.letterlock("test", workMail)
			tells(t, r, k.code, k.texts...)
		})
	}
}

// TestMailServersRefuseTokens: a token of the wrong kind from elsewhere.
func TestMailServersRefuseTokens(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	h := signedInAtMicrosoft(t, w, nil)
	hosts := exchange(c.public)
	args := append([]string{"test", workMail, "--token-stdin"}, serverFlags(t, hosts)...)
	tells(t, h.run(h.token(workMail, "--for", "imap"), "letterlock", args...), 0, "ok (LIST)")
	r := h.run(h.token(workMail, "--for", "graph"), "letterlock", args...)
	tells(t, r, 77, "5.7.3", "a token for Graph at SMTP", "AUTHENTICATE failed", "the token says that it is for "+graph, "letterlock token ACCOUNT --for imap")

	wg, g := newGoogle(t)
	hg := signedInAtGoogle(t, wg)
	if a := wg.login(hg, nil, "you@gmail.com", "--account", "cron", "--send-only", "--flow", "paste"); a.code != 0 {
		t.Fatalf("login: %v", a)
	}
	args = append([]string{"test", "you@gmail.com", "--token-stdin"}, serverFlags(t, gmail(g))...)
	tells(t, hg.run(hg.token("you@gmail.com"), "letterlock", args...), 0, "ok (LIST)", "ok (NOOP)")
	r = hg.run(hg.token("cron"), "letterlock", args...)
	tells(t, r, 77, "gmail.send does not open SMTP", "it wants the scope https://mail.google.com/")
	if strings.Contains(r.stdout+r.stderr, hg.token("cron")) {
		t.Errorf("the token is shown: %v", r)
	}
}

// tells checks what letterlock test prints: the table and the advice on standard output.
func tells(t *testing.T, r result, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("wanted exit %d: %v", code, r)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("%q is not in: %v", text, r)
		}
	}
}
