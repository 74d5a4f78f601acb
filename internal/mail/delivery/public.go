package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// DialPublic returns a function for http.Transport that looks names up by r and connects
// to public addresses only. The policy host of a domain is named by whoever owns the
// domain, as an MX is: without this a message to a stranger would be a request to
// whatever listens in our network. A nil dial is net.Dialer's.
func DialPublic(r Resolver, dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		found, err := r.Addresses(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", host, err)
		}
		var failed error
		for _, ip := range found[:min(len(found), maxTargets)] {
			if isPrivate(ip) {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", ip, errPrivate))
				continue
			}
			conn, err := dial(ctx, network, net.JoinHostPort(ip.String(), port))
			if err == nil {
				return conn, nil
			}
			failed = errors.Join(failed, err)
		}
		return nil, failed
	}
}

var errPrivate = errors.New("an address in a private network")
