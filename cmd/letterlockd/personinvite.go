package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// maxInvitation is how long a link may lie in a mailbox.
const maxInvitation = 30 * 24 * time.Hour

func (p *program) personInviteCommand() *cobra.Command {
	var life time.Duration
	var admin bool
	c := &cobra.Command{
		Use: "invite ADDRESS", Short: "print a link that makes an account, or a passkey, theirs",
		Long: `Print a link that works once. Whoever opens it, signs in at one of the providers of
[signin.NAME] or makes a passkey, and says yes, owns the mailbox from then on, beside
those who own it already. It is also for who has lost their passkey. Send it on a way
that only the person reads; the link is not shown again.

With --admin the person may look after everybody's pages from now on, and is made when
there is none with that address: so begins a server that has no administrator.`,
		Example: `  letterlockd person invite ann@example.org
  letterlockd person invite ann@example.org --for 24h
  letterlockd person invite ann@example.org --admin`,
		Args: command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := p.config()
			if err != nil {
				return err
			}
			if conf.Web.PublicURL == "" || len(conf.SignIn) == 0 {
				return cli.Faultf(cli.Config, "set public_url in [web] and add a [signin.NAME]", "there are no pages to sign in at")
			}
			if life < time.Minute || life > maxInvitation {
				return cli.Faultf(cli.Usage, "from 1m to 720h", "an invitation cannot last %s", life)
			}
			if admin {
				if err := p.makeAdmin(c.Context(), args[0]); err != nil {
					return err
				}
			}
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				if !person.Disabled.IsZero() {
					return cli.Faultf(cli.NoUser, "letterlockd person enable "+person.Address, "%s is disabled", person.Address)
				}
				expires := p.now().Add(life)
				var link secret.String
				err := p.change(c.Context(), db, "signin.invited", person.ID, "until "+expires.UTC().Format(time.RFC3339), func(ctx context.Context) (err error) {
					link, err = signin.Invite(ctx, db, p.random, conf.Web.PublicURL, person.ID, expires)
					return err
				})
				if err != nil {
					return err
				}
				p.term.Sayf("send this to the owner of %s; it works once, until %s", person.Address, day(expires))
				_, err = fmt.Fprintln(p.term.Out, link.Reveal())
				return err
			})
		},
	}
	c.Flags().BoolVar(&admin, "admin", false, "make them an administrator, and the person too when there is none")
	c.Flags().DurationVar(&life, "for", 7*24*time.Hour, "how `long` the link is good")
	return c
}

// makeAdmin finds or makes a person who is an administrator.
func (p *program) makeAdmin(ctx context.Context, text string) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	address, err := p.ownAddress(text)
	if err != nil {
		return err
	}
	person, err := db.PersonByAddress(ctx, address)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		_, err = p.addPerson(ctx, db, address, "", true)
		return err
	case err != nil || person.Admin:
		return err
	}
	person.Admin = true
	return p.change(ctx, db, "person.admin", person.ID, person.Address, func(ctx context.Context) error { return db.UpdatePerson(ctx, person) })
}
