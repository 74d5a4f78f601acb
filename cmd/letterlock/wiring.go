package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// manager returns the one way to a token. A store that is not there is not made:
// asking for an account that nobody has must leave nothing behind.
func (p *program) manager() (*account.Manager, error) { return p.managerOf(tokenstore.OpenExisting) }

func (p *program) managerOf(open func(folder string) (*tokenstore.Store, error)) (*account.Manager, error) {
	paths, err := p.where()
	if err != nil {
		return nil, err
	}
	store, err := open(filepath.Join(paths.State, "grants"))
	if err != nil {
		return nil, err
	}
	return &account.Manager{
		Store:    account.OnDisk(store),
		Keys:     p.watchedKeysOf,
		Exchange: lazyExchange{p},
		Now:      p.now,
		Log:      p.log(),
	}, nil
}

// lazyExchange makes the HTTP client when the first refresh is due: a valid token in
// the store needs no certificate pool.
type lazyExchange struct{ p *program }

func (l lazyExchange) Refresh(ctx context.Context, grant *account.Grant, resource account.Resource) (oauth.Token, error) {
	hc, err := l.p.httpClient(l.p.caFileOf(grant.Account))
	if err != nil {
		return oauth.Token{}, err
	}
	return account.OverHTTP(hc, l.p.now).Refresh(ctx, grant, resource)
}

// httpClient speaks to authorization servers. caFile adds authorities.
func (p *program) httpClient(caFile string) (*http.Client, error) {
	roots, err := readRoots(caFile)
	if err != nil {
		return nil, err
	}
	return oauth.NewHTTPClient(oauth.HTTPOptions{Roots: roots, Trace: p.trace()}), nil
}

// trace shows dialogues under --verbose.
func (p *program) trace() io.Writer {
	if !p.verbose {
		return nil
	}
	return cli.LineWriter(p.term.Err, "")
}

// readRoots returns the system's authorities and those of file; nil without a file,
// so that the system's pool is read at the first handshake and not before.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, cli.Wrap(cli.Config, fmt.Errorf("read certificate authorities: %w", err), "check ca_file")
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, cli.Faultf(cli.Config, "it must be PEM, beginning with -----BEGIN CERTIFICATE-----", "there is no certificate in %s", cli.Line(file))
	}
	return pool, nil
}

// caFileOf is the account's own file, else its provider's.
func (p *program) caFileOf(name string) string {
	conf, err := p.config()
	if err != nil {
		return ""
	}
	a := conf.Accounts[name]
	if a.CAFile != "" {
		return a.CAFile
	}
	return conf.Providers[a.Provider].CAFile
}

// dialOptions shape connections to mail servers.
func (p *program) dialOptions(caFile string, trace io.Writer) (upstream.Options, error) {
	roots, err := readRoots(caFile)
	if err != nil {
		return upstream.Options{}, err
	}
	opts := upstream.Options{Trace: trace}
	if roots != nil {
		opts.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return opts, nil
}

// A mailAccount is everything that is known about an account without its grant.
type mailAccount struct {
	name     string
	login    string // SASL identity that owns the token
	mailbox  string // SASL identity to open
	right    provider.Right
	caFile   string
	provider provider.Provider
}

// account finds an account in the configuration.
func (p *program) account(name string) (mailAccount, error) {
	if err := checkAccountName(name); err != nil {
		return mailAccount{}, err
	}
	conf, err := p.config()
	if err != nil {
		return mailAccount{}, err
	}
	a, ok := conf.Accounts[name]
	if !ok {
		return mailAccount{}, p.unknownAccount(name)
	}
	if !a.Granted() {
		return mailAccount{}, noToken(name, a)
	}
	prov, err := p.providerOf(a.Provider)
	if err != nil {
		return mailAccount{}, err
	}
	overrideServers(&prov, a.Servers)
	m := mailAccount{name: name, login: a.Login, mailbox: a.Mailbox, right: provider.Right(a.Right), caFile: p.caFileOf(name), provider: prov}
	if m.login == "" {
		m.login = name
	}
	if m.mailbox == "" {
		m.mailbox = m.login
	}
	if m.right == "" {
		m.right = provider.Full
	}
	return m, nil
}

// server is the account's server for protocol.
func (m mailAccount) server(protocol upstream.Protocol) (provider.MailServer, error) {
	server := map[upstream.Protocol]provider.MailServer{upstream.IMAP: m.provider.IMAP, upstream.POP3: m.provider.POP3, upstream.SMTP: m.provider.SMTP}[protocol]
	if server.IsZero() {
		return server, cli.Faultf(cli.Config, fmt.Sprintf("set %s = \"HOST:PORT\" in [account.%q]", protocol, m.name),
			"the %s server of %s is not known", protocol, m.name)
	}
	return server, nil
}
