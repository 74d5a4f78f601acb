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
	signOut := func(w http.ResponseWriter, r *http.Request, line identity.Event) error {
		return signin.SignOut(w, r, sessions, l.db, line)
	}
	server, err := authserver.New(authserver.Options{
		Issuer: l.conf.Web.PublicURL, Codes: l.db, Devices: l.db, Tokens: l.db, Grants: ended, People: l.db,
		Bearers: l.inner, ClientStore: ended, Keys: l.db, Trail: ended, Counter: l.db, Once: l.db, Throttle: scale,
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

// ending is what one transaction ends.
type ending struct {
	any    bool
	grants []identity.GrantID
}

// endingKey is the key of the ending that a context belongs to.
type endingKey struct{}

// Together implements authserver.Trail. The door feels what has ended when that is certain:
// before, the database would tell it once more that nothing has, and what it was told of a
// transaction that was undone it would keep.
func (e endings) Together(ctx context.Context, do func(context.Context) error) error {
	var all ending
	err := e.DB.Together(ctx, func(ctx context.Context) error {
		all.grants = nil // of the try before
		return do(context.WithValue(ctx, endingKey{}, &all))
	})
	e.felt(&all, err)
	return err
}

// end has the door feel what do ends, at once or with the transaction that it is part of.
func (e endings) end(ctx context.Context, do func() error, grants ...identity.GrantID) error {
	if all, ok := ctx.Value(endingKey{}).(*ending); ok {
		all.any, all.grants = true, append(all.grants, grants...)
		return do()
	}
	err := do()
	e.felt(&ending{true, grants}, err)
	return err
}

func (e endings) felt(all *ending, err error) {
	if err == nil && len(all.grants) > 0 {
		for _, id := range all.grants {
			e.door.EndGrant(id)
		}
	} else if all.any {
		e.door.Changed()
	}
}

// RevokeGrant implements authserver.GrantStore.
func (e endings) RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error {
	return e.end(ctx, func() error { return e.DB.RevokeGrant(ctx, id, at, reason) }, id)
}

// RevokeAccess implements authserver.GrantStore.
func (e endings) RevokeAccess(ctx context.Context, digest identity.Digest, at time.Time) error {
	return e.end(ctx, func() error { return e.DB.RevokeAccess(ctx, digest, at) })
}

// EndRegistration implements authserver.ClientStore.
func (e endings) EndRegistration(ctx context.Context, id identity.ClientID, at time.Time) error {
	return e.end(ctx, func() error { return e.DB.EndRegistration(ctx, id, at) })
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
