package delivery

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

// checkSocket: LMTP has neither TLS nor sign-in here, so it stays on this machine.
func checkSocket(socket string) error {
	if filepath.IsAbs(socket) {
		return nil
	}
	host, port, err := net.SplitHostPort(socket)
	if err != nil || port == "" {
		return fmt.Errorf("%w: LMTP wants an absolute path or host:port", ErrRoute)
	}
	if !loopbackName(host) {
		return fmt.Errorf("%w: LMTP to %s: plain text is for loopback only", ErrRoute, host)
	}
	return nil
}

// lmtp delivers to a mailbox server of this machine (RFC 2033): like SMTP, but with
// one verdict per recipient after the message.
func (c *Carrier) lmtp(ctx context.Context, r Route, j *job) error {
	p := peer{network: "tcp", address: r.Socket, name: r.Socket, hello: c.hello(r), lmtp: true, security: provider.Plain}
	if filepath.IsAbs(r.Socket) {
		p.network = "unix"
	}
	c.through(ctx, "lmtp\x00"+r.Socket, p, j)
	return nil
}
