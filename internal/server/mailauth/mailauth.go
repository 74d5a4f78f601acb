// Package mailauth answers the questions of mail servers: is this password or token
// good, and for whom. It is asked in four ways and judges in none of them; a [Door]
// does that.
//
//	Postfix, Exim --- Dovecot's authentication client protocol --> SASL   --+
//	Dovecot --------- introspection, password grant over HTTP ---> HTTP   --+--> Door
//	Dovecot --------- auth policy (weakforced) over HTTP --------> Policy ----> Throttle
//	Dovecot's logins <-- the same protocol, as a client <-------- Upstream <--- SASL, for what is not ours
//	Dovecot <-------- doveadm HTTP: flush the cache, kick -------- Push <------ a revocation
//
// One rule runs through all of it. "No" is said only when the Door said no; whatever
// else goes wrong is "later": the SASL connection is closed, which Postfix tells as
// 454, and HTTP answers 503, which Dovecot tells as UNAVAILABLE. A "no" in their place
// makes mail programs throw good passwords away.
//
// Written here because no library fits: the one for Dovecot's protocol
// (foxcpp/go-dovecot-sasl) sends SPID before the mechanisms, which Postfix refuses,
// answers FAIL and then OK to one request, and ignores CANCEL. There is none for
// doveadm or for the policy server's side.
package mailauth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// SASLOptions are what a SASL server needs.
type SASLOptions struct {
	Door Door
	// Discovery is the address of the issuer's metadata. It is told to clients whose
	// token was refused: the one place where SMTP can name the issuer (RFC 7628
	// section 3.2.2).
	Discovery string
	// Mechanisms offered; empty: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER.
	Mechanisms []string
	// Upstream is asked about mechanisms that are not among them; nil: nobody is. For its
	// passwords see Upstream.Beside.
	Upstream *Upstream
	// Throttle counts what Upstream refuses by those mechanisms; nil: nothing does.
	Throttle Throttle
	// PlainLoopback takes passwords and tokens without TLS from clients on a loopback
	// address. From everybody else they are refused in any case.
	PlainLoopback bool
	Log           *slog.Logger
	Now           func() time.Time
	Random        io.Reader
	// Answer bounds how long a question may take; default 8 s. Postfix gives up after 10.
	Answer time.Duration
}

const (
	defaultAnswer = 8 * time.Second
	// patience is how long a client may think about a challenge. Postfix never cancels:
	// a request whose client hung up stays until it is this old. Dovecot's is the same.
	patience = 150 * time.Second
	// handshake bounds the time until the client's VERSION.
	handshake = 30 * time.Second
	// maxPending is the number of open requests of a connection. Postfix has one and
	// what it forgot, Dovecot's login processes have as many as clients sign in at once.
	maxPending = 256
	// maxConnections are answered at once; more wait in the listener's queue. Postfix
	// has one for each smtpd process.
	maxConnections = 4096
)

// A SASL server speaks Dovecot's authentication client protocol, as the server.
type SASL struct {
	o     SASLOptions
	conns atomic.Uint32
}

// NewSASL returns a server that asks o.Door.
func NewSASL(o SASLOptions) *SASL {
	if len(o.Mechanisms) == 0 {
		o.Mechanisms = []string{sasl.Plain, sasl.Login, sasl.XOAuth2, sasl.OAuthBearer}
	}
	if o.Answer == 0 {
		o.Answer = defaultAnswer
	}
	return &SASL{o: o}
}

// Serve answers on the listener, which it closes, until ctx ends; questions that are
// open then are still answered. It returns an error only when the listener is broken.
func (s *SASL) Serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, maxConnections)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		accepted, err := accept(ctx, listener)
		if err != nil || accepted == nil {
			return err
		}
		all.Go(func() {
			defer func() { <-places }()
			s.answer(ctx, accepted)
		})
	}
}

// accept waits for a connection and through shortages: a listener that gave up because
// descriptors ran out once would cost every smtpd its life ("no SASL authentication
// mechanisms" is fatal in Postfix). nil and nil: ctx ended.
func accept(ctx context.Context, listener net.Listener) (net.Conn, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, nil
		case errors.Is(err, net.ErrClosed):
			return nil, fmt.Errorf("accept: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// answer holds one connection to its end.
func (s *SASL) answer(ctx context.Context, link net.Conn) {
	// Checks outlive the end of ctx: what was asked is answered. They end when the
	// client hangs up: nobody would hear the answer.
	checks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	c := &conn{
		server: s, link: link, number: s.conns.Add(1), checks: checks, pending: map[uint32]*request{}, next: make(chan step, 1),
	}
	defer link.Close()
	// A deadline in the past ends the reading and leaves the writing.
	stop := context.AfterFunc(ctx, func() { _ = link.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := c.talk(ctx)
	if ctx.Err() == nil {
		cancel()
	}
	close(c.next)
	c.running.Wait()
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	default:
		s.o.Log.Warn("mail server's connection ended", "connection", c.number, "error", err)
	}
}

// greeting is what a client waits for. The mechanisms come before SPID: Postfix takes
// SPID first as the sign of a wrong socket. All is sent at once, as Dovecot 2.3 does.
func (c *conn) greeting() (string, error) {
	var cookie [16]byte
	if _, err := io.ReadFull(c.server.o.Random, cookie[:]); err != nil {
		return "", fmt.Errorf("make a cookie: %w", err)
	}
	var b strings.Builder
	b.WriteString("VERSION\t1\t2\n")
	for _, mechanism := range c.server.o.Mechanisms {
		fmt.Fprintf(&b, "MECH\t%s\tplaintext\n", mechanism)
	}
	if up := c.server.o.Upstream; up != nil {
		for _, line := range up.mechanisms(c.checks, c.server.o.Mechanisms) {
			b.WriteString("MECH\t" + line + "\n")
		}
	}
	fmt.Fprintf(&b, "SPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE\n", os.Getpid(), c.number, hex.EncodeToString(cookie[:]))
	return b.String(), nil
}

// offers reports whether the mechanism is one of ours, spelt in any case.
func (s *SASL) offers(mechanism string) bool { return slices.Contains(s.o.Mechanisms, mechanism) }

// protocolOf reads the name that Postfix and Dovecot give a service.
func protocolOf(service string) (identity.Protocol, bool) {
	switch strings.ToLower(service) {
	case "smtp", "submission":
		return identity.SMTP, true
	case "imap":
		return identity.IMAP, true
	case "pop3":
		return identity.POP3, true
	case "sieve", "managesieve":
		return identity.Sieve, true
	}
	return "", false
}
