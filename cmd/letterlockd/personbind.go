package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) personBindCommand() *cobra.Command {
	var issuer, subject string
	c := &cobra.Command{
		Use: "bind ADDRESS", Short: "make an account at a provider a person's",
		Long: `Make an account at a provider a person's, without an invitation. The account is named by
issuer and number, which nobody can take over: for GitHub the server and the numeric id
(gh api users/LOGIN --jq .id), for OpenID Connect the issuer and the subject.`,
		Example: `  letterlockd person bind ann@example.org --issuer https://github.com --subject 583231`,
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if issuer == "" || subject == "" {
				return cli.Faultf(cli.Usage, "see letterlockd person bind --help", "--issuer and --subject are both needed")
			}
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				binding := identity.Binding{Issuer: issuer, Subject: subject, Person: person.ID, Bound: p.now()}
				err := p.change(c.Context(), db, "signin.bound", person.ID, issuer+" "+subject+": by hand", func(ctx context.Context) error { return db.Bind(ctx, binding) })
				if errors.Is(err, identity.ErrExists) {
					return cli.Wrap(cli.DataError, err, "the account is somebody's already: letterlockd person unbind takes it away")
				}
				if err != nil {
					return err
				}
				p.term.Sayf("%s of %s is %s now", cli.Line(subject), cli.Line(issuer), person.Address)
				return nil
			})
		},
	}
	bindingFlags(c, &issuer, &subject)
	return c
}

func (p *program) personUnbindCommand() *cobra.Command {
	var issuer, subject string
	c := &cobra.Command{
		Use: "unbind ADDRESS", Short: "take an account at a provider away from a person",
		Long:    "Take an account away: it signs nobody in any more, and the person's browsers are signed out. App passwords stay.",
		Example: `  letterlockd person unbind ann@example.org --issuer https://github.com --subject 583231`,
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				err := p.change(c.Context(), db, "signin.unbound", person.ID, issuer+" "+subject, func(ctx context.Context) error {
					binding, err := db.Binding(ctx, issuer, subject)
					if errors.Is(err, identity.ErrNotFound) || err == nil && binding.Person != person.ID {
						return cli.Faultf(cli.DataError, "", "%s has no such account", person.Address)
					}
					if err != nil {
						return err
					}
					if err := db.Unbind(ctx, issuer, subject); err != nil {
						return err
					}
					return db.EndSessions(ctx, person.ID)
				})
				if err != nil {
					return err
				}
				p.term.Sayf("%s of %s signs nobody in any more", cli.Line(subject), cli.Line(issuer))
				return nil
			})
		},
	}
	bindingFlags(c, &issuer, &subject)
	return c
}

func bindingFlags(c *cobra.Command, issuer, subject *string) {
	c.Flags().StringVar(issuer, "issuer", "", "who knows the account: an `URL` without a slash that is not part of it")
	c.Flags().StringVar(subject, "subject", "", "the `number` or subject of the account there")
}
