package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// carrier takes mail away by the accounts' rights to send. The function ends its
// connections.
func (p *program) carrier() (queue.Carrier, func(), error) {
	manager, err := p.manager()
	if err != nil {
		return nil, nil, err
	}
	conf, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	hello := hostName()
	if !strings.Contains(hello, ".") {
		hello = "" // no name that a server could do anything with (RFC 5321 section 4.1.4)
	}
	ways := &ways{p: p, manager: manager, resolver: delivery.SystemResolver(nil)}
	carrier := delivery.New(delivery.Options{
		Routes:      ways.route,
		Resolver:    ways.resolver,
		Hello:       hello,
		Connections: perDestination(conf),
		Now:         p.now,
		Trace:       p.trace(),
		Log:         p.log(),
	})
	return patient(carrier), func() {
		if err := carrier.Close(); err != nil {
			p.log().Debug("close connections", "error", err)
		}
		ways.close()
	}, nil
}

// route is the way out that the account is set to, or the narrowest one that its right
// has at its provider; the others are for what that one cannot do: a message too large
// for Graph, a mailbox with SMTP AUTH disabled. An account that was removed while its
// mail waited is a fault of the configuration.
func (p *program) route(manager *account.Manager, name string) (delivery.Route, error) {
	m, err := p.account(name)
	if err != nil {
		return delivery.Route{}, fmt.Errorf("%w: %w", delivery.ErrRoute, err)
	}
	conf, err := p.config()
	if err != nil {
		return delivery.Route{}, err
	}
	a := conf.Accounts[name]
	gmail := firstOf(conf.Providers[a.Provider].Preset, a.Provider) == "google"
	ways, err := rightsWays(m, gmail, a.Way == "gmail", func(purpose provider.Purpose) delivery.TokenSource { return tokenSource{manager, name, purpose} })
	if err == nil && a.Way != "" {
		ways, err = startingWith(delivery.Way(a.Way), ways, name)
	}
	if err != nil {
		return delivery.Route{}, fmt.Errorf("%w: %w", delivery.ErrRoute, err)
	}
	for i := len(ways) - 1; i > 0; i-- {
		ways[i-1].Fallback = &ways[i]
	}
	return ways[0], nil
}

// rightsWays are the ways that a right has at its provider. Gmail's API is taken where
// there is no other, or where it is asked for.
func rightsWays(m mailAccount, gmail, asked bool, tokens func(provider.Purpose) delivery.TokenSource) ([]delivery.Route, error) {
	roots, err := readRoots(m.caFile)
	if err != nil {
		return nil, err
	}
	var config *tls.Config
	if roots != nil {
		config = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	var ways []delivery.Route
	server, known := m.server(upstream.SMTP)
	_, smtp := m.provider.ResourceFor(provider.SMTP, m.right)
	if known == nil && (smtp || len(m.provider.Resources) == 0) {
		ways = append(ways, delivery.Route{Way: delivery.Submission, Server: server, User: m.mailbox,
			Mechanisms: m.provider.Mechanisms, Tokens: tokens(provider.SMTP), TLS: config})
	}
	if _, graph := m.provider.ResourceFor(provider.Graph, m.right); graph {
		ways = append(ways, delivery.Route{Way: delivery.Graph, Mailbox: otherMailbox(m), Tokens: tokens(provider.Graph), TLS: config})
	}
	if _, send := m.provider.ResourceFor(provider.Send, m.right); send && gmail && (asked || len(ways) == 0) {
		ways = append(ways, delivery.Route{Way: delivery.Gmail, Tokens: tokens(provider.Send), TLS: config})
	}
	if len(ways) == 0 && known == nil {
		known = cli.Faultf(cli.Config, "sign in with a right that can", "the right of %s cannot send", m.name)
	}
	if len(ways) == 0 {
		return nil, known
	}
	return ways, nil
}

// startingWith puts the way that is asked for first.
func startingWith(wanted delivery.Way, ways []delivery.Route, name string) ([]delivery.Route, error) {
	i := slices.IndexFunc(ways, func(r delivery.Route) bool { return r.Way == wanted })
	if i < 0 {
		return nil, cli.Faultf(cli.Config, "sign in with a right that can, or take way out of its section", "the right of %s cannot send by way = \"%s\"", name, wanted)
	}
	first := ways[i]
	return slices.Insert(slices.Delete(ways, i, i+1), 0, first), nil
}

// otherMailbox is the mailbox when it is not the token owner's own.
func otherMailbox(m mailAccount) string {
	if strings.EqualFold(m.mailbox, m.login) {
		return ""
	}
	return m.mailbox
}

// A tokenSource is one account's tokens for one purpose.
type tokenSource struct {
	manager *account.Manager
	name    string
	purpose provider.Purpose
}

// Token gets a token and tells what only a person can mend from what time does.
func (t tokenSource) Token(ctx context.Context, refused secret.String) (secret.String, error) {
	access, err := t.manager.Token(ctx, t.name, account.Want{Purpose: t.purpose, Refused: refused})
	var needed *account.SignInNeeded
	var rejected *account.Rejected
	switch {
	case err == nil:
		return access.Token, nil
	case errors.As(err, &needed), errors.As(err, &rejected), errors.Is(err, account.ErrPurpose), errors.Is(err, tokenstore.ErrNotFound):
		return secret.String{}, fmt.Errorf("%w: %w", delivery.ErrSignIn, err)
	}
	return secret.String{}, err
}
