package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/trust"
)

// checkSubmission finds the faults that no server needs to be asked about.
func (r Route) checkSubmission() error {
	switch r.Server.Security {
	case provider.ImplicitTLS, provider.STARTTLS:
	case provider.Plain:
		if !loopbackName(r.Server.Host) {
			return fmt.Errorf("%w: %s without TLS: plain text is for loopback only", ErrRoute, r.Server.Host)
		}
	default:
		return fmt.Errorf("%w: no such connection security: %q", ErrRoute, r.Server.Security)
	}
	if r.Server.Host == "" || r.Server.Port <= 0 || r.Server.Port > 65535 {
		return fmt.Errorf("%w: no submission server", ErrRoute)
	}
	if r.TLS != nil && r.TLS.InsecureSkipVerify && r.TLS.VerifyConnection == nil {
		return fmt.Errorf("%w: a TLS configuration that checks no certificate is not accepted", ErrRoute)
	}
	if r.Tokens != nil && !r.Password.IsZero() {
		return fmt.Errorf("%w: both a token and a password", ErrRoute)
	}
	if r.signsIn() && len(wanted(r.Mechanisms, r.Tokens != nil)) == 0 {
		return fmt.Errorf("%w: no sign-in mechanism that fits", ErrRoute)
	}
	return nil
}

func (r Route) signsIn() bool { return r.Tokens != nil || !r.Password.IsZero() }

// submit is RFC 6409: one server for everything.
func (c *Carrier) submit(ctx context.Context, r Route, j *job) error {
	host, port := r.Server.Host, strconv.Itoa(r.Server.Port)
	p := peer{
		network: "tcp", address: net.JoinHostPort(host, port), name: host, port: r.Server.Port, hello: c.hello(r),
		security: r.Server.Security, config: trust.Config(c.tlsConfig(r.TLS, host)),
	}
	if r.signsIn() {
		p.login = &login{
			user: r.User, mechanisms: wanted(r.Mechanisms, r.Tokens != nil), tokens: r.Tokens, password: r.Password,
			host: host, port: r.Server.Port,
		}
	}
	key := strings.Join([]string{"submission", j.envelope.Account, r.User, p.address, string(p.security)}, "\x00")
	c.through(ctx, key, p, j)
	return nil
}

func (c *Carrier) hello(r Route) string {
	if r.Hello != "" {
		return r.Hello
	}
	return c.options.Hello
}

// tlsConfig returns given with the floor put in: TLS 1.2 and the host's name. With no
// roots in it the system's are read when a certificate is first checked, not before.
func (c *Carrier) tlsConfig(given *tls.Config, host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if given != nil {
		config = given.Clone()
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

// through takes a job to one peer, over a kept connection if there is one.
func (c *Carrier) through(ctx context.Context, key string, p peer, j *job) {
	s, err := c.pool.enter(ctx, key)
	if err != nil {
		j.settle(lost("wait for a connection", p.name, err).answer)
		return
	}
	kept := c.converse(ctx, s, p, j)
	c.pool.leave(key, kept)
}

// converse delivers on s, or on a new session where s is nil or turns out to be dead,
// and returns the session if it can be kept.
func (c *Carrier) converse(ctx context.Context, s *session, p peer, j *job) *session {
	if s != nil {
		before := j.open()
		if stop := s.until(ctx); !s.deliver(j) && s.broken && ctx.Err() == nil {
			// The server closed it while it was idle, or says so now. No byte of the
			// message has left: starting over on a new connection is safe.
			stop()
			s.drop()
			s = nil
			for _, to := range before {
				if to.answer != nil && to.answer.verdict == queue.Deferred {
					to.answer = nil
				}
			}
		} else {
			stop()
		}
	}
	if s == nil {
		if len(j.open()) == 0 {
			return nil
		}
		fresh, f := c.open(ctx, p)
		if f != nil {
			j.settle(f.answer)
			return nil
		}
		stop := fresh.until(ctx)
		fresh.deliver(j)
		stop()
		s = fresh
	}
	if s.broken || s.sent >= c.options.Messages || ctx.Err() != nil {
		s.quit()
		return nil
	}
	return s
}

func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// ErrNoMailbox is wrapped by Route.Folder's error when nobody has that address.
var ErrNoMailbox = errors.New("no such mailbox")
