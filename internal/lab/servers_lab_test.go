//go:build lab

package lab_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// client is an independent mail client: Python's standard library. Arguments:
// protocol, port, tls mode, mechanism, user, CA file; the token on stdin.
const client = `
import sys, ssl, imaplib, poplib, smtplib, base64
proto, port, mode, mech, user, ca = sys.argv[1:7]
token = sys.stdin.read().strip()
msg = {"XOAUTH2": "user=%s\x01auth=Bearer %s\x01\x01", "OAUTHBEARER": "n,a=%s,\x01auth=Bearer %s\x01\x01"}[mech] % (user, token)
ctx = ssl.create_default_context(cafile=ca)
if proto == "imap":
    c = imaplib.IMAP4_SSL("127.0.0.1", int(port), ssl_context=ctx) if mode == "tls" else imaplib.IMAP4("127.0.0.1", int(port))
    if mode != "tls": c.starttls(ctx)
    c.authenticate(mech, lambda c: (b"" if c else msg.encode()))
    print(c.select("INBOX"))
    typ, data = c.search(None, "ALL")
    for n in data[0].split(): print(c.fetch(n, "(RFC822)")[1][0][1].decode())
    c.logout()
elif proto == "pop3":
    c = poplib.POP3_SSL("127.0.0.1", int(port), context=ctx) if mode == "tls" else poplib.POP3("127.0.0.1", int(port))
    if mode != "tls": c.stls(ctx)
    print(c._shortcmd("AUTH %s %s" % (mech, base64.b64encode(msg.encode()).decode())) )
    for n in range(1, c.stat()[0] + 1): print(b"\n".join(c.retr(n)[1]).decode())
    c.quit()
else:
    c = smtplib.SMTP_SSL("127.0.0.1", int(port), context=ctx) if mode == "tls" else smtplib.SMTP("127.0.0.1", int(port))
    if mode != "tls": c.starttls(context=ctx)
    c.ehlo()
    c.auth(mech, lambda challenge=None: "" if challenge else msg)
    c.sendmail(user, sys.argv[7:], "From: %s\r\nSubject: lab\r\n\r\n%s by %s\r\n" % (user, mech, mode))
    c.quit()
`

func python(ca *lab.CA, token string, args ...string) (string, error) {
	args = append([]string{"-c", client}, append(args[:5:5], append([]string{ca.File}, args[5:]...)...)...)
	cmd := exec.Command("python3", args...)
	cmd.Stdin = strings.NewReader(token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestDovecotTakesTokens(t *testing.T) {
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: ca})
	sink := lab.RunSink(t, lab.SinkOptions{})
	d := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL(), Relay: sink.Addr()})
	alice := lab.Alice()
	if err := d.Put(alice.Email, []byte("From: bob@try.test\nSubject: hello\n\nlaid in the maildir\n")); err != nil {
		t.Fatal(err)
	}
	good := token(t, op, alice)
	bobs := token(t, op, lab.Bob())
	narrow := token(t, op, alice, "openid", "email")
	sent := 0
	for _, c := range []struct {
		proto string
		mode  string
		port  int
	}{
		{"imap", "starttls", d.IMAP}, {"imap", "tls", d.IMAPS},
		{"pop3", "starttls", d.POP3}, {"pop3", "tls", d.POP3S},
		{"smtp", "starttls", d.Submission}, {"smtp", "tls", d.Subs},
	} {
		for _, mech := range []string{"XOAUTH2", "OAUTHBEARER"} {
			t.Run(c.proto+" "+c.mode+" "+mech, func(t *testing.T) {
				args := []string{c.proto, itoa(c.port), c.mode, mech, alice.Email, "carol@elsewhere.test"}
				out, err := python(ca, good, args...)
				if err != nil {
					t.Fatalf("a good token: %v\n%s", err, out)
				}
				if c.proto == "smtp" {
					sent++
				} else if !strings.Contains(out, "laid in the maildir") {
					t.Errorf("the message was not there:\n%s", out)
				}
				refused := map[string]string{"unknown": "not-a-token"}
				if c.mode == "tls" && mech == "XOAUTH2" {
					refused["somebody else's"], refused["without the scope"] = bobs, narrow
				}
				for name, bad := range refused {
					if out, err := python(ca, bad, args...); err == nil {
						t.Errorf("a token %s was accepted:\n%s", name, out)
					}
				}
			})
		}
	}
	got, err := sink.Wait(within(t), sent)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		if m.From != alice.Email || !bytes.Contains(m.Data, []byte("Subject: lab")) {
			t.Errorf("relayed: from %q, %q", m.From, m.Data)
		}
	}
}

func TestPostfixTakesTokensAndDelivers(t *testing.T) {
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{})
	sink := lab.RunSink(t, lab.SinkOptions{})
	d := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL()})
	p := lab.RunPostfix(t, lab.PostfixOptions{CA: ca, Dovecot: d, Relay: sink.Addr()})
	alice, bob := lab.Alice(), lab.Bob()
	good := token(t, op, alice)
	sent := 0
	for mode, port := range map[string]int{"starttls": p.Submission, "tls": p.Subs} {
		for _, mech := range []string{"XOAUTH2", "OAUTHBEARER"} {
			args := []string{"smtp", itoa(port), mode, mech, alice.Email, "bob+shop@try.test", "carol@elsewhere.test"}
			if out, err := python(ca, good, args...); err != nil {
				t.Errorf("%s %s, a good token: %v\n%s", mode, mech, err, out)
				continue
			}
			sent++
			out, err := python(ca, "not-a-token", args...)
			if err == nil || !strings.Contains(out, "535") {
				t.Errorf("%s %s, a bad token: %v\n%s", mode, mech, err, out)
			}
		}
	}
	if _, err := sink.Wait(within(t), sent); err != nil {
		t.Error(err)
	}
	for n := range sent {
		seen := 0
		if _, err := p.WaitLog(within(t), func(s string) bool {
			if strings.Contains(s, "to=<bob+shop@try.test>") && strings.Contains(s, "status=sent (delivered to maildir)") {
				seen++
			}
			return seen > n
		}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := python(ca, token(t, op, bob), "imap", itoa(d.IMAPS), "tls", "XOAUTH2", bob.Email)
	if err != nil || strings.Count(out, "Subject: lab") != sent {
		t.Errorf("bob's inbox does not hold %d messages: %v\n%s", sent, err, out)
	}
}
