package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gosasl "github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Servers and clients that others wrote: go-imap, go-smtp, and go-sasl's own
// OAUTHBEARER beside our sasl package.

const peerUser = "a,b=c@example.test" // with what OAUTHBEARER must escape

// goodToken is our server side's check.
func goodToken(c sasl.Credentials) error {
	if c.User != peerUser || c.Secret.Reveal() != testToken {
		return &sasl.Refusal{Status: "invalid_token", Scope: "mail"}
	}
	return nil
}

// peerMechanism returns the server side: ours, or go-sasl's OAUTHBEARER, which does
// not unescape user names and so compares with the escaped one.
func peerMechanism(mechanism string, theirs bool, refuse error) (gosasl.Server, error) {
	if theirs && mechanism == sasl.OAuthBearer {
		server := gosasl.NewOAuthBearerServer(func(o gosasl.OAuthBearerOptions) *gosasl.OAuthBearerError {
			if o.Username != "a=2Cb=3Dc@example.test" || o.Token != testToken || o.Host != "127.0.0.1" {
				return &gosasl.OAuthBearerError{Status: "invalid_token", Schemes: "bearer"}
			}
			return nil
		})
		return &refusing{server, refuse}, nil
	}
	server, err := sasl.NewServer(mechanism, goodToken)
	return &refusing{server, refuse}, err
}

// refusing turns our refusals into the errors that a server library spells out.
type refusing struct {
	gosasl.Server
	refuse error
}

func (r *refusing) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := r.Server.Next(response)
	if err != nil {
		err = r.refuse
	}
	return challenge, done, err
}

type imapSession struct {
	*imapmemserver.UserSession
	user   *imapmemserver.User
	theirs bool
}

func (s *imapSession) Login(string, string) error { return imapserver.ErrAuthFailed }
func (s *imapSession) Close() error               { return nil }
func (s *imapSession) AuthenticateMechanisms() []string {
	return []string{sasl.XOAuth2, sasl.OAuthBearer}
}

func (s *imapSession) Authenticate(mechanism string) (gosasl.Server, error) {
	s.UserSession = imapmemserver.NewUserSession(s.user)
	return peerMechanism(mechanism, s.theirs, imapserver.ErrAuthFailed)
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func mailServer(listener net.Listener, security provider.Security) provider.MailServer {
	return provider.MailServer{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Security: security}
}

func startIMAP(t *testing.T, security provider.Security, theirs bool) provider.MailServer {
	t.Helper()
	user := imapmemserver.NewUser(peerUser, "unused")
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &imapSession{user: user, theirs: theirs}, nil, nil
		},
		TLSConfig: testAuthority().server, Logger: log.New(io.Discard, "", 0),
	})
	listener := listenTCP(t)
	serving := listener
	if security == provider.ImplicitTLS {
		serving = tls.NewListener(listener, testAuthority().server)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(serving) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return mailServer(listener, security)
}

type smtpSession struct {
	theirs bool
	mail   chan string
}

func (s *smtpSession) AuthMechanisms() []string { return []string{sasl.XOAuth2, sasl.OAuthBearer} }
func (s *smtpSession) Auth(mechanism string) (gosasl.Server, error) {
	return peerMechanism(mechanism, s.theirs, gosmtp.ErrAuthFailed)
}
func (s *smtpSession) Reset()                                 {}
func (s *smtpSession) Logout() error                          { return nil }
func (s *smtpSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (s *smtpSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s *smtpSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mail <- string(text)
	return err
}

func startSMTP(t *testing.T, security provider.Security, theirs bool) (provider.MailServer, chan string) {
	t.Helper()
	mail := make(chan string, 1)
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &smtpSession{theirs: theirs, mail: mail}, nil
	}))
	server.MaxLineLength = 12288 // RFC 4954 section 4; go-smtp's 2,000 are too few for a token
	server.Domain, server.TLSConfig, server.ErrorLog = "mail.example.test", testAuthority().server, log.New(io.Discard, "", 0)
	listener := listenTCP(t)
	serving := listener
	if security == provider.ImplicitTLS {
		serving = tls.NewListener(listener, testAuthority().server)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(serving) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return mailServer(listener, security), mail
}

func TestPeers(t *testing.T) {
	for _, security := range []provider.Security{provider.ImplicitTLS, provider.STARTTLS} {
		for _, theirs := range []bool{false, true} {
			smtpServer, _ := startSMTP(t, security, theirs)
			servers := map[Protocol]provider.MailServer{IMAP: startIMAP(t, security, theirs), SMTP: smtpServer}
			for protocol, server := range servers {
				for _, mechanism := range []string{sasl.XOAuth2, sasl.OAuthBearer} {
					signIn(t, protocol, server, mechanism)
				}
			}
		}
	}
}

func signIn(t *testing.T, protocol Protocol, server provider.MailServer, mechanism string) {
	t.Helper()
	for _, token := range []string{testToken, "bad", strings.Repeat("long", 500)} {
		var trace bytes.Buffer
		conn, err := Dial(t.Context(), protocol, server, Options{TLS: &tls.Config{RootCAs: testAuthority().roots}, Trace: &trace, Timeout: patience})
		if err != nil {
			t.Errorf("%s %s: %v", protocol, mechanism, err)
			return
		}
		err = conn.Authenticate(t.Context(), Login{User: peerUser, Mechanisms: []string{mechanism}, Token: secret.New(token)})
		if token == testToken {
			if err == nil {
				err = conn.Check(t.Context())
			}
			if err != nil {
				t.Errorf("%s %s: %v\n%s", protocol, mechanism, err, &trace)
			}
		} else if refusal, ok := errors.AsType[*AuthError](err); !ok || !strings.Contains(refusal.Challenge, `"status":`) || refusal.Temporary {
			t.Errorf("%s %s, bad token: %#v\n%s", protocol, mechanism, err, &trace)
		}
		if strings.Contains(trace.String(), token) && token != "bad" {
			t.Errorf("the token is in the trace:\n%s", &trace)
		}
		if err := conn.Quit(t.Context()); err != nil {
			t.Errorf("%s: quit: %v", protocol, err)
		}
	}
}

// openTunnel signs in and returns the mail program's end of the tunnel.
func openTunnel(t *testing.T, protocol Protocol, server provider.MailServer) net.Conn {
	t.Helper()
	conn, err := Dial(t.Context(), protocol, server, Options{TLS: &tls.Config{RootCAs: testAuthority().roots}})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Authenticate(t.Context(), Login{User: peerUser, Token: secret.New(testToken)}); err != nil {
		t.Fatal(err)
	}
	client, end := pipe(t)
	var done sync.WaitGroup
	done.Go(func() {
		if err := Tunnel(context.WithoutCancel(t.Context()), conn, end, end); err != nil {
			t.Errorf("tunnel: %v", err)
		}
		end.Close()
	})
	t.Cleanup(done.Wait)
	return client
}

// go-imap's client takes the tunnel for a server that it is signed in at.
func TestTunnelWithIMAPClient(t *testing.T) {
	client := imapclient.New(openTunnel(t, IMAP, startIMAP(t, provider.ImplicitTLS, false)), nil)
	defer client.Close()
	if err := client.WaitGreeting(); err != nil {
		t.Fatal(err)
	}
	if state := client.State(); state != goimap.ConnStateAuthenticated {
		t.Errorf("state %v", state)
	}
	message := "Subject: x\r\n\r\n" + strings.Repeat("text\r\n", 10000)
	appending := client.Append("INBOX", int64(len(message)), nil)
	if _, err := io.WriteString(appending, message); err != nil {
		t.Fatal(err)
	}
	if err := appending.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := appending.Wait(); err != nil {
		t.Fatal(err)
	}
	selected, err := client.Select("INBOX", nil).Wait()
	if err != nil || selected.NumMessages != 1 {
		t.Fatalf("%+v, %v", selected, err)
	}
	section := &goimap.FetchItemBodySection{}
	fetched, err := client.Fetch(goimap.SeqSetNum(1), &goimap.FetchOptions{BodySection: []*goimap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(fetched) != 1 || string(fetched[0].FindBodySection(section)) != message {
		t.Errorf("fetched %d, %v", len(fetched), err)
	}
	if err := client.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// go-smtp's client sends through the tunnel without a password.
func TestTunnelWithSMTPClient(t *testing.T) {
	server, mail := startSMTP(t, provider.STARTTLS, false)
	client := gosmtp.NewClient(openTunnel(t, SMTP, server))
	defer client.Close()
	if ok, _ := client.Extension("AUTH"); ok {
		t.Error("AUTH is offered in the tunnel")
	}
	if ok, _ := client.Extension("PIPELINING"); !ok {
		t.Error("the server's extensions are missing")
	}
	if err := client.SendMail("a@example.test", []string{"b@example.test"}, strings.NewReader("Subject: x\r\n\r\n.text\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := <-mail; got != "Subject: x\r\n\r\n.text\r\n" {
		t.Errorf("delivered %q", got)
	}
	if err := client.Quit(); err != nil {
		t.Error(err)
	}
}
