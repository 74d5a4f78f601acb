package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/trymail"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
)

// A mailEnd is one server to log in to.
type mailEnd struct {
	protocol upstream.Protocol
	server   provider.MailServer
}

// mailServers are what the mail of the story goes through.
type mailServers interface {
	ends() []mailEnd
	flags() []string // of `letterlock login`
	name() string    // what answered
	// inbox are the messages that have come for an address so far.
	inbox(address string) ([][]byte, error)
	stop()
}

// startServers starts real servers where they are installed, and the built-in ones
// elsewhere. Only "not installed" makes it fall back: real servers that fail to
// start are a failure of the story.
func startServers(ctx context.Context, which string, ca *lab.CA, at *site) (mailServers, error) {
	switch which {
	case "builtin":
		return startBuiltin(ca, at)
	case "dovecot":
		return startReal(ctx, ca, at)
	case "auto":
		servers, err := startReal(ctx, ca, at)
		var missing *lab.Missing
		if errors.As(err, &missing) {
			return startBuiltin(ca, at)
		}
		return servers, err
	}
	return nil, fmt.Errorf("mail servers %q: it is auto, builtin or dovecot", which)
}

// pair is an IMAP and a submission server.
type pair struct {
	imap, smtp provider.MailServer
	title      string
	letters    func(address string) ([][]byte, error)
	stops      []func()
}

func (p *pair) ends() []mailEnd { return []mailEnd{{upstream.IMAP, p.imap}, {upstream.SMTP, p.smtp}} }

func (p *pair) flags() []string {
	text := func(s provider.MailServer) string { return s.Host + ":" + strconv.Itoa(s.Port) }
	return []string{
		"--imap", text(p.imap), "--imap-security", string(p.imap.Security),
		"--smtp", text(p.smtp), "--smtp-security", string(p.smtp.Security),
	}
}

func (p *pair) name() string { return p.title }

func (p *pair) inbox(address string) ([][]byte, error) { return p.letters(address) }

func (p *pair) stop() {
	for i := len(p.stops) - 1; i >= 0; i-- {
		p.stops[i]()
	}
}

func startBuiltin(ca *lab.CA, at *site) (mailServers, error) {
	conf, err := ca.Server("localhost", "127.0.0.1")
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	servers, err := trymail.Start(trymail.Options{
		TLS: conf, Introspection: at.introspectionURL(), ClientID: resourceServer, Secret: at.secret,
		HTTP: &http.Client{Timeout: 10 * time.Second}, OpenIDConfiguration: at.url + "/.well-known/openid-configuration",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	end := func(port int) provider.MailServer {
		return provider.MailServer{Host: "127.0.0.1", Port: port, Security: provider.ImplicitTLS}
	}
	return &pair{imap: end(servers.IMAP.Port), smtp: end(servers.SMTP.Port), title: servers.Name(), stops: []func(){servers.Stop},
		letters: func(address string) ([][]byte, error) { return servers.Delivered(address), nil },
	}, nil
}

// startReal starts Dovecot, and Postfix for submission where it can: Postfix needs
// root, and Dovecot has a submission server of its own.
func startReal(ctx context.Context, ca *lab.CA, at *site) (mailServers, error) {
	// Dovecot's submission server connects to its relay as soon as somebody signs in.
	relay, err := lab.StartSink(lab.SinkOptions{})
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	// One reads and one sends, because Dovecot 2.3 wants the same scope of every protocol.
	options := lab.DovecotOptions{
		Relay: relay.Addr(),
		CA:    ca, Introspection: at.introspectionURL(), ClientID: resourceServer, ClientSecret: at.secret.Reveal(),
		NameClaim: "username", OpenIDConfiguration: at.url + "/.well-known/openid-configuration",
	}
	p := &pair{stops: []func(){relay.Stop}}
	start := func(scope string) (*lab.Dovecot, error) {
		options.Scope = scope
		dovecot, err := lab.StartDovecot(ctx, options)
		if err != nil {
			p.stop()
			return nil, err
		}
		p.stops = append(p.stops, dovecot.Stop)
		return dovecot, nil
	}
	reads, err := start(authserver.ScopeIMAP)
	if err != nil {
		return nil, err
	}
	sends, err := start(authserver.ScopeSMTP)
	if err != nil {
		return nil, err
	}
	p.imap = provider.MailServer{Host: "127.0.0.1", Port: reads.IMAPS, Security: provider.ImplicitTLS}
	p.smtp = provider.MailServer{Host: "127.0.0.1", Port: sends.Subs, Security: provider.ImplicitTLS}
	p.title = "Dovecot " + majorMinor(reads.Version)
	// Dovecot's submission server delivers nothing: where it relays to is the end.
	p.letters = func(string) (all [][]byte, err error) {
		for _, m := range relay.Messages() {
			all = append(all, m.Data)
		}
		return all, nil
	}
	if os.Geteuid() != 0 {
		return p, nil
	}
	postfix, err := lab.StartPostfix(ctx, lab.PostfixOptions{
		CA: ca, Dovecot: reads, SASLPath: fmt.Sprintf("inet:127.0.0.1:%d", sends.AuthPort), Mailboxes: []string{address},
	})
	var missing *lab.Missing
	switch {
	case errors.As(err, &missing):
		return p, nil
	case err != nil:
		p.stop()
		return nil, err
	}
	p.smtp.Port, p.title, p.letters = postfix.Subs, p.title+", Postfix "+majorMinor(postfix.Version), reads.Inbox
	p.stops = append(p.stops, postfix.Stop)
	return p, nil
}

// majorMinor shortens 2.3.19.1 to 2.3.
func majorMinor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
