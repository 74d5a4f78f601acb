package main

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) sessionCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "session", Short: "browsers that are signed in",
		Long: `A session is a browser in which a person is signed in to the pages. Ending one signs
that browser out at once. Mail programs have none: they have app passwords.`,
		Example: `  letterlockd session list ann@example.org
  letterlockd session end ann@example.org`,
	})
	c.AddCommand(p.sessionListCommand(), p.sessionEndCommand())
	return c
}

type sessionView struct {
	ID      string    `json:"id"`
	Person  string    `json:"person"`
	How     string    `json:"how"`
	Factor  string    `json:"factor,omitempty"`
	Admin   bool      `json:"admin,omitempty"`
	Agent   string    `json:"agent,omitempty"`
	From    string    `json:"from,omitempty"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	Expires time.Time `json:"expires"`
}

// sessionID is enough of a session's digest to name it; the browser's secret is not in it.
func sessionID(s identity.Session) string { return hex.EncodeToString(s.ID[:6]) }

func (p *program) sessionListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list [PERSON]", Short: "list browsers that are signed in",
		Long:    "List the browsers of one person, or of all.",
		Example: `  letterlockd session list --json | jq -r '.[] | select(.admin) | .person'`,
		Args:    between(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return p.listAllSessions(c.Context(), asJSON)
			}
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				views, err := p.sessionsOf(c.Context(), db, person)
				if err != nil {
					return err
				}
				return p.printSessions(views, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) listAllSessions(ctx context.Context, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	views := []sessionView{}
	for person, err := range every(ctx, db.People, addressOf) {
		if err != nil {
			return err
		}
		found, err := p.sessionsOf(ctx, db, person)
		if err != nil {
			return err
		}
		views = append(views, found...)
	}
	return p.printSessions(views, asJSON)
}

func (p *program) sessionsOf(ctx context.Context, db *database.DB, person identity.Person) ([]sessionView, error) {
	sessions, err := db.Sessions(ctx, person.ID)
	views := []sessionView{}
	for _, s := range sessions {
		if !p.now().Before(s.Expires) {
			continue
		}
		v := sessionView{ID: sessionID(s), Person: person.Address, How: s.How, Factor: string(s.Factor), Admin: s.Admin, Agent: s.Agent, Created: s.Created, Seen: s.Seen, Expires: s.Expires}
		if s.From.IsValid() {
			v.From = s.From.String()
		}
		views = append(views, v)
	}
	return views, err
}

func (p *program) printSessions(views []sessionView, asJSON bool) error {
	if asJSON {
		return p.printJSON(views)
	}
	var rows [][]string
	for _, v := range views {
		how := v.How
		if v.Factor != "" && v.Factor != v.How {
			how += " and " + v.Factor
		}
		rows = append(rows, []string{v.ID, v.Person, cli.Line(how), orDash(cli.Line(v.Agent)), orDash(v.From), day(v.Created), day(v.Seen)})
	}
	return cli.Table(p.term.Out, []string{"ID", "PERSON", "BY", "BROWSER", "FROM", "SINCE", "SEEN"}, rows)
}

func (p *program) sessionEndCommand() *cobra.Command {
	return &cobra.Command{
		Use: "end PERSON [ID]", Short: "sign browsers of a person out",
		Long:    "Sign one browser out, named by the id that session list shows, or all of the person.",
		Example: "  letterlockd session end ann@example.org 1f0c3a9b77d2",
		Args:    between(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				if len(args) == 2 {
					return p.endSession(c.Context(), db, person, args[1])
				}
				err := p.change(c.Context(), db, "session.ended", person.ID, "all browsers of "+person.Address, func(ctx context.Context) error {
					return db.EndSessions(ctx, person.ID)
				})
				if err != nil {
					return err
				}
				p.term.Sayf("%s is signed out everywhere", person.Address)
				return nil
			})
		},
	}
}

func (p *program) endSession(ctx context.Context, db *database.DB, person identity.Person, id string) error {
	sessions, err := db.Sessions(ctx, person.ID)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if sessionID(s) != id {
			continue
		}
		if err := p.change(ctx, db, "session.ended", person.ID, s.Agent, func(ctx context.Context) error { return db.EndSession(ctx, s.ID) }); err != nil {
			return err
		}
		p.term.Sayf("%s: %s is signed out", person.Address, cli.Line(s.Agent))
		return nil
	}
	return cli.Faultf(cli.NoUser, "letterlockd session list "+person.Address+" shows those there are", "there is no session %q", cli.Line(id))
}

// between is command.Exactly for a last argument that may be left out.
func between(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least {
			return command.Exactly(least)(c, args)
		}
		if len(args) > most {
			return command.Exactly(most)(c, args)
		}
		return nil
	}
}
