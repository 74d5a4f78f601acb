package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type heldView struct {
	Address  string    `json:"address"`
	External string    `json:"external,omitempty"`
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason,omitempty"`
}

func (p *program) personHeldCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "held", Short: "who was removed by a directory, and is kept out",
		Long: `What an administrator has said against somebody outlives their removal by a directory:
whoever is made with that address, or by the directory's own id, is disabled again.
These words are listed until somebody is, or until person release.`,
		Example: `  letterlockd person held --json | jq -r '.[].address'`,
		Args:    command.Exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.listHeld(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) listHeld(ctx context.Context, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	views, rows := []heldView{}, [][]string{}
	for h, err := range every(ctx, db.Held, func(h identity.Held) string { return h.Address }) {
		if err != nil {
			return err
		}
		views = append(views, heldView(h))
		rows = append(rows, []string{h.Address, orDash(h.External), day(h.Since), orDash(h.Reason)})
	}
	if asJSON {
		return p.printJSON(views)
	}
	return cli.Table(p.term.Out, []string{"ADDRESS", "EXTERNAL ID", "SINCE", "REASON"}, rows)
}

func (p *program) personReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "release ADDRESS", Short: "keep a removed person out no longer",
		Long: `Forget what is held against somebody whom a directory has removed (person held): who is
made with that address is let in. Somebody who is there again is let in by person enable.`,
		Example: "  letterlockd person release ann@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			// Not ownAddress: it may be of a domain that is served no more.
			address, err := identity.CanonicalAddress(args[0])
			if err != nil {
				return cli.Wrap(cli.NoUser, err, "write it as ann@example.org")
			}
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			err = p.change(c.Context(), db, "hold.released", "", address, func(ctx context.Context) error { return db.ReleaseHeld(ctx, address) })
			if errors.Is(err, identity.ErrNotFound) {
				return cli.Wrap(cli.NoUser, err, "letterlockd person held shows who is kept out; somebody who is there is let in by letterlockd person enable "+address)
			}
			if err != nil {
				return err
			}
			p.term.Sayf("%s is kept out no longer", address)
			return nil
		},
	}
}
