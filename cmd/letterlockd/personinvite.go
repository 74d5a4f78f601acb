package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// maxInvitation is how long a link may lie in a mailbox.
const maxInvitation = 30 * 24 * time.Hour

func (p *program) personInviteCommand() *cobra.Command {
	var life time.Duration
	c := &cobra.Command{
		Use: "invite ADDRESS", Short: "print a link that makes an account at a provider theirs",
		Long: `Print a link that works once. Whoever opens it, signs in at one of the providers of
[signin.NAME] and says yes owns the mailbox from then on, beside those who own it
already. Send it on a way that only the person reads; the link is not shown again.`,
		Example: `  letterlockd person invite ann@example.org
  letterlockd person invite ann@example.org --for 24h`,
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
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				if !person.Disabled.IsZero() {
					return cli.Faultf(cli.NoUser, "letterlockd person enable "+person.Address, "%s is disabled", person.Address)
				}
				expires := p.now().Add(life)
				link, err := signin.Invite(c.Context(), db, p.random, conf.Web.PublicURL, person.ID, expires)
				if err != nil {
					return err
				}
				if err := p.record(c.Context(), db, "signin.invited", person.ID, "until "+expires.UTC().Format(time.RFC3339)); err != nil {
					return err
				}
				p.term.Sayf("send this to the owner of %s; it works once, until %s", person.Address, day(expires))
				_, err = fmt.Fprintln(p.term.Out, link.Reveal())
				return err
			})
		},
	}
	c.Flags().DurationVar(&life, "for", 7*24*time.Hour, "how `long` the link is good")
	return c
}
