package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/discovery"
	"github.com/letterlock-mail/letterlock/internal/client/login"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A signIn is everything that is settled before a person is asked.
type signIn struct {
	p    *program
	o    loginOptions
	name string
	// login is the address that signs in.
	login        string
	providerName string
	provider     provider.Provider
	right        provider.Right
	http         *http.Client
	client       oauth.Client
	endpoints    oauth.Endpoints
	templated    bool
	redirect     provider.Redirect
	keyName      string
	keyRemark    string
	manager      *account.Manager
	keyFile      string            // a machine's
	kept         bool              // the grant is on disk
	found        *discovery.Result // what the domain publishes; nil: not looked for

	providerSettings []config.Setting
	accountSettings  []config.Setting
}

func (p *program) prepare(ctx context.Context, address string, o loginOptions) (*signIn, error) {
	s := &signIn{p: p, o: o, name: o.account, login: address, right: provider.Full}
	if s.name == "" {
		s.name = address
	}
	if o.sendOnly {
		s.right = provider.SendOnly
	}
	for _, step := range []func(context.Context) error{s.findProvider, s.settle, s.findRights, s.findKeys, s.findClient, s.checkWritable} {
		if err := step(ctx); err != nil {
			s.abandon(ctx) // findClient may have registered one
			return nil, err
		}
	}
	return s, nil
}

// findProvider goes by flags, then by the account as configured, then by what is known
// of the domain of the address and by what the domain publishes.
func (s *signIn) findProvider(ctx context.Context) error {
	conf, err := s.p.config()
	if err != nil {
		return err
	}
	switch {
	case s.o.issuer != "":
		issuer, err := oauth.ParseIssuer(s.o.issuer)
		if err != nil {
			return cli.Wrap(cli.Usage, err, "give the issuer as the provider writes it, for example https://login.example.org/realms/mail")
		}
		return s.fromIssuer(conf, issuer)
	case s.o.provider != "":
		s.providerName = s.o.provider
	case conf.Accounts[s.name].Provider != "":
		s.providerName = conf.Accounts[s.name].Provider
	default:
		return s.find(ctx, conf)
	}
	s.provider, err = s.p.providerOf(s.providerName)
	return err
}

// fromIssuer gives an issuer without a section one that is called after its host.
func (s *signIn) fromIssuer(conf *config.Config, issuer oauth.Issuer) error {
	var err error
	if s.providerName, err = sectionOf(conf, issuer); err != nil {
		return cli.Wrap(cli.Usage, err, "")
	}
	section := conf.Providers[s.providerName]
	if section.Issuer != string(issuer) {
		s.providerSettings = append(s.providerSettings, config.Setting{Name: "issuer", Text: string(issuer)})
		section.Issuer = string(issuer)
	}
	s.provider = overlay(provider.Provider{Name: s.providerName}, section)
	return nil
}

// sectionOf is the name of the issuer's section: the one that it has, else its host. A
// host can have many issuers, of people who do not trust each other: where another one
// has the host's section, with its client and secret in it, the whole URL is the name.
func sectionOf(conf *config.Config, issuer oauth.Issuer) (string, error) {
	for _, name := range sortedNames(conf.Providers) {
		if conf.Providers[name].Issuer == string(issuer) {
			return name, nil
		}
	}
	host, err := hostOf(string(issuer))
	if err != nil {
		return "", err
	}
	if conf.Providers[host].Issuer != "" {
		return string(issuer), nil
	}
	return host, nil
}

// settle takes the flags into the provider and asks the issuer for what is missing.
func (s *signIn) settle(ctx context.Context) error {
	servers, err := s.o.serverSettings()
	if err != nil {
		return err
	}
	s.accountSettings = servers
	for _, one := range []config.Setting{{Name: "mailbox", Text: s.o.mailbox}, {Name: "ca_file", Text: absolute(s.o.caFile)}, {Name: "token_file", Text: s.o.tokenFile}} {
		if one.Text != "" {
			s.accountSettings = append(s.accountSettings, one)
		}
	}
	if s.o.tenant != "" {
		s.provider.Tenant = s.o.tenant
		s.providerSettings = append(s.providerSettings, config.Setting{Name: "tenant", Text: s.o.tenant})
	}
	if s.o.redirectURI != "" {
		s.provider.Redirect = redirectOf(s.provider.Redirect, s.o.redirectURI)
		s.providerSettings = append(s.providerSettings, config.Setting{Name: "redirect_uri", Text: s.o.redirectURI})
	}
	if s.provider.Registration.None != "" && s.o.clientID == "" {
		conf, _ := s.p.config()
		if conf == nil || conf.Providers[s.providerName].ClientID == "" {
			return cli.Faultf(cli.Unavailable, cli.Line(s.provider.Registration.None), "%s gives the public no client id for mail", s.title())
		}
	}
	conf, err := s.p.config()
	if err != nil {
		return err
	}
	s.accountSettings = append(s.accountSettings, s.foundServers(conf)...)
	if s.http, err = s.p.httpClient(s.caFile(conf)); err != nil {
		return err
	}
	if err := s.discover(ctx); err != nil || !s.machine() {
		return err
	}
	return s.forMachine()
}

// caFile is the flag's, the account's or the provider's.
func (s *signIn) caFile(conf *config.Config) string {
	for _, path := range []string{absolute(s.o.caFile), conf.Accounts[s.name].CAFile, conf.Providers[s.providerName].CAFile} {
		if path != "" {
			return path
		}
	}
	return ""
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (s *signIn) title() string {
	if s.provider.Title != "" {
		return s.provider.Title
	}
	return s.providerName
}

// discover pins the endpoints. What is configured wins over what the issuer says.
func (s *signIn) discover(ctx context.Context) error {
	resolved, err := s.provider.ForTenant(s.provider.Tenant)
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct --tenant, or tenant in the configuration")
	}
	s.endpoints, s.templated = resolved.Endpoints, resolved.TemplatedIssuer
	if !s.provider.Discover {
		return nil
	}
	issuer, err := oauth.ParseIssuer(string(s.endpoints.Issuer))
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct the issuer in the configuration")
	}
	var found oauth.Metadata
	if s.found != nil {
		found = s.found.Issuer.Metadata // asked a moment ago
	} else if found, err = oauth.Discover(ctx, s.http, issuer); err != nil {
		return discoveryFault(issuer, err)
	}
	own := s.endpoints
	s.endpoints, s.templated = found.Endpoints, found.TemplatedIssuer
	set(&s.endpoints.Authorization, own.Authorization)
	set(&s.endpoints.Token, own.Token)
	set(&s.endpoints.DeviceAuthorization, own.DeviceAuthorization)
	set(&s.endpoints.Revocation, own.Revocation)
	set(&s.endpoints.Registration, own.Registration)
	s.fromMetadata(found)
	return nil
}

func discoveryFault(issuer oauth.Issuer, err error) error {
	var answer *oauth.Error
	if errors.As(err, &answer) && answer.Temporary() && (answer.Status < 400 || answer.Status >= 500) {
		return cli.Wrap(cli.TempFail, fmt.Errorf("ask %s for its endpoints: %w", issuer, err), "try again in a moment; if it stays so, check the issuer's address")
	}
	return cli.Wrap(cli.Unavailable, fmt.Errorf("ask %s for its endpoints: %w", issuer, err), "check the issuer's address: it must be exactly the one in its metadata")
}

// findRights makes sure that the provider has scopes for what is asked.
func (s *signIn) findRights(context.Context) error {
	for _, r := range s.provider.Resources {
		if _, has := r.Scopes[s.right]; has {
			return nil
		}
	}
	if s.right == provider.SendOnly {
		return cli.Faultf(cli.Unavailable, "sign in without --send-only, or configure send_scopes", "%s has no right that can only send", s.title())
	}
	return cli.Faultf(cli.Config, fmt.Sprintf("set scopes in [provider.%q]", s.providerName), "the scopes that %s wants for mail are not known", s.title())
}

func (s *signIn) findKeys(ctx context.Context) error {
	keyName, keys, remark, err := s.p.chooseKeys(ctx, s.o.key, s.name)
	if err != nil {
		return err
	}
	s.keyName, s.keyRemark = keyName, remark
	if s.manager, err = s.p.managerOf(tokenstore.Open); err != nil {
		return err
	}
	others := s.manager.Keys
	s.manager.Keys = func(name string) (tokenstore.Keys, error) {
		if name == s.name {
			return keys, nil
		}
		return others(name)
	}
	return nil
}

// checkWritable comes before the person is sent to a browser: an answer that cannot
// be kept is worse than none.
func (s *signIn) checkWritable(ctx context.Context) error {
	if err := s.manager.Writable(ctx, s.name); err != nil {
		return err
	}
	paths, err := s.p.where()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(paths.Config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.rehearse(data, paths.Config)
}

// readSecretFile reads a client secret from a file that must be private.
func readSecretFile(path string) (secret.String, error) {
	data, err := atomicfile.Read(path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.String{}, cli.Faultf(cli.Config, "check client_secret_file", "there is no file %s", cli.Line(path))
	}
	if err != nil {
		return secret.String{}, fmt.Errorf("read client secret: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return secret.String{}, cli.Faultf(cli.Config, "its first line must be the secret", "%s is empty", cli.Line(path))
	}
	return secret.New(line), nil
}

var _ login.Person = (*person)(nil)
