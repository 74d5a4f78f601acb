package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// signIn adds the pages of sign-in.
func (l *plan) signIn(p *program, mux *http.ServeMux, sessions *web.Sessions) error {
	entrances, err := l.entrances()
	if err != nil {
		return err
	}
	o := signin.Options{
		PublicURL: l.conf.Web.PublicURL, Domains: l.conf.Domains, Entrances: entrances, Sessions: sessions,
		Store: l.db, Now: l.now, Random: p.random, Log: l.log,
	}
	if l.scales != nil {
		o.Throttle = pageScale{l.scales}
	}
	desk, err := signin.New(o)
	if err != nil {
		return err
	}
	desk.Register(mux)
	return nil
}

// entrances are in the order of their names, which is that of the buttons.
func (l *plan) entrances() ([]signin.Entrance, error) {
	var all []signin.Entrance
	for _, name := range slices.Sorted(maps.Keys(l.conf.SignIn)) {
		provider, err := l.provider(name, l.conf.SignIn[name])
		if err != nil {
			return nil, cli.Wrap(cli.Config, err, "correct [signin."+name+"] in "+l.conf.Path)
		}
		one := l.conf.SignIn[name]
		all = append(all, signin.Entrance{Name: name, Label: one.Label, Provider: provider, BindVerified: one.BindVerified, Provision: one.Provision})
	}
	return all, nil
}

func (l *plan) provider(name string, one config.SignIn) (signin.Provider, error) {
	var clientSecret secret.String
	var err error
	if one.ClientSecretFile != "" {
		if clientSecret, err = config.SecretFile(one.ClientSecretFile); err != nil {
			return nil, err
		}
	}
	var options oauth.HTTPOptions
	if one.CAFile != "" {
		if options.Roots, err = roots(one.CAFile); err != nil {
			return nil, err
		}
	}
	hc := oauth.NewHTTPClient(options)
	if one.Type == "github" {
		return signin.NewGitHub(signin.GitHubOptions{
			Label: one.Label, URL: one.URL, ClientID: one.ClientID, Secret: clientSecret,
			Organization: one.Organization, Team: one.Team, Emails: one.BindVerified, HTTP: hc, Now: l.now,
		}), nil
	}
	label := one.Label
	if label == "" {
		label = name
	}
	return signin.NewOIDC(signin.OIDCOptions{
		Label: label, Issuer: one.Issuer, ClientID: one.ClientID, Secret: clientSecret, Scopes: one.Scopes,
		Claim: one.Claim, Values: one.Values, HTTP: hc, Now: l.now,
	}), nil
}

func roots(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("read authorities: no certificate in " + path)
	}
	return pool, nil
}

// A pageScale lets sign-in ask the throttle that the mail servers' doors use: one state
// for all of them.
type pageScale struct{ t *throttle.Throttle }

// Ask implements signin.Throttle.
func (s pageScale) Ask(ctx context.Context, remote netip.Addr) bool {
	return s.t.Ask(ctx, throttle.Attempt{Remote: remote, Protocol: "web"}).Refuse
}

// Tell implements signin.Throttle.
func (s pageScale) Tell(ctx context.Context, remote netip.Addr, success bool) {
	s.t.Tell(ctx, throttle.Attempt{Remote: remote, Protocol: "web"}, success)
}

// A pageSignIn tells the authorization server who sits at a browser.
type pageSignIn struct{ sessions *web.Sessions }

// SignedIn implements authserver.SignIn.
func (s pageSignIn) SignedIn(r *http.Request) (authserver.Session, bool) {
	session, person, ok := s.sessions.Current(r)
	if !ok {
		return authserver.Session{}, false
	}
	return authserver.Session{ID: fmt.Sprintf("%x", session.ID), Person: person.ID, At: session.Proved}, true
}

// Begin implements authserver.SignIn.
func (s pageSignIn) Begin(w http.ResponseWriter, r *http.Request, back string) {
	s.sessions.Begin(w, r, back)
}

var _ authserver.SignIn = pageSignIn{}
