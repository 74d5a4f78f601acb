package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/trust"
)

// tlsConfig returns given with the floor put in: TLS 1.2, the host's name. With no
// roots in it the system's are read when a certificate is first checked, not before, and
// no more of them than that certificate needs.
func tlsConfig(given *tls.Config, host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if given != nil {
		config = given.Clone()
	}
	if config.InsecureSkipVerify && config.VerifyConnection == nil {
		return nil, errors.New("a TLS configuration that checks no certificate is not accepted")
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if config.ServerName == "" {
		config.ServerName = host
	}
	return trust.Config(config), nil
}

func checkSecurity(server provider.MailServer) error {
	switch server.Security {
	case provider.ImplicitTLS, provider.STARTTLS:
		return nil
	case provider.Plain:
		if !loopbackName(server.Host) {
			return fmt.Errorf("%s: %w", server.Host, ErrPlain)
		}
		return nil
	}
	return fmt.Errorf("%s: no such connection security: %q", server.Host, server.Security)
}

// loopbackName knows loopback by its name; loopbackPeer then makes sure, because a
// name is what a resolver says it is.
func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

func loopbackPeer(conn net.Conn) bool {
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && peer.IP.IsLoopback()
}

// handshake puts TLS on the connection.
func (c *Conn) handshake(ctx context.Context, config *tls.Config) error {
	c.step()
	conn := tls.Client(c.raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS with %s: %w", c.address(), err)
	}
	c.use(c.raw, conn)
	state := conn.ConnectionState()
	c.trace.note(tls.VersionName(state.Version) + ", " + tls.CipherSuiteName(state.CipherSuite) + ", certificate valid for " + config.ServerName)
	return nil
}

// upgrade is STARTTLS. It ends in TLS or in an error, never in plain text.
func (c *Conn) upgrade(ctx context.Context, config *tls.Config) error {
	if c.capabilities == nil {
		if err := c.dialect.ask(c); err != nil {
			return err
		}
	}
	if err := c.dialect.startTLS(c); err != nil {
		return err
	}
	// What is there already was sent before TLS and would be read as if it had come
	// through it (RFC 9051 section 11.1, RFC 3207 section 6, and the STARTTLS
	// injections of 2011 and 2021). To discard it would do; to stop is better, since
	// no honest server sends it.
	if c.in.Buffered() > 0 {
		return fmt.Errorf("STARTTLS with %s: %w", c.address(), ErrInjected)
	}
	if err := c.handshake(ctx, config); err != nil {
		return err
	}
	// What the server said it could before TLS may be an attacker's (RFC 9051 section
	// 6.2.1, RFC 2595 section 4, RFC 3207 section 4.2): Dial asks again.
	c.capabilities = nil
	return nil
}
