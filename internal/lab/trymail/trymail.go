// Package trymail is the mail servers that `make try` brings along: IMAP (go-imap's
// memory server) and submission (go-smtp) on free loopback ports, under TLS of a
// throw-away authority, in this process. They stand in where Dovecot and Postfix are
// not installed, and do what those do with a token: ask the authorization server by
// introspection (RFC 7662) at every login, and keep nothing. Beside letterlockd they also
// do what its printed configuration makes Dovecot and Postfix do: ask it about app
// passwords, ask its socketmap who may send as whom, and end a person's sessions when
// it says so by doveadm's HTTP API.
//
// It is for tests and cmd/try only. What is proven against it is proven against these
// two libraries; internal/lab has the real servers.
package trymail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Options shape the servers.
type Options struct {
	TLS *tls.Config // of the servers; both use TLS from the first byte

	// Introspection is the endpoint, ClientID and Secret are how we prove to it that
	// we may ask.
	Introspection string
	ClientID      string
	Secret        secret.String
	HTTP          *http.Client

	// Password is the endpoint that judges app passwords, as Dovecot's grant_url; empty:
	// no password is taken.
	Password string
	// Senders is the path of the socketmap that says who may send as whom; empty: each
	// as themselves.
	Senders string
	// DoveadmKey opens the HTTP API that ends sessions; empty: there is none.
	DoveadmKey secret.String

	// OpenIDConfiguration is told to clients whose token is refused.
	OpenIDConfiguration string
	Log                 *slog.Logger
}

// Servers are the running servers.
type Servers struct {
	IMAP    *net.TCPAddr
	SMTP    *net.TCPAddr
	Doveadm *net.TCPAddr // nil without a DoveadmKey

	checker  checker
	boxes    *mailboxes
	sessions sessions
	imap     *imapserver.Server
	smtp     *smtp.Server
	doveadm  *http.Server
	done     sync.WaitGroup
}

// Start listens on free ports of 127.0.0.1 and serves until Stop.
func Start(options Options) (*Servers, error) {
	if options.TLS == nil || options.HTTP == nil || options.Log == nil {
		return nil, errors.New("start mail servers: TLS, HTTP client or log is missing")
	}
	s := &Servers{checker: checker{options}, boxes: newMailboxes()}
	imapListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for IMAP: %w", err)
	}
	smtpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for SMTP: %w", err), imapListener.Close())
	}
	if err := s.startDoveadm(); err != nil {
		return nil, errors.Join(err, imapListener.Close(), smtpListener.Close())
	}
	s.IMAP, s.SMTP = imapListener.Addr().(*net.TCPAddr), smtpListener.Addr().(*net.TCPAddr)
	s.imap = imapserver.New(&imapserver.Options{
		NewSession: func(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &imapSession{servers: s, conn: conn}, nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}},
		// The library sees plain text: TLS is ended in front of it.
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &smtpSession{servers: s}, nil }))
	s.smtp.Domain, s.smtp.AllowInsecureAuth, s.smtp.ErrorLog = "localhost", true, log.New(io.Discard, "", 0)
	s.smtp.MaxMessageBytes, s.smtp.MaxRecipients, s.smtp.MaxLineLength = 10<<20, 100, 16<<10
	s.done.Go(func() { _ = s.imap.Serve(tls.NewListener(imapListener, options.TLS)) })
	s.done.Go(func() { _ = s.smtp.Serve(tls.NewListener(smtpListener, options.TLS)) })
	return s, nil
}

// Stop ends the servers and all connections.
func (s *Servers) Stop() {
	_ = s.imap.Close()
	_ = s.smtp.Close()
	if s.doveadm != nil {
		_ = s.doveadm.Close()
	}
	s.done.Wait()
}

// Name says what answers, for people.
func (s *Servers) Name() string { return "built-in servers" }

// Messages returns how many messages lie in the inbox of an address.
func (s *Servers) Messages(_ context.Context, address string) (uint32, error) {
	return s.boxes.count(address)
}

// Delivered returns what has been sent to an address, as it came.
func (s *Servers) Delivered(address string) [][]byte { return s.boxes.delivered(address) }
