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

func (p *program) banCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "ban", Short: "networks that are refused, or never throttled",
		Long:    "Networks that are refused whatever they show, or with --allow never slowed or refused for guessing.",
		Example: "  letterlockd ban add 198.51.100.0/24 --for 24h --reason \"guessing\"",
	})
	c.AddCommand(p.banAddCommand(), p.banListCommand(), p.banRemoveCommand())
	return c
}

func (p *program) banAddCommand() *cobra.Command {
	var ban identity.Ban
	var length time.Duration
	c := &cobra.Command{
		Use: "add NETWORK", Short: "refuse a network", Long: "Refuse a network, or with --allow never throttle it. A second entry for the same network takes the place of the first.",
		Example: "  letterlockd ban add 2001:db8::/48 --for 1h",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			network, err := parseNetwork(args[0])
			if err != nil {
				return cli.Faultf(cli.Usage, "write it as 192.0.2.0/24 or 2001:db8::/48", "%q is no network", cli.Line(args[0]))
			}
			if length < 0 {
				return cli.Faultf(cli.Usage, "", "--for cannot be negative")
			}
			ban.Network, ban.Made = network, p.now()
			if length > 0 {
				ban.Until = p.now().Add(length)
			}
			return p.putBan(c.Context(), ban)
		},
	}
	c.Flags().BoolVar(&ban.Allow, "allow", false, "never throttle it instead")
	c.Flags().DurationVar(&length, "for", 0, "how long, like 24h; default: until removed")
	c.Flags().StringVar(&ban.Reason, "reason", "", "why, for the list")
	return c
}

func (p *program) putBan(ctx context.Context, ban identity.Ban) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	kind := "ban.added"
	if ban.Allow {
		kind = "ban.allowed"
	}
	err = p.change(ctx, db, kind, "", ban.Network.String()+" "+ban.Reason, func(ctx context.Context) error { return db.PutBan(ctx, ban) })
	if err != nil {
		return err
	}
	p.term.Sayf("%s was entered", ban.Network)
	return nil
}

func (p *program) banRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NETWORK", Short: "end an entry", Long: "End an entry of the list.",
		Example: "  letterlockd ban remove 198.51.100.0/24",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			network, err := parseNetwork(args[0])
			if err != nil {
				return cli.Faultf(cli.Usage, "letterlockd ban list shows them", "%q is no network", cli.Line(args[0]))
			}
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			err = p.change(c.Context(), db, "ban.removed", "", network.String(), func(ctx context.Context) error { return db.DeleteBan(ctx, network) })
			if errors.Is(err, identity.ErrNotFound) {
				return cli.Wrap(cli.DataError, err, "letterlockd ban list shows them")
			}
			if err != nil {
				return err
			}
			p.term.Sayf("%s was removed", network)
			return nil
		},
	}
}

type banView struct {
	Network string     `json:"network"`
	Allow   bool       `json:"allow,omitempty"`
	Until   *time.Time `json:"until,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Made    time.Time  `json:"made"`
}

func (p *program) banListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list the entries", Long: "List the entries that administrators made.",
		Example: "  letterlockd ban list --json",
		Args:    command.Exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.listBans(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) listBans(ctx context.Context, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	bans, err := db.Bans(ctx)
	if err != nil {
		return err
	}
	views, rows := []banView{}, [][]string{}
	for _, ban := range bans {
		v := banView{Network: ban.Network.String(), Allow: ban.Allow, Reason: ban.Reason, Made: ban.Made}
		what := "refused"
		if ban.Allow {
			what = "never throttled"
		}
		if !ban.Until.IsZero() {
			v.Until = &ban.Until
			what += " until " + day(ban.Until)
		}
		views = append(views, v)
		rows = append(rows, []string{v.Network, what, orDash(v.Reason), day(v.Made)})
	}
	if asJSON {
		return p.printJSON(views)
	}
	return cli.Table(p.term.Out, []string{"NETWORK", "IS", "REASON", "SINCE"}, rows)
}
