// Package upstream connects to IMAP, POP3 and SMTP servers, sets up TLS,
// authenticates with a token by OAUTHBEARER or XOAUTH2, and hands the connection
// over. probe, tunnel and proxy stand on it.
//
//	Dial -> Conn -> Authenticate -> Check | Tunnel | Handover
//
// It is a line client of our own: go-imap, go-smtp and every POP3 library at hand
// hide the server's error challenge (base64 JSON), which is the one thing that tells
// why a token was refused, and answer it wrongly or not at all; see
// docs/design.md. emersion/go-sasl has no XOAUTH2.
//
// A server is not trusted: lines, literals and replies have a size limit, each step
// of the dialogue a time limit, and what it says is made printable and searched for
// the token before it gets into an error or a trace.
package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
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
	// Network opens the connection, for those behind a SOCKS proxy; nil: directly.
	Network func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Login is who signs in and with what.
type Login struct {
	User       string   // SASL identity
	Mechanisms []string // to use, best first; empty: OAUTHBEARER, XOAUTH2 as offered
	Token      secret.String
}

// A Conn is a connection to a mail server, greeted and under TLS where asked for. It
// is for one goroutine at a time.
type Conn struct {
	net.Conn // TLS where there is TLS

	raw          net.Conn // the connection below TLS: closing it ends any wait
	in           *bufio.Reader
	dialect      dialect
	protocol     Protocol
	server       provider.MailServer
	timeout      time.Duration
	trace        *trace
	greeting     string
	capabilities []string // as the server spells them
	tags         int      // IMAP command tags given out
	signedIn     bool
}

// A dialect is what differs between the protocols. Its methods talk on c.
type dialect interface {
	// greet reads the greeting.
	greet(c *Conn) error
	// ask sets c.capabilities.
	ask(c *Conn) error
	// startTLS asks for TLS and reads the server's consent.
	startTLS(c *Conn) error
	// authenticate carries the messages of one SASL exchange.
	authenticate(c *Conn, e *exchange) error
	// check issues one command that needs the mailbox.
	check(c *Conn) error
	// quit says goodbye.
	quit(c *Conn) error
}

func speaker(protocol Protocol) (dialect, error) {
	switch protocol {
	case IMAP:
		return imap{}, nil
	case POP3:
		return pop3{}, nil
	case SMTP:
		return smtp{}, nil
	}
	return nil, fmt.Errorf("no such protocol: %q", protocol)
}

// Dial connects, sets up TLS as server.Security says (STARTTLS never falls back, and
// anything that came before TLS is a fault), and reads the capabilities.
func Dial(ctx context.Context, protocol Protocol, server provider.MailServer, opts Options) (*Conn, error) {
	dialect, err := speaker(protocol)
	if err != nil {
		return nil, err
	}
	config, err := tlsConfig(opts.TLS, server.Host)
	if err != nil {
		return nil, err
	}
	if err := checkSecurity(server); err != nil {
		return nil, err
	}
	c := &Conn{dialect: dialect, protocol: protocol, server: server, timeout: opts.Timeout, trace: &trace{w: opts.Trace}}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	if err := c.connect(ctx, opts.Network); err != nil {
		return nil, err
	}
	if err := c.during(ctx, func() error { return c.open(ctx, config) }); err != nil {
		c.raw.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) connect(ctx context.Context, network func(context.Context, string, string) (net.Conn, error)) error {
	if network == nil {
		network = (&net.Dialer{}).DialContext
	}
	address := c.address()
	dialing, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	raw, err := network(dialing, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	if c.server.Security == provider.Plain && !loopbackPeer(raw) {
		raw.Close()
		return fmt.Errorf("connect to %s: %w", address, ErrPlain)
	}
	c.use(raw, raw)
	return nil
}

// open goes from a bare connection to a greeted and, where asked for, encrypted one.
func (c *Conn) open(ctx context.Context, config *tls.Config) error {
	if c.server.Security == provider.ImplicitTLS {
		if err := c.handshake(ctx, config); err != nil {
			return err
		}
	}
	c.step()
	if err := c.dialect.greet(c); err != nil {
		return err
	}
	if c.server.Security == provider.STARTTLS {
		if err := c.upgrade(ctx, config); err != nil {
			return err
		}
	}
	if c.capabilities != nil { // the greeting brought them
		return nil
	}
	return c.dialect.ask(c)
}

// use reads and writes through conn from now on.
func (c *Conn) use(raw, conn net.Conn) {
	c.raw, c.Conn = raw, conn
	c.in = bufio.NewReaderSize(conn, 4096)
}

// during runs a part of the dialogue. A canceled context closes the connection:
// after half a dialogue there is nothing to go on with.
func (c *Conn) during(ctx context.Context, talk func() error) error {
	raw := c.raw
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	err := talk()
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// step gives the next command and its whole reply their time. Per command and not
// per read: a server that drips a byte at a time must not hold us for ever.
func (c *Conn) step() {
	// A failure here shows at the read or write that follows.
	_ = c.raw.SetDeadline(time.Now().Add(c.timeout))
}

func (c *Conn) address() string {
	return net.JoinHostPort(c.server.Host, strconv.Itoa(c.server.Port))
}

// Mechanisms are the SASL mechanisms that the server offers now.
func (c *Conn) Mechanisms() []string { return mechanisms(c.protocol, c.capabilities) }

// Capabilities are what the server says it can, as it spells it, made printable.
func (c *Conn) Capabilities() []string {
	shown := make([]string, 0, len(c.capabilities))
	for _, capability := range c.capabilities {
		shown = append(shown, c.trace.clean(capability))
	}
	return shown
}

// Greeting is the text of the server's greeting.
func (c *Conn) Greeting() string { return c.greeting }

// TLS describes the encryption; ok is false when there is none.
func (c *Conn) TLS() (state tls.ConnectionState, ok bool) {
	conn, ok := c.Conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return conn.ConnectionState(), true
}

// Check proves that the mailbox is there: LIST (IMAP), STAT (POP3), NOOP (SMTP).
// Microsoft takes a token for a mailbox that its owner does not have and fails here.
func (c *Conn) Check(ctx context.Context) error {
	return c.during(ctx, func() error { return c.dialect.check(c) })
}

// Quit says goodbye and closes.
func (c *Conn) Quit(ctx context.Context) error {
	err := c.during(ctx, func() error { return c.dialect.quit(c) })
	if closeErr := c.Conn.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Read reads past the lines that the dialogue has read.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Handover returns the bare connection, bytes already read from it included, and
// without a deadline. The Conn must not be used any more.
func (c *Conn) Handover() net.Conn {
	_ = c.raw.SetDeadline(time.Time{})
	buffered := c.in.Buffered()
	if buffered == 0 {
		return c.Conn // as it is, so that copying may use what the kernel has for it
	}
	rest, _ := c.in.Peek(buffered)
	return &handed{Conn: c.Conn, rest: slices.Clone(rest)}
}

// A handed connection gives out first what had been read too far.
type handed struct {
	net.Conn
	rest []byte
}

func (h *handed) Read(p []byte) (int, error) {
	if len(h.rest) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

// CloseWrite ends our half, where the connection can.
func (h *handed) CloseWrite() error { return closeWrite(h.Conn) }

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
