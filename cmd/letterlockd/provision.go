package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/daemon"
	"github.com/letterlock-mail/letterlock/internal/server/hook"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/scim"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const (
	// hookPause is how soon the hook runs after an event.
	hookPause = 2 * time.Second
	// memberPause is how often it is looked whether a provider is to be asked.
	memberPause = 5 * time.Second
)

// provision adds what makes and ends people without a browser: a directory's listener, the
// hook, and the looks at identity providers.
func (l *plan) provision(ctx context.Context, p *program) error {
	holder, err := identity.NewID(p.random, l.now())
	if err != nil {
		return err
	}
	if len(l.conf.Hook.Command) > 0 {
		runner, err := hook.New(hook.Options{Store: l.db, Command: l.conf.Hook.Command, Timeout: l.conf.Hook.Timeout, Holder: holder, Now: l.now, Log: l.log})
		if err != nil {
			return err
		}
		l.add("hook", daemon.Every(hookPause, l.log, "run the hook", runner.Look))
	}
	if err := l.membership(p, holder); err != nil {
		return err
	}
	if l.conf.SCIM.TokenFile == "" || l.conf.SCIM.Listen == "" {
		return nil // below public_url, when at all
	}
	handler, err := l.scim(p)
	if err != nil {
		return err
	}
	serve, err := l.webServer(handler)
	if err != nil {
		return err
	}
	return l.listen(ctx, "scim", l.conf.SCIM.Listen, serve)
}

// scim is what answers a directory, below its path.
func (l *plan) scim(p *program) (http.Handler, error) {
	token, err := config.SecretFile(l.conf.SCIM.TokenFile)
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "make one: openssl rand -hex 32, into token_file of [scim], mode 0600")
	}
	handler, err := scim.New(scim.Options{Store: l.db, Domains: l.conf.Domains, Token: token, Base: l.conf.SCIMBase(), Changed: l.changed(), Now: l.now, Random: p.random, Log: l.log})
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "make one: openssl rand -hex 32, into token_file of [scim]")
	}
	return http.StripPrefix(config.SCIMPath, handler), nil
}

// changed has our own caches forget what they know, without waiting for the next look.
func (l *plan) changed() func() {
	if l.inner == nil {
		return nil
	}
	return l.inner.Changed
}

// machines stands before the pages and answers those callers that are no browsers: there is
// no form to forge where no cookie counts.
func (l *plan) machines(p *program, pages http.Handler) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	public, err := url.Parse(l.conf.Web.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	if l.conf.SCIM.TokenFile != "" && l.conf.SCIM.Listen == "" {
		handler, err := l.scim(p)
		if err != nil {
			return nil, err
		}
		mux.Handle(config.SCIMPath+"/", web.OnlyHosts(handler, public.Host))
	}
	for path, handler := range l.logouts() {
		mux.Handle(path, web.Headers(web.OnlyHosts(handler, public.Host)))
	}
	return mux, nil
}
