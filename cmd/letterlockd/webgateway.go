package main

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/daemon"
	"github.com/letterlock-mail/letterlock/internal/server/gateway"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// gateways makes the web mail gateways and adds their hand-over to the pages. They listen
// once the pages are there: see listenGateways.
func (l *plan) gateways(p *program, mux *http.ServeMux, sessions *web.Sessions) error {
	if len(l.conf.Gateways) == 0 {
		return nil
	}
	scale, err := l.pageScale()
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [throttle] in "+l.conf.Path)
	}
	lists, err := l.scale("gateway lists", throttle.Options{Store: onlyBans{l.db}, Rules: listsOnly()})
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [throttle] in "+l.conf.Path)
	}
	gate := gatewayGate{visits: scale, lists: lists}
	for _, name := range slices.Sorted(maps.Keys(l.conf.Gateways)) {
		one, err := l.gateway(p, name, l.conf.Gateways[name], sessions, gate)
		if err != nil {
			return cli.Wrap(cli.Config, err, "correct [gateway."+name+"] in "+l.conf.Path)
		}
		one.Register(mux)
		l.mailGates = append(l.mailGates, mailGate{name: name, conf: l.conf.Gateways[name], gateway: one})
	}
	return nil
}

// A mailGate is a gateway and where it listens.
type mailGate struct {
	name    string
	conf    config.Gateway
	gateway *gateway.Gateway
}

func (l *plan) gateway(p *program, name string, c config.Gateway, sessions *web.Sessions, gate gateway.Gate) (*gateway.Gateway, error) {
	o := gateway.Options{
		Name: name, Title: c.Title, PublicURL: c.PublicURL, PagesURL: l.conf.Web.PublicURL, Preset: gateway.Plain(),
		Sieve: c.Sieve, Inside: c.Networks, Proxies: l.conf.Web.TrustedProxies, Store: l.db, Browser: sessions,
		SignIn: signInFor(sessions), Gate: gate, TokenLife: c.TokenLife, MaxBody: int64(c.MaxUpload) << 20, Now: l.now, Random: p.random, Log: l.log,
	}
	if c.Kind == "roundcube" {
		o.Preset = gateway.Roundcube()
	}
	switch {
	case c.Upstream == "": // the web server that asks hands on
	case filepath.IsAbs(c.Upstream):
		o.Socket, o.Upstream = c.Upstream, &url.URL{Scheme: "http", Host: "webmail"}
	default:
		var err error
		if o.Upstream, err = url.Parse(c.Upstream); err != nil {
			return nil, err
		}
	}
	for _, text := range c.Blocked {
		rule, err := gateway.ParseRule(text)
		if err != nil {
			return nil, err
		}
		o.Blocked = append(o.Blocked, rule)
	}
	return gateway.New(o)
}

// signInFor sends a browser of the pages to sign in.
func signInFor(sessions *web.Sessions) func(http.ResponseWriter, *http.Request, string, bool) {
	return func(w http.ResponseWriter, r *http.Request, back string, again bool) {
		if again {
			signInAgain(w, r, back)
			return
		}
		sessions.Begin(w, r, back)
	}
}

// listenGateways adds the listeners.
func (l *plan) listenGateways(ctx context.Context) error {
	for i, one := range l.mailGates {
		serve := serveLong(one.gateway)
		if i == 0 {
			serve = withRoom(serve)
		}
		if one.conf.Certificate != "" {
			certificate, err := daemon.LoadCertificate(one.conf.Certificate, one.conf.Key, l.now, l.log)
			if err != nil {
				return cli.Wrap(cli.Config, err, "look at certificate and key of [gateway."+one.name+"]")
			}
			plain := serve
			serve = func(ctx context.Context, listener net.Listener) error {
				return plain(ctx, tls.NewListener(listener, certificate.TLS("http/1.1")))
			}
		}
		if err := l.listen(ctx, "gateway-"+one.name, one.conf.Listen, serve); err != nil {
			return err
		}
		if one.conf.AskListen == "" {
			continue
		}
		if err := l.listen(ctx, "gateway-ask-"+one.name, one.conf.AskListen, serveHTTP(one.gateway.Asked())); err != nil {
			return err
		}
	}
	return nil
}

// serveLong serves what may take long: uploads, downloads, connections that stay open. The
// gateway itself sees to it that a body moves.
func serveLong(handler http.Handler) func(context.Context, net.Listener) error {
	return func(ctx context.Context, listener net.Listener) error {
		return serveUntil(ctx, listener, &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		})
	}
}

// withRoom has the garbage collector run less often while it serves. It runs when there is as
// much garbage as there is data, which is a few MB in letterlockd, and a busy gateway leaves
// that dozens of times a second: an eighth of its CPU went there. The room counts as data.
// Nobody writes to it, so that it takes no memory itself; the garbage may grow by as much.
// A higher GOGC would do the same, and multiply what the hashing of passwords needs.
func withRoom(serve func(context.Context, net.Listener) error) func(context.Context, net.Listener) error {
	return func(ctx context.Context, listener net.Listener) error {
		room := make([]byte, 16<<20)
		defer runtime.KeepAlive(room)
		return serve(ctx, listener)
	}
}

// clientNamed is what a program is called on the page of what may act as somebody.
func (l *plan) clientNamed(id identity.ClientID) (identity.Client, bool) {
	for _, one := range l.mailGates {
		if client := one.gateway.Client(); client.ID == id {
			return client, true
		}
	}
	if issuer, client, ok := id.Outside(); ok {
		return identity.Client{ID: id, Name: client + ", signed in at " + issuer, Verified: true}, true
	}
	return clientNames(l.issuer)(id)
}

// A gatewayGate has the lists of [throttle] and the bans for each request, and counts only
// sign-ins: wrong passwords at the mail servers close nobody's web mail, where there is none.
type gatewayGate struct {
	visits pageScale
	lists  *throttle.Throttle
}

// Refused implements gateway.Gate.
func (g gatewayGate) Refused(_ context.Context, remote netip.Addr) bool {
	return g.lists.Refuses(remote)
}

// Ask implements gateway.Gate.
func (g gatewayGate) Ask(ctx context.Context, remote netip.Addr) bool {
	return g.visits.Ask(ctx, remote)
}

// listsOnly is no limit: a throttle that counts nothing and keeps the lists.
func listsOnly() []throttle.Rule {
	return []throttle.Rule{{Name: "none", Kind: throttle.Repeats, Span: time.Hour, Slow: 1 << 30, Stop: 1 << 30}}
}

// onlyBans lets a throttle read the administrators' bans, and share no counts.
type onlyBans struct {
	db interface {
		Bans(ctx context.Context) ([]identity.Ban, error)
	}
}

func (o onlyBans) Bans(ctx context.Context) ([]identity.Ban, error) { return o.db.Bans(ctx) }

func (onlyBans) Count(context.Context, string, time.Time, int) (int, error) { return 0, nil }

func (onlyBans) Counts(context.Context, []string, time.Time) (map[string]int, error) { return nil, nil }

func (onlyBans) SweepCounts(context.Context, time.Time) error { return nil }
