package main

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// oauthKey is the use of the master key that the authorization server derives its own from.
const oauthKey = "authorization server"

// programs puts the authorization server in front of the pages. It stands outside of the
// check of forms, which would keep programs out, and checks the forms of its own pages.
func programs(server *authserver.Server, pages http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	server.Register(mux)
	return mux
}

func (l *plan) authServer(p *program, sessions *web.Sessions, master secret.Master) (*authserver.Server, error) {
	key, err := master.For(oauthKey)
	if err != nil {
		return nil, err
	}
	factors, err := l.factors(p, master)
	if err != nil {
		return nil, err
	}
	scale, err := l.programScale(l.sharedCounts())
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "correct [throttle] in "+l.conf.Path)
	}
	o, ended := l.conf.OAuth, endings{l.db, l.inner}
	signOut := func(w http.ResponseWriter, r *http.Request) error {
		return signin.SignOut(w, r, sessions, l.db, l.now())
	}
	server, err := authserver.New(authserver.Options{
		Issuer: l.conf.Web.PublicURL, Codes: l.db, Devices: l.db, Tokens: l.db, Grants: ended, People: l.db,
		Bearers: l.inner, ClientStore: ended, Keys: l.db, Trail: l.db, Counter: l.db, Once: l.db, Throttle: scale,
		SignIn: pageSignIn{l, sessions, factors}, Again: signInAgain, Prove: proveAgain, SignOut: signOut, Remote: sessions.Client,
		Key: key, Registration: o.Registration, Open: o.Open, NoDevice: o.NoDevice,
		AccessLifetime: o.Access, RefreshLifetime: o.Refresh, Now: l.now, Random: p.random, Log: l.log,
	})
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "correct public_url of [web] in "+l.conf.Path)
	}
	return server, nil
}

// endings is the database, and has our own door feel at once what ends there; those of
// other instances see the generation. An error may hide that it has ended all the same.
type endings struct {
	*database.DB
	door *credential.Door
}

// RevokeGrant implements authserver.GrantStore.
func (e endings) RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error {
	err := e.DB.RevokeGrant(ctx, id, at, reason)
	if err == nil {
		e.door.EndGrant(id)
	} else {
		e.door.Changed()
	}
	return err
}

// RevokeAccess implements authserver.GrantStore.
func (e endings) RevokeAccess(ctx context.Context, digest identity.Digest, at time.Time) error {
	defer e.door.Changed()
	return e.DB.RevokeAccess(ctx, digest, at)
}

// EndRegistration implements authserver.ClientStore.
func (e endings) EndRegistration(ctx context.Context, id identity.ClientID, at time.Time) error {
	defer e.door.Changed()
	return e.DB.EndRegistration(ctx, id, at)
}

// signInAgain has somebody prove it once more. The way straight through is for those who
// are not signed in.
func signInAgain(w http.ResponseWriter, r *http.Request, back string) {
	query := url.Values{"choose": {"1"}, "back": {back}}
	http.Redirect(w, r, web.SignInPath+"?"+query.Encode(), http.StatusSeeOther)
}

// proveAgain asks somebody who is signed in for a second factor. Who has none is sent on to
// the provider there.
func proveAgain(w http.ResponseWriter, r *http.Request, back string) {
	http.Redirect(w, r, web.SignInPath+"/again?"+url.Values{"back": {back}}.Encode(), http.StatusSeeOther)
}

// clientNames tells the portal what programs are called. Pages ask without a context of
// their own; the database has a bound.
func clientNames(server *authserver.Server) func(identity.ClientID) (identity.Client, bool) {
	return func(id identity.ClientID) (identity.Client, bool) { return server.Named(context.Background(), id) }
}

// discovery is the address that a refused mail program is told.
func discovery(conf *config.Daemon) string {
	if conf.Web.PublicURL == "" {
		return ""
	}
	return conf.Web.PublicURL + "/.well-known/openid-configuration"
}
