package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// signIn adds the pages of sign-in.
func (l *plan) signIn(p *program, mux *http.ServeMux, sessions *web.Sessions, factors *factor.Keeper) error {
	entrances, err := l.entrances()
	if err != nil {
		return err
	}
	scale, err := l.pageScale()
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [throttle] in "+l.conf.Path)
	}
	again, err := l.again(p)
	if err != nil {
		return err
	}
	desk, err := signin.New(signin.Options{
		Again:     again,
		PublicURL: l.conf.Web.PublicURL, Domains: l.conf.Domains, Entrances: entrances, Sessions: sessions,
		Store: l.db, Throttle: scale, Factors: factors, Second: signin.Policy(l.conf.Factors.Second), Trusted: l.conf.Factors.TrustedNetworks,
		Local: l.conf.LocalSignIn(), Now: l.now, Random: p.random, Log: l.log,
	})
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
		if l.conf.SignIn[name].Type == "passkey" {
			continue // no place to be sent to
		}
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
		Claim: one.Claim, Values: one.Values, Emails: one.BindVerified, Again: l.conf.Membership[name].Refresh, HTTP: hc, Now: l.now,
	}), nil
}

// maxPEM bounds keys and files of authorities; the world's are half of it.
const maxPEM = 1 << 20

func roots(path string) (*x509.CertPool, error) {
	data, err := atomicfile.ReadRegular(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("read authorities: no certificate in " + path)
	}
	return pool, nil
}

// A pageScale counts visits to the pages of sign-in. It is apart from the count of wrong
// passwords: guessing at the mail servers must not close the page where a person revokes
// what was stolen, nor may a team that is refused at GitHub be shut out of its mail.
type pageScale struct{ t *throttle.Throttle }

// pageScale wires it, with the lists of [throttle].
func (l *plan) pageScale() (pageScale, error) {
	t, err := l.scale("page throttle", throttle.Options{Rules: byNetwork("pages", pageVisits)})
	return pageScale{t}, err
}

// pageVisits leave room for an office on a Monday morning; each sign-in is two visits.
const pageVisits = 600

// Ask implements signin.Throttle.
func (s pageScale) Ask(ctx context.Context, remote netip.Addr) bool {
	visit := throttle.Attempt{Remote: remote}
	if s.t.Ask(ctx, visit).Refuse {
		return true
	}
	s.t.Tell(ctx, visit, false)
	return false
}

// missWeight is how many visits a wrong code counts as: thirty in ten minutes are all that
// an address has.
const missWeight = 20

// Miss implements signin.Throttle.
func (s pageScale) Miss(ctx context.Context, remote netip.Addr) {
	s.t.Tell(ctx, throttle.Attempt{Remote: remote, Weight: missWeight}, false)
}

// A pageSignIn tells the authorization server who sits at a browser.
type pageSignIn struct {
	l        *plan
	sessions *web.Sessions
	factors  *factor.Keeper
}

// SignedIn implements authserver.SignIn.
func (s pageSignIn) SignedIn(r *http.Request) (authserver.Session, bool) {
	session, person, ok := s.sessions.Current(r)
	if !ok {
		return authserver.Session{}, false
	}
	return authserver.Session{ID: fmt.Sprintf("%x", session.ID), Person: person.ID, At: session.Proved, Unproved: !s.proved(r, session)}, true
}

// proved is what the portal asks before it makes an app password, which a consent is worth:
// a fresh proof, by a second factor of who has one. A trusted network plays no part.
func (s pageSignIn) proved(r *http.Request, session identity.Session) bool {
	age := s.l.now().Sub(session.Proved)
	if age < 0 || age >= s.l.conf.Portal.Fresh || session.Factor != "" {
		return age >= 0 && age < s.l.conf.Portal.Fresh
	}
	has, err := s.factors.Of(r.Context(), session.Person)
	if err != nil {
		s.l.log.Error("second factors not found", "error", err)
	}
	return err == nil && !has.Second()
}

// Begin implements authserver.SignIn.
func (s pageSignIn) Begin(w http.ResponseWriter, r *http.Request, back string) {
	s.sessions.Begin(w, r, back)
}

var _ authserver.SignIn = pageSignIn{}
