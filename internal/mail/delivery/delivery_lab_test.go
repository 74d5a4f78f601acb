//go:build lab

package delivery

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

func labRoute(security provider.Security, port int, ca *lab.CA, source TokenSource, mechanism string) Route {
	return Route{
		Way: Submission, Server: provider.MailServer{Host: "localhost", Port: port, Security: security}, User: lab.Alice().Email,
		Mechanisms: []string{mechanism}, Tokens: source, TLS: ca.Client(),
	}
}

func opToken(t *testing.T, op *lab.OP, scopes ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	token, err := op.Token(ctx, lab.Alice(), scopes...)
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

// TestRealServers sends through Postfix and Dovecot submission with a token of a real
// identity provider, by each mechanism and each kind of TLS.
func TestRealServers(t *testing.T) {
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: ca})
	sink := lab.RunSink(t, lab.SinkOptions{})
	dovecot := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL(), Relay: sink.Addr()})
	postfix := lab.RunPostfix(t, lab.PostfixOptions{CA: ca, Dovecot: dovecot, Relay: sink.Addr()})
	good := opToken(t, op)
	text := "From: alice@try.test\r\nTo: carol@elsewhere.test\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\n.\r\n..\r\nGr\u00fc\u00dfe\r\n.end\r\n"
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	sent := 0
	// Each step waits for its own mails: a queue may let the next ones overtake them.
	arrived := func() []lab.Delivered {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		mails, err := sink.Wait(ctx, sent)
		if err != nil {
			t.Fatal(err)
		}
		return mails
	}
	for _, server := range []struct {
		name     string
		security provider.Security
		port     int
	}{
		{"postfix", provider.STARTTLS, postfix.Submission}, {"postfix", provider.ImplicitTLS, postfix.Subs},
		{"dovecot", provider.STARTTLS, dovecot.Submission}, {"dovecot", provider.ImplicitTLS, dovecot.Subs},
	} {
		for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
			t.Run(server.name+" "+string(server.security)+" "+mechanism, func(t *testing.T) {
				c := carrier(t, labRoute(server.security, server.port, ca, &tokens{list: []string{good}}, mechanism), nil)
				e := envelope(lab.Alice().Email, "carol@elsewhere.test", "dave@elsewhere.test")
				for range 2 { // the second one on the kept connection
					wantVerdicts(t, carry(t, c, e, text), queue.Delivered, queue.Delivered)
					sent++
				}
				last := arrived()[sent-1]
				if _, got, _ := bytes.Cut(last.Data, []byte("\r\n\r\n")); string(got) != body || len(last.To) != 2 {
					t.Errorf("arrived %q for %v", last.Data, last.To)
				}
			})
			t.Run(server.name+" "+string(server.security)+" "+mechanism+" refused", func(t *testing.T) {
				source := &tokens{list: []string{"not-a-token-0123456789", good}}
				var trace bytes.Buffer
				c := carrier(t, labRoute(server.security, server.port, ca, source, mechanism), func(o *Options) { o.Trace = &trace })
				wantVerdicts(t, carry(t, c, envelope(lab.Alice().Email, "carol@elsewhere.test"), text), queue.Delivered)
				sent++
				arrived()
				if source.asked != 2 || len(source.refused) != 1 {
					t.Errorf("%d tokens asked for, refused %q", source.asked, source.refused)
				}
				if strings.Contains(trace.String(), good) || strings.Contains(trace.String(), "not-a-token") {
					t.Errorf("the trace shows a token:\n%s", trace.String())
				}
			})
		}
	}
}

func TestPostfixPartialRefusalAndLMTP(t *testing.T) {
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: ca})
	dovecot := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL()})
	postfix := lab.RunPostfix(t, lab.PostfixOptions{CA: ca, Dovecot: dovecot,
		Main: "smtpd_reject_unlisted_recipient = yes\nmessage_size_limit = 20000\n"})
	route := labRoute(provider.STARTTLS, postfix.Submission, ca, &tokens{list: []string{opToken(t, op)}}, "XOAUTH2")
	c := carrier(t, route, nil)
	got := carry(t, c, envelope(lab.Alice().Email, lab.Bob().Email, "nobody@try.test", lab.Alice().Email), hello)
	wantVerdicts(t, got, queue.Delivered, queue.Refused, queue.Delivered)
	if !strings.HasPrefix(got[1].Status, "5.1.") {
		t.Errorf("%+v", got[1])
	}
	got = carry(t, c, envelope(lab.Alice().Email, lab.Bob().Email), hello+strings.Repeat("too long\r\n", 3000))
	wantVerdicts(t, got, queue.Refused)
	if got[0].Status != "5.3.4" {
		t.Errorf("%+v", got[0])
	}
	// No such token, and none to be had: the mail is held.
	route.Tokens = &tokens{list: []string{"not-a-token-0123456789"}}
	wantVerdicts(t, carry(t, carrier(t, route, nil), envelope(lab.Alice().Email, lab.Bob().Email), hello), queue.SignIn)
	// A password where only tokens are offered: nothing is tried.
	route.Tokens, route.Mechanisms, route.Password = nil, nil, secret.New("hunter2")
	wantVerdicts(t, carry(t, carrier(t, route, nil), envelope(lab.Alice().Email, lab.Bob().Email), hello), queue.Deferred)
}

// TestDirectToPostfix: a real server's port 25, with its opportunistic TLS.
func TestDirectToPostfix(t *testing.T) {
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: ca})
	dovecot := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL()})
	postfix := lab.RunPostfix(t, lab.PostfixOptions{CA: ca, Dovecot: dovecot, Main: "smtpd_reject_unlisted_recipient = yes\n"})
	w := &world{
		mx: map[string][]MX{"try.test": {{"mx.try.test", 10}}}, ips: map[string][]string{"mx.try.test": {ip1}},
		servers: map[string]string{ip1 + ":25": net.JoinHostPort("127.0.0.1", strconv.Itoa(postfix.SMTP))},
	}
	var trace bytes.Buffer
	c := w.carrier(t, Route{TLS: ca.Client()}, nil, func(o *Options) { o.Trace = &trace })
	got := carry(t, c, envelope("you@out.test", lab.Bob().Email, "nobody@try.test"), hello)
	wantVerdicts(t, got, queue.Delivered, queue.Refused)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := postfix.WaitLog(ctx, func(line string) bool { return strings.Contains(line, "status=sent") }); err != nil {
		t.Fatal(err)
	}
	inbox, err := dovecot.Inbox(lab.Bob().Email)
	if err != nil || len(inbox) != 1 || !strings.Contains(string(inbox[0]), "with ESMTPS") {
		t.Errorf("%v, %q\n%s", err, inbox, trace.String())
	}
}

// TestDovecotLMTP: one verdict per recipient, bare local names, and the message as it
// was.
func TestDovecotLMTP(t *testing.T) {
	ca := lab.RunCA(t)
	folder, err := os.MkdirTemp("", "lmtp-") // t.TempDir's is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "lmtp")
	dovecot := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: "https://127.0.0.1:1/", Extra: `
protocols = imap lmtp
service lmtp {
  chroot =
  unix_listener ` + socket + ` {
    mode = 0600
  }
}
protocol lmtp {
  lmtp_rcpt_check_quota = no
}
`})
	c := carrier(t, Route{Way: LMTP, Socket: socket}, nil)
	text := "From: you@try.test\r\nSubject: x\r\n\r\n.\r\n..\r\n\r\nend\r\n"
	for range 2 {
		got := carry(t, c, envelope("you@try.test", lab.Alice().Email, "root", strings.Repeat("x", 70)+"/../@try.test"), text)
		if v := verdicts(got); v[0] != queue.Delivered || v[1] != queue.Delivered || v[2] == queue.Delivered {
			t.Fatalf("%+v", got)
		}
	}
	for _, name := range []string{lab.Alice().Email, "root"} {
		inbox, err := dovecot.Inbox(name)
		if err != nil || len(inbox) != 2 {
			t.Fatalf("%s: %d messages, %v", name, len(inbox), err)
		}
		_, body, _ := strings.Cut(strings.ReplaceAll(string(inbox[0]), "\r\n", "\n"), "\n\n")
		if body != ".\n..\n\nend\n" {
			t.Errorf("%s: body %q", name, body)
		}
	}
}
