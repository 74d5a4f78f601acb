package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/daemon"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// routes is where the addresses of all pages are put together: each room that has pages
// adds its own. Whatever stands here already knows who sits at the browser, and lets no
// other site's form through.
func (l *plan) routes(p *program, mux *http.ServeMux, sessions *web.Sessions, master secret.Master) error {
	factors, err := l.factors(p, master)
	if err != nil {
		return err
	}
	return errors.Join(l.signIn(p, mux, sessions, factors), l.gateways(p, mux, sessions), l.portal(p, mux, sessions, factors))
}

// pages is all that a browser can ask for.
func (l *plan) pages(p *program) (http.Handler, error) {
	master, err := masterKey(l.conf.Web.MasterKeyFile, p.random)
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "letterlockd must be able to write master_key_file of [web] at its first start, and to read it later")
	}
	formKey, err := master.For("web forms")
	if err != nil {
		return nil, err
	}
	sessions, err := web.NewSessions(web.SessionOptions{
		Store: l.db, PublicURL: l.conf.Web.PublicURL, Proxies: l.conf.Web.TrustedProxies, FormKey: formKey,
		Now: l.now, Random: p.random, Log: l.log,
	})
	if err != nil {
		return nil, err
	}
	if l.issuer, err = l.authServer(p, sessions, master); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	if err := l.routes(p, mux, sessions, master); err != nil {
		return nil, err
	}
	public, err := url.Parse(l.conf.Web.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	pages := web.OnlyHosts(sessions.Handler(limitBody(programs(l.issuer, sessions.OwnForms(mux)))), public.Host)
	handler, err := l.machines(p, web.Headers(configHosts(mux, pages, l.conf.Domains)))
	if err != nil {
		return nil, err
	}
	if public.Scheme == "https" {
		handler = strictTransport(handler)
	}
	return handler, nil
}

// web adds the listener of the pages.
func (l *plan) web(ctx context.Context, p *program) error {
	if l.conf.Web.PublicURL == "" {
		return nil
	}
	handler, err := l.pages(p)
	if err != nil {
		return err
	}
	serve, err := l.webServer(handler)
	if err != nil {
		return err
	}
	return errors.Join(l.listen(ctx, "web", l.conf.Web.Listen, serve), l.listenGateways(ctx))
}

// webServer serves the pages, by TLS when there is a certificate.
func (l *plan) webServer(handler http.Handler) (func(context.Context, net.Listener) error, error) {
	serve := serveHTTP(handler)
	if l.conf.Web.Certificate == "" {
		return serve, nil
	}
	certificate, err := daemon.LoadCertificate(l.conf.Web.Certificate, l.conf.Web.Key, l.now, l.log)
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "look at certificate and key of [web]")
	}
	return func(ctx context.Context, listener net.Listener) error {
		return serve(ctx, tls.NewListener(listener, certificate.TLS("http/1.1")))
	}, nil
}

// maxForm bounds what a browser may send; portal forms are a few hundred bytes.
const maxForm = 64 << 10

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// strictTransport keeps browsers from ever asking without TLS again (RFC 6797).
func strictTransport(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", fmt.Sprintf("max-age=%d", int(365*24*time.Hour/time.Second)))
		next.ServeHTTP(w, r)
	})
}

// masterKey reads the key, or makes it when there is none. It is never replaced: of two
// instances that start at once the second takes what the first has made.
func masterKey(path string, random io.Reader) (secret.Master, error) {
	key, err := atomicfile.Read(path, secret.MasterLength)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeMasterKey(path, random); err != nil {
			return secret.Master{}, fmt.Errorf("make master key: %w", err)
		}
		key, err = atomicfile.Read(path, secret.MasterLength)
	}
	if err != nil {
		return secret.Master{}, fmt.Errorf("read master key: %w", err)
	}
	return secret.NewMaster(key)
}

func makeMasterKey(path string, random io.Reader) error {
	key := make([]byte, secret.MasterLength)
	if _, err := io.ReadFull(random, key); err != nil {
		return err
	}
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := atomicfile.Write(fresh, key, 0o600); err != nil {
		return err
	}
	// A link is made only where nothing is; Rename would replace another's key.
	err := os.Link(fresh, path)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, atomicfile.Remove(fresh))
}
