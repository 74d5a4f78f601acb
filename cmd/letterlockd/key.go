package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) keyCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "key", Short: "the keys that sign ID tokens",
		Long: `ID tokens tell programs who signed in; they open no mailbox. Their keys are made by
letterlockd itself and kept in the database, sealed under the master key. They are in
no backup: after a restore a new one is made.`,
		Example: `  letterlockd key list
  letterlockd key rotate`,
	})
	c.AddCommand(p.keyListCommand(), p.keyRotateCommand())
	return c
}

func (p *program) keyRotateCommand() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use: "rotate", Short: "make a new key for ID tokens",
		Long: `The new key is published at once and signs after a quarter of an hour, when everybody
has seen it; the old one stays published until what it signed has expired. With --now
the new one signs within a minute and the old ones are gone: ID tokens that they
signed are refused from then on. The daemon need not be restarted.`,
		Example: `  letterlockd key rotate
  letterlockd key rotate --now`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.rotateKey(c.Context(), now) },
	}
	c.Flags().BoolVar(&now, "now", false, "the old keys may be in wrong hands")
	return c
}

func (p *program) rotateKey(ctx context.Context, atOnce bool) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	master, err := masterKey(conf.Web.MasterKeyFile, p.random)
	if err != nil {
		return cli.Wrap(cli.Config, err, "run this as the user of letterlockd, who can read master_key_file of [web]")
	}
	key, err := master.For(oauthKey)
	if err != nil {
		return err
	}
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	old, err := db.SigningKeys(ctx)
	if err != nil {
		return err
	}
	now := p.now()
	active := now.Add(authserver.KeyLead)
	if atOnce || len(old) == 0 {
		active = now
	}
	if last := len(old) - 1; !atOnce && last >= 0 && old[last].Active.After(now) {
		return cli.Faultf(cli.DataError, "wait until then, or say --now", "a new key signs from %s already", day(old[last].Active))
	}
	made, err := authserver.NewSigningKey(key, p.random, now, active)
	if err != nil {
		return err
	}
	err = p.change(ctx, db, "key.rotated", "", made.ID, func(ctx context.Context) error {
		if err := db.AddSigningKey(ctx, made, false); err != nil {
			return err
		}
		return dropKeys(ctx, db, old, active, now, atOnce)
	})
	if err != nil {
		return err
	}
	p.term.Sayf("the key %s signs from %s", made.ID, day(active))
	return nil
}

// dropKeys forgets the keys that nobody needs any more, or all that are not the new one.
func dropKeys(ctx context.Context, db *database.DB, old []identity.SigningKey, active, now time.Time, all bool) error {
	var errs []error
	for i, key := range old {
		until := active
		if i+1 < len(old) {
			until = old[i+1].Active
		}
		if all || authserver.KeyGone(until, now) {
			err := db.DeleteSigningKey(ctx, key.ID)
			if !errors.Is(err, identity.ErrNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

type keyView struct {
	ID      string    `json:"id"`
	State   string    `json:"state"` // next, signs, published, over
	Created time.Time `json:"created"`
	Active  time.Time `json:"active"`
}

func (p *program) keyListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list the keys and what each is for now", Long: "List the keys. A key is next, signs, is published because of what it signed, or is over.",
		Example: "  letterlockd key list --json",
		Args:    command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			keys, err := db.SigningKeys(c.Context())
			if err != nil {
				return err
			}
			views := keyViews(keys, p.now())
			if asJSON {
				return p.printJSON(views)
			}
			rows := make([][]string, len(views))
			for i, v := range views {
				rows[i] = []string{v.ID, v.State, day(v.Active)}
			}
			return cli.Table(p.term.Out, []string{"KEY", "STATE", "FROM"}, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func keyViews(keys []identity.SigningKey, now time.Time) []keyView {
	views := []keyView{}
	for i, key := range keys {
		view := keyView{ID: key.ID, State: "signs", Created: key.Created, Active: key.Active}
		switch last := i == len(keys)-1; {
		case i > 0 && key.Active.After(now):
			view.State = "next"
		case !last && authserver.KeyGone(keys[i+1].Active, now):
			view.State = "over"
		case !last && !keys[i+1].Active.After(now):
			view.State = "published"
		}
		views = append(views, view)
	}
	return views
}
