package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) auditCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "audit", Short: "what has happened",
		Long:    "The audit trail: who signed in, was refused, made and revoked what, from where. It is only ever added to.",
		Example: "  letterlockd audit list --kind signin.refused --limit 20",
	})
	c.AddCommand(p.auditListCommand())
	return c
}

func (p *program) auditListCommand() *cobra.Command {
	var address, kind string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list events, newest first", Long: "List events, newest first.",
		Example: "  letterlockd audit list --person ann@example.org --json",
		Args:    command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return cli.Faultf(cli.Usage, "", "--limit must be at least 1")
			}
			return p.listEvents(c.Context(), address, identity.EventFilter{Kind: kind}, limit, asJSON)
		},
	}
	c.Flags().StringVar(&address, "person", "", "only this person's (an `address`)")
	c.Flags().StringVar(&kind, "kind", "", "only kinds that begin so, like signin.")
	c.Flags().IntVar(&limit, "limit", 100, "at most so many")
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

type eventView struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	Person string    `json:"person,omitempty"`
	Actor  string    `json:"actor,omitempty"`
	From   string    `json:"from,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

func (p *program) listEvents(ctx context.Context, address string, filter identity.EventFilter, limit int, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	if address != "" {
		person, err := findPerson(ctx, db, address)
		if err != nil {
			return err
		}
		filter.Person = person.ID
	}
	views := []eventView{}
	names := addressBook{db: db, known: map[identity.PersonID]string{}}
	for len(views) < limit {
		filter.Limit = min(pageSize, limit-len(views))
		page, err := db.Events(ctx, filter)
		if err != nil {
			return err
		}
		for _, e := range page {
			view := eventView{At: e.At, Kind: e.Kind, Person: names.of(ctx, e.Person), Actor: e.Actor, Detail: e.Detail}
			if e.From.IsValid() {
				view.From = e.From.String()
			}
			views = append(views, view)
			filter.Before, filter.BeforeID = e.At, e.ID
		}
		if len(page) < filter.Limit {
			break
		}
	}
	if asJSON {
		return p.printJSON(views)
	}
	rows := make([][]string, len(views))
	for i, v := range views {
		rows[i] = []string{day(v.At), v.Kind, orDash(v.Person), orDash(v.Actor), orDash(v.From), v.Detail}
	}
	return cli.Table(p.term.Out, []string{"AT", "WHAT", "PERSON", "BY", "FROM", "DETAIL"}, rows)
}

// An addressBook knows the addresses of persons, of whom some may be gone.
type addressBook struct {
	db    *database.DB
	known map[identity.PersonID]string
}

func (a addressBook) of(ctx context.Context, id identity.PersonID) string {
	if id == "" {
		return ""
	}
	if name, ok := a.known[id]; ok {
		return name
	}
	name := string(id)
	if person, err := a.db.Person(ctx, id); err == nil {
		name = person.Address
	}
	a.known[id] = name
	return name
}
