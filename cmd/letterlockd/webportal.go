package main

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/portal"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// portal adds the pages of people and administrators.
func (l *plan) portal(p *program, mux *http.ServeMux, sessions *web.Sessions, factors *factor.Keeper) error {
	servers, err := mailServers(l.conf)
	if err != nil {
		return cli.Wrap(cli.Config, err, "correct [portal] in "+l.conf.Path)
	}
	o := portal.Options{
		Store: l.db, Browser: sessions, Maker: l.inner, Changed: l.inner.Changed,
		SignIn: func(w http.ResponseWriter, r *http.Request, back string, again bool) {
			if !again {
				sessions.Begin(w, r, back)
				return
			}
			proveAgain(w, r, back)
		},
		Client: l.clientNamed, Factors: factors, SignOut: "/signout", Domains: l.conf.Domains, Servers: servers,
		Fresh: l.conf.Portal.Fresh, AdminBySignIn: l.conf.Portal.AdminAtProvider,
		Lists: l.denied, Now: l.now, Random: p.random, Log: l.log,
	}
	if len(l.conf.Doveadm) > 0 {
		o.Push, o.Nodes = l.pusher, l.nodes
	}
	pages, err := portal.New(o)
	if err != nil {
		return err
	}
	pages.Register(mux)
	return nil
}

// nodes are the mail servers as the health page shows them.
func (l *plan) nodes() []portal.Node {
	var nodes []portal.Node
	for _, s := range l.pusher.State() {
		nodes = append(nodes, portal.Node{Name: s.Name, Waiting: len(s.Waiting), Since: s.Since, Tried: s.Tried, Error: s.Error})
	}
	return nodes
}

// denied are the lists of [throttle] as the health page shows them: those of mail, which
// the other doors read at the same time.
func (l *plan) denied() []portal.List {
	var lists []portal.List
	for _, s := range l.scales.Lists() {
		lists = append(lists, portal.List(s))
	}
	return lists
}

// mailServers are what people and mail programs are told.
func mailServers(conf *config.Daemon) (portal.Servers, error) {
	c := conf.Portal
	servers := portal.Servers{Name: c.Name, Issuer: conf.Web.PublicURL}
	for _, one := range []struct {
		place string
		into  *portal.Server
	}{{c.IMAP, &servers.IMAP}, {c.POP3, &servers.POP3}, {c.Submission, &servers.SMTP}, {c.Sieve, &servers.Sieve}} {
		if one.place == "" {
			continue
		}
		host, port, err := net.SplitHostPort(one.place)
		if err != nil {
			return servers, err
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return servers, err
		}
		implicit := number == 993 || number == 995 || number == 465 // RFC 8314 section 7
		// As certificates and documents have it; DNS alone knows a final dot.
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		*one.into = portal.Server{Host: host, Port: int(number), StartTLS: !implicit}
	}
	return servers, nil
}
