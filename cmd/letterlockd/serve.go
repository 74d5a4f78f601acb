package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/daemon"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
	"github.com/letterlock-mail/letterlock/internal/server/meter"
	"github.com/letterlock-mail/letterlock/internal/server/senders"
	"github.com/letterlock-mail/letterlock/internal/server/tally"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// patience is how long a service may take to finish what it has begun.
const patience = 15 * time.Second

// What has ended stays for a day: a code or a token that comes again then is still known
// for one that was used.
const (
	sweepPause = time.Hour
	sweepAfter = 24 * time.Hour
)

func (p *program) serveCommand() *cobra.Command {
	var level string
	c := &cobra.Command{
		Use: "serve", Short: "answer Postfix, Dovecot, and people's browsers",
		Long: `Run everything that the configuration turns on, in the foreground, until a signal
ends it. Sockets that systemd holds are taken over by name: sasl, senders, milter,
dovecot, web, metrics, scim.

Without a configuration there are pages on http://localhost:8480 for this machine alone,
where people sign in by passkey, and the database is in /var/lib/letterlockd, or below
~/.local/state for who may not write there. While nobody is an administrator, a link that
makes one, once, is shown on the terminal; without a terminal, letterlockd person invite
ADDRESS --admin prints one.`,
		Example: "  letterlockd serve --config /etc/letterlock/letterlockd.toml",
		Args:    command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			var least slog.Level
			if err := least.UnmarshalText([]byte(level)); err != nil {
				return cli.Faultf(cli.Usage, "levels are debug, info, warn and error", "there is no log level %q", cli.Line(level))
			}
			log := slog.New(slog.NewTextHandler(p.term.Err, &slog.HandlerOptions{Level: least}))
			return p.serve(c.Context(), log)
		},
	}
	c.Flags().StringVar(&level, "log", "info", "least `level` that is logged: debug, info, warn, error")
	return c
}

// A plan is what serve runs, in the order in which it starts.
type plan struct {
	conf     *config.Daemon
	db       *database.DB
	door     mailauth.Door
	meter    *meter.Meter
	scales   *throttle.Throttle
	refused  func(tally.Refusal)
	inner    *credential.Door // without the throttle: makes app passwords
	pusher   *mailauth.Push
	issuer   *authserver.Server // nil until there are pages
	sockets  *daemon.Sockets
	log      *slog.Logger
	now      func() time.Time
	services []daemon.Service

	mailGates []mailGate // in front of web mail
}

func (p *program) serve(ctx context.Context, log *slog.Logger) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	p.log, p.serving = log, true
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	sockets, err := daemon.Inherited(p.getenv)
	if err != nil {
		return cli.Wrap(cli.Config, err, "look at the .socket units")
	}
	l := &plan{conf: conf, db: db, meter: meter.New(p.now), sockets: sockets, log: log, now: p.now}
	if err := l.make(ctx, p); err != nil {
		return err
	}
	for _, name := range sockets.Left() {
		log.Warn("nobody wants this socket: it is not in the configuration", "socket", name)
	}
	ready := func() {
		log.Info("ready", "services", len(l.services))
		if err := daemon.Notify(p.getenv, "READY=1"); err != nil {
			log.Warn("service manager not told", "error", err)
		}
	}
	return daemon.Run(ctx, log, patience, ready, l.services...)
}

// make wires the rooms.
func (l *plan) make(ctx context.Context, p *program) error {
	outside, err := l.outside()
	if err != nil {
		return err
	}
	inner := credential.New(credential.Options{
		Store: l.db, Tokens: l.db, Outside: outside, Bindings: l.db, Rights: l.db, Log: l.log, Now: l.now, RequireTLS: !l.conf.Postfix.Plaintext,
		Cost: argon(l.conf), Hashers: l.conf.Passwords.Parallel, OutageGrace: l.conf.Passwords.OutageGrace,
	})
	l.add("credentials", inner.Run)
	push, err := l.push()
	if err != nil {
		return err
	}
	if len(l.conf.Doveadm) > 0 {
		l.add("revocation", push.Run)
	}
	l.inner, l.pusher = inner, push
	w := &watch{store: l.db, changed: inner.Changed, revoke: push.Revoke, now: l.now, log: l.log}
	l.add("watch", daemon.Every(watchPause, l.log, "look for revocations", w.look))
	l.add("sweep", daemon.Every(sweepPause, l.log, "sweep the database", func(ctx context.Context) error {
		return l.db.Sweep(ctx, l.now().Add(-sweepAfter))
	}))
	if l.conf.Database.ViewFile != "" {
		l.add("views", daemon.Every(watchPause, l.log, "update the view file", l.db.SyncViews))
	}
	scales, err := l.throttle(p.random)
	if err != nil {
		return cli.Wrap(cli.Config, err, "look at [throttle], and at master_key_file of [web], in "+l.conf.Path)
	}
	l.scales = scales
	refusals := tally.New(tally.Options{Store: l.db, Now: l.now, Log: l.log})
	l.add("refusals", refusals.Run)
	l.refused = refusals.Refused
	l.door = l.watched(mailauth.Guard(inner, scales))
	if err := l.postfix(ctx, p); err != nil {
		return err
	}
	if err := l.dovecot(ctx); err != nil {
		return err
	}
	if err := errors.Join(l.web(ctx, p), l.provision(ctx, p)); err != nil {
		return err
	}
	if err := l.firstAdmin(ctx, p); err != nil {
		return err
	}
	return l.health(ctx)
}

// watched counts and writes down what a door says.
func (l *plan) watched(door mailauth.Door) mailauth.Door {
	return l.meter.Door(&trail{door: door, refused: l.refused, log: l.log})
}

func (l *plan) add(name string, run func(context.Context) error) {
	l.services = append(l.services, daemon.Service{Name: name, Run: run})
}

// argon is the cost of an app password's hash.
func argon(conf *config.Daemon) credential.Cost {
	cost := credential.DefaultCost()
	cost.Memory, cost.Time = uint32(conf.Passwords.Memory), uint32(conf.Passwords.Time)
	return cost
}

func (l *plan) push() (*mailauth.Push, error) {
	o := mailauth.PushOptions{Log: l.log, Now: l.now}
	for name, node := range l.conf.Doveadm {
		key, err := config.SecretFile(node.KeyFile)
		if err != nil {
			return nil, cli.Wrap(cli.Config, err, "put the node's doveadm_api_key into key_file of [doveadm."+name+"]")
		}
		one := mailauth.Node{Name: name, URL: node.URL, Key: key}
		if node.CAFile != "" {
			if one.Roots, err = authorities(node.CAFile); err != nil {
				return nil, cli.Wrap(cli.Config, err, "look at ca_file of [doveadm."+name+"]")
			}
		}
		o.Nodes = append(o.Nodes, one)
	}
	return mailauth.NewPush(o), nil
}

// authorities are the system's and those of a file.
func authorities(path string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's authorities: %w", err)
	}
	data, err := atomicfile.ReadRegular(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read authorities: no certificate in %s", path)
	}
	return pool, nil
}

// postfix adds what Postfix asks.
func (l *plan) postfix(ctx context.Context, p *program) error {
	known := senders.NewKnown(senders.KnownOptions{Store: l.db, Standing: l.inner, Log: l.log})
	l.add("senders' memory", known.Run)
	book := senders.NewBook(known, "+", l.now)
	asked := mailauth.SASLOptions{Door: l.door, Discovery: discovery(l.conf), PlainLoopback: l.conf.Postfix.Plaintext, Log: l.log, Now: l.now, Random: p.random}
	l.beside(&asked, book, known)
	sasl := mailauth.NewSASL(asked)
	maps := senders.NewSocketmap(senders.SocketmapOptions{Book: book, Log: l.log, DeferSuspended: l.conf.Postfix.Suspended == "later"})
	filter := senders.NewMilter(senders.MilterOptions{Book: book, Counter: l.db, Log: l.log, Now: l.now})
	for _, s := range []struct {
		name, place string
		serve       func(context.Context, net.Listener) error
	}{
		{"sasl", l.conf.Postfix.SASL, sasl.Serve},
		{"senders", l.conf.Postfix.Senders, maps.Serve},
		{"milter", l.conf.Postfix.Milter, filter.Serve},
	} {
		if s.place == "" {
			continue
		}
		if err := l.listen(ctx, s.name, s.place, s.serve); err != nil {
			return err
		}
	}
	return nil
}

// dovecot adds the endpoints that Dovecot asks.
func (l *plan) dovecot(ctx context.Context) error {
	if l.conf.Dovecot.Listen == "" {
		return nil
	}
	secret, err := config.SecretFile(l.conf.Dovecot.SecretFile)
	if err != nil {
		return cli.Wrap(cli.Config, err, "make one: openssl rand -hex 32")
	}
	mux := http.NewServeMux()
	servers := []identity.ResourceServer{{ID: dovecotID, Secret: identity.DigestOf(secret.Reveal())}}
	door := &trail{door: mailauth.GuardAmongOthers(l.inner, l.scales), refused: l.refused, log: l.log, among: true}
	mailauth.NewHTTP(mailauth.HTTPOptions{
		Door: l.meter.Door(door), Audience: "mail", Issuer: l.conf.Web.PublicURL, Log: l.log, Servers: servers,
	}).Register(mux, "/dovecot")
	// For those whom Kerberos or LDAP let in: the networks they come from are known then.
	mux.Handle("POST /dovecot/policy", mailauth.NewPolicy(mailauth.PolicyOptions{
		Throttle: l.scales, Servers: servers, Log: l.log,
		Counted: func(identity.Protocol) bool { return true }, // our passdb is asked first
	}))
	return l.listen(ctx, "dovecot", l.conf.Dovecot.Listen, serveHTTP(mux))
}

// dovecotID is the client id that Dovecot shows.
const dovecotID = "dovecot"

// serveHTTP serves short requests.
func serveHTTP(handler http.Handler) func(context.Context, net.Listener) error {
	return func(ctx context.Context, listener net.Listener) error {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 32 << 10,
		}
		return serveUntil(ctx, listener, server)
	}
}

// serveUntil serves until ctx ends; requests under way may be answered for a while, and
// are cut off then.
func serveUntil(ctx context.Context, listener net.Listener, server *http.Server) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server.BaseContext = func(net.Listener) context.Context { return base }
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := server.Shutdown(bound); err != nil {
		cut() // WebSockets, which Shutdown does not know
		return errors.Join(err, server.Close())
	}
	return nil
}

// listen adds a service on the sockets that were handed over under its name, or else on
// one of its own.
func (l *plan) listen(ctx context.Context, name, place string, serve func(context.Context, net.Listener) error) error {
	listeners := l.sockets.Take(name)
	if len(listeners) == 0 {
		listener, err := open(ctx, place)
		if err != nil {
			return cli.Wrap(cli.Unavailable, err, "is another letterlockd running, and may this user write there?")
		}
		listeners = append(listeners, listener)
	} else if held := listeners[0].Addr().String(); filepath.IsAbs(place) && held != place {
		l.log.Warn("the socket unit holds another path than the configuration names, which is what config postfix prints",
			"service", name, "unit", held, "configuration", place)
	}
	for _, listener := range listeners {
		l.add(name, func(ctx context.Context) error { return serve(ctx, listener) })
		l.log.Info("listening", "service", name, "address", place)
	}
	return nil
}

func open(ctx context.Context, place string) (net.Listener, error) {
	if filepath.IsAbs(place) {
		return daemon.ListenUnix(ctx, place, 0o660)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", place)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}
