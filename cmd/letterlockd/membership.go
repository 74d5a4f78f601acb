package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/daemon"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// issuerOf is the issuer of the bindings that a sign-in section makes.
func issuerOf(one config.SignIn) string {
	if one.Type == "oidc" {
		return one.Issuer
	}
	if one.URL == "" {
		return "https://github.com"
	}
	return one.URL
}

// membership adds the looks at identity providers.
func (l *plan) membership(p *program, holder string) error {
	o := membership.Options{Store: l.db, Holder: holder, Now: l.now, Log: l.log}
	for _, name := range slices.Sorted(maps.Keys(l.conf.Membership)) {
		asker, err := l.asker(p, name)
		if err != nil {
			return cli.Wrap(cli.Config, err, "correct [membership."+name+"] in "+l.conf.Path)
		}
		if asker == nil {
			continue // hears logouts only
		}
		o.Providers = append(o.Providers, membership.Provider{Name: name, Issuer: issuerOf(l.conf.SignIn[name]), Asker: asker, Every: l.conf.Membership[name].Every})
	}
	if len(o.Providers) == 0 {
		return nil
	}
	checker, err := membership.New(o)
	if err != nil {
		return err
	}
	l.add("membership", daemon.Every(memberPause, l.log, "ask who still belongs", checker.Look))
	return nil
}

// asker is the way to ask one provider; nil: there is none.
func (l *plan) asker(p *program, name string) (membership.Asker, error) {
	one := l.conf.SignIn[name]
	if one.Type == "github" {
		return l.gitHubAsker(name)
	}
	if !l.conf.Membership[name].Refresh {
		return nil, nil
	}
	return l.byRefresh(p, name)
}

func (l *plan) gitHubAsker(name string) (membership.Asker, error) {
	one, how := l.conf.SignIn[name], l.conf.Membership[name]
	info, err := os.Stat(how.AppKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read key of GitHub App: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read key of GitHub App: mode %04o of %s lets everybody in", info.Mode().Perm(), how.AppKeyFile)
	}
	text, err := atomicfile.ReadRegular(how.AppKeyFile, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("read key of GitHub App: %w", err)
	}
	key, err := membership.ParseKey(text)
	if err != nil {
		return nil, err
	}
	hc, err := providerClient(one)
	if err != nil {
		return nil, err
	}
	return membership.NewGitHub(membership.GitHubOptions{URL: one.URL, AppID: how.AppID, Key: key, Organization: one.Organization, Team: one.Team, HTTP: hc, Now: l.now}), nil
}

func providerClient(one config.SignIn) (*http.Client, error) {
	var options oauth.HTTPOptions
	if one.CAFile != "" {
		var err error
		if options.Roots, err = roots(one.CAFile); err != nil {
			return nil, err
		}
	}
	return oauth.NewHTTPClient(options), nil
}

// byRefresh keeps and uses the refresh tokens of one issuer.
func (l *plan) byRefresh(p *program, name string) (*membership.ByRefresh, error) {
	master, err := masterKey(l.conf.Web.MasterKeyFile, p.random)
	if err != nil {
		return nil, err
	}
	key, err := master.For("refresh tokens of identity providers")
	if err != nil {
		return nil, err
	}
	box, err := membership.NewBox(key, p.random)
	if err != nil {
		return nil, err
	}
	provider, err := l.provider(name, l.conf.SignIn[name])
	if err != nil {
		return nil, err
	}
	issuer, ok := provider.(*signin.OIDC)
	if !ok {
		return nil, errors.New("it is no OpenID Connect issuer")
	}
	return membership.NewByRefresh(membership.RefreshOptions{Refresher: askAgain{issuer}, Grants: l.db, Box: box,
		SpentIsGone: l.conf.Membership[name].InvalidGrant == "suspend", Now: l.now}), nil
}

// askAgain translates the words of one room into another's.
type askAgain struct{ issuer *signin.OIDC }

// Refresh implements membership.Refresher.
func (a askAgain) Refresh(ctx context.Context, subject string, refresh secret.String) (secret.String, error) {
	fresh, err := a.issuer.Refresh(ctx, subject, refresh)
	switch {
	case errors.Is(err, signin.ErrSpent):
		err = membership.ErrSpent
	case errors.Is(err, signin.ErrNotMember):
		err = membership.ErrNotMember
	}
	return fresh, err
}

// again is what the pages of sign-in do for the looks.
func (l *plan) again(p *program) (signin.Again, error) {
	keepers := map[string]*membership.ByRefresh{}
	for name, how := range l.conf.Membership {
		if !how.Refresh {
			continue
		}
		keeper, err := l.byRefresh(p, name)
		if err != nil {
			return signin.Again{}, cli.Wrap(cli.Config, err, "correct [membership."+name+"] in "+l.conf.Path)
		}
		keepers[issuerOf(l.conf.SignIn[name])] = keeper
	}
	return signin.Again{
		Keep: func(ctx context.Context, account signin.Account) error {
			if keeper := keepers[account.Issuer]; keeper != nil {
				return keeper.Keep(ctx, account.Issuer, account.Subject, account.Refresh)
			}
			return nil
		},
		Returned: func(ctx context.Context, b identity.Binding, person identity.Person) (identity.Person, error) {
			in, err := membership.Returned(ctx, l.db, b, l.now())
			if err != nil || !in {
				return person, err
			}
			return l.db.Person(ctx, person.ID)
		},
	}, nil
}

// logouts are the handlers of back-channel logouts, by path.
func (l *plan) logouts() map[string]http.Handler {
	all := map[string]http.Handler{}
	for name, how := range l.conf.Membership {
		provider, err := l.provider(name, l.conf.SignIn[name])
		issuer, ok := provider.(*signin.OIDC)
		if err != nil || !ok || how.NoLogout {
			continue // a fault of the section is told where its sign-in is made
		}
		verify := func(ctx context.Context, raw string) (oauth.LogoutClaims, error, error) {
			claims, err := issuer.VerifyLogout(ctx, raw)
			if errors.Is(err, signin.ErrLogoutToken) {
				return claims, err, nil
			}
			return claims, nil, err
		}
		halves := func(ctx context.Context, c oauth.LogoutClaims) error {
			return signin.EndHalves(ctx, l.db, c.Issuer, c.SessionID, c.Subject, l.now())
		}
		all["/signin/"+name+"/backchannel-logout"] = membership.NewLogout(membership.LogoutOptions{Verify: verify, Store: l.db, Halves: halves, Now: l.now, Log: l.log})
	}
	return all
}

// A lookView is how the last look at a provider went, for people and scripts.
type lookView struct {
	Name     string     `json:"name"`
	Issuer   string     `json:"issuer"`
	Asked    *time.Time `json:"asked"`
	Answered *time.Time `json:"answered"`
	Accounts int        `json:"accounts"`
	Gone     int        `json:"gone"`
	Trouble  string     `json:"trouble,omitempty"`
}

func (v lookView) row() []string {
	state := "answered"
	switch {
	case v.Asked == nil:
		state = "not asked yet"
	case v.Trouble != "":
		state = cli.Line(v.Trouble)
	}
	return []string{v.Name, moment(v.Asked), moment(v.Answered), strconv.Itoa(v.Accounts), strconv.Itoa(v.Gone), state}
}

func moment(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return day(*at)
}
