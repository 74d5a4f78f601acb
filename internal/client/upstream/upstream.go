// Package upstream connects to IMAP, POP3 and SMTP servers, sets up TLS,
// authenticates with a token by OAUTHBEARER or XOAUTH2, and hands the connection
// over. probe, tunnel and proxy stand on it.
//
// It is a line client of our own: go-imap, go-smtp and every POP3 library at hand
// hide the server's error challenge (base64 JSON), which is the one thing that tells
// why a token was refused, and answer it wrongly or not at all; see
// docs/design.md. emersion/go-sasl has no XOAUTH2.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Protocol is a mail access or submission protocol.
type Protocol string

// The protocols spoken.
const (
	IMAP Protocol = "imap"
	POP3 Protocol = "pop3"
	SMTP Protocol = "smtp"
)

// TokenSource hands out a token that is valid now.
type TokenSource interface {
	Token(ctx context.Context) (secret.String, error)
}

// Options shape Dial.
type Options struct {
	TLS     *tls.Config   // nil: system roots, TLS 1.2 and later, name checked
	Timeout time.Duration // per dialogue step; 0 means 30 s
	// Trace receives the dialogue line by line, "C: " and "S: ", with every secret
	// hidden. nil: none.
	Trace io.Writer
}

// A Login is who signs in and with what.
type Login struct {
	User       string   // SASL identity
	Mechanisms []string // to use, best first; empty: OAUTHBEARER, XOAUTH2 as offered
	Token      secret.String
}

// A Conn is a connection to a mail server, greeted and under TLS where asked for.
type Conn struct{ net.Conn }

// Dial connects, sets up TLS as server.Security says (STARTTLS never falls back and
// discards what was buffered before it), and reads the capabilities.
func Dial(ctx context.Context, protocol Protocol, server provider.MailServer, opts Options) (*Conn, error) {
	return nil, errors.New("not written yet")
}

// An AuthError is a refused sign-in.
type AuthError struct {
	Mechanism string
	Reply     string // the server's final line: "NO [AUTHENTICATIONFAILED] ...", "535 5.7.3 ..."
	Challenge string // the decoded error challenge (JSON), empty when there was none
	Temporary bool   // 4xx, [UNAVAILABLE], [SYS/TEMP]
}

// Error returns mechanism and reply on one line.
func (e *AuthError) Error() string { return e.Mechanism + ": " + e.Reply }

// Mechanisms are the SASL mechanisms that the server offers now.
func (c *Conn) Mechanisms() []string { return nil }

// Authenticate signs in with the first of login.Mechanisms that the server offers.
// A refusal is an *AuthError; the failure round is answered as the mechanism wants.
func (c *Conn) Authenticate(ctx context.Context, login Login) error {
	return errors.New("not written yet")
}

// Check proves that the mailbox is there: LIST (IMAP), STAT (POP3), NOOP (SMTP).
func (c *Conn) Check(ctx context.Context) error { return errors.New("not written yet") }

// Handover returns the bare connection, bytes already read from it included.
func (c *Conn) Handover() net.Conn { return c.Conn }
