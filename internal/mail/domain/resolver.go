package domain

import (
	"context"
	"errors"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// An MX is one mail exchanger.
type MX = dnsask.MX

// Resolver asks DNS: a *dnsask.Client outside of tests. Names come and go without a
// final dot, in lower case; errors wrap dnsask.ErrNoName where the answer is that there
// is none.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	MX(ctx context.Context, name string) ([]MX, error)
	// Addresses gives A records with v4, else AAAA records.
	Addresses(ctx context.Context, name string, v4 bool) ([]netip.Addr, error)
	PTR(ctx context.Context, name string) ([]string, error)
}

// both looks for IPv6 and IPv4 addresses. One kind is enough; an outage counts only
// when nothing was found.
func both(ctx context.Context, r Resolver, name string) ([]netip.Addr, error) {
	six, err6 := r.Addresses(ctx, name, false)
	four, err4 := r.Addresses(ctx, name, true)
	found := append(six, four...)
	switch {
	case len(found) > 0:
		return found, nil
	case err6 != nil && !errors.Is(err6, dnsask.ErrNoName):
		return nil, err6
	case err4 != nil:
		return nil, err4
	}
	return nil, dnsask.ErrNoName
}
