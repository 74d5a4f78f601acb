package main

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// factors wires second factors.
func (l *plan) factors(p *program, master secret.Master) (*factor.Keeper, error) {
	return keeper(p, l.conf, l.db, master)
}

func keeper(p *program, conf *config.Daemon, db *database.DB, master secret.Master) (*factor.Keeper, error) {
	seal, err := master.For("totp")
	if err != nil {
		return nil, err
	}
	challenge, err := master.For("factor challenges")
	if err != nil {
		return nil, err
	}
	name := conf.Portal.Name
	if name == "" && len(conf.Domains) > 0 {
		name = conf.Domains[0]
	}
	k, err := factor.New(factor.Options{
		Store: db, PublicURL: conf.Web.PublicURL, Name: name, SealKey: seal, ChallengeKey: challenge, Now: p.now, Random: p.random,
	})
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "look at public_url of [web]")
	}
	return k, nil
}

// firstLinkLife is how long the link of the first administrator is good; each start makes
// another.
const firstLinkLife = time.Hour

// firstAdmin helps whoever starts a server that nobody looks after. The link goes to a
// terminal with a person at it, and never to a log: whoever reads it becomes administrator.
func (l *plan) firstAdmin(ctx context.Context, p *program) error {
	if l.conf.Web.PublicURL == "" {
		return nil
	}
	admins, err := l.db.Admins(ctx)
	if err != nil || len(admins) > 0 {
		return err
	}
	if !p.term.Interactive || !p.term.ErrTTY || !l.conf.LocalSignIn() {
		l.log.Warn("there is no administrator yet", "hint", "letterlockd person invite ADDRESS --admin")
		return nil
	}
	link, err := signin.FirstLink(ctx, l.db, p.random, l.conf.Web.PublicURL, p.now().Add(firstLinkLife))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.term.Err, "\nThere is no administrator yet. Open this on this machine, once, within the hour:\n\n  %s\n\n", link.Reveal())
	return err
}
