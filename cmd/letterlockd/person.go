package main

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) personCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "person", Short: "who has a mailbox here",
		Long: `A person has a mail address here, and everything that acts for them hangs on it: app
passwords, tokens, sessions, and the addresses they may read and send as. Disabling
ends all of it at once and can be undone; removing cannot.`,
		Example: `  letterlockd person add ann@example.org --name "Ann Example"
  letterlockd person disable ann@example.org --reason "left the project"
  letterlockd person list --json`,
	})
	c.AddCommand(p.personAddCommand(), p.personListCommand(), p.personShowCommand(), p.personImportCommand(), p.personInviteCommand(), p.personBindCommand(), p.personUnbindCommand(),
		p.personChangeCommand("enable", "let a disabled person in again", p.enablePerson),
		p.personDisableCommand(),
		p.personChangeCommand("remove", "forget a person, for good", p.removePerson),
		p.personHeldCommand(), p.personReleaseCommand())
	return c
}

func (p *program) personAddCommand() *cobra.Command {
	var name string
	var admin bool
	c := &cobra.Command{
		Use: "add ADDRESS", Short: "make a person with that mail address",
		Long:    "Make a person. The address becomes a mailbox that they may read and send as.",
		Example: `  letterlockd person add ann@example.org --name "Ann Example"`,
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			person, err := p.addPerson(c.Context(), db, args[0], name, admin)
			if err != nil {
				return err
			}
			p.term.Sayf("%s was added", person.Address)
			if !person.Disabled.IsZero() {
				p.term.Sayf("disabled, as before they were removed (%s): letterlockd person enable %s", cli.Line(person.Reason), person.Address)
			}
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "what people call them")
	c.Flags().BoolVar(&admin, "admin", false, "may see and change other people's pages")
	return c
}

// addPerson makes a person and the mailbox that belongs to them.
func (p *program) addPerson(ctx context.Context, db *database.DB, address, name string, admin bool) (identity.Person, error) {
	address, err := p.ownAddress(address)
	if err != nil {
		return identity.Person{}, err
	}
	id, err := identity.NewID(p.random, p.now())
	if err != nil {
		return identity.Person{}, err
	}
	person := identity.Person{ID: identity.PersonID(id), Address: address, Name: name, Admin: admin, Created: p.now()}
	err = p.change(ctx, db, "person.added", person.ID, address, func(ctx context.Context) error {
		if err := db.AddPerson(ctx, person); err != nil {
			return err
		}
		if err := db.PutAddress(ctx, identity.OwnMailbox(person)); err != nil {
			return err
		}
		person, err = db.Person(ctx, person.ID)
		return err
	})
	if errors.Is(err, identity.ErrExists) {
		return person, cli.Wrap(cli.DataError, err, "letterlockd person show "+address)
	}
	return person, err
}

// ownAddress is the canonical form of an address in one of our domains.
func (p *program) ownAddress(text string) (string, error) {
	address, err := identity.CanonicalAddress(text)
	if err != nil {
		return "", cli.Wrap(cli.NoUser, err, "write it as ann@example.org")
	}
	conf, err := p.config()
	if err != nil {
		return "", err
	}
	if len(conf.Domains) == 0 && conf.Path == "" {
		return address, nil // the first hour: nothing is served yet
	}
	_, domain, _ := strings.Cut(address, "@")
	for _, own := range conf.Domains {
		if domain == own {
			return address, nil
		}
	}
	return "", cli.Faultf(cli.NoUser, "add it to domains in "+p.file+" when it is", "%s is no domain that is served here", cli.Line(domain))
}

func (p *program) personDisableCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "disable ADDRESS", Short: "end everything that acts for a person, until enabled again",
		Long:    "Passwords, tokens and sessions of the person stop working at once, here and at the mail servers.",
		Example: `  letterlockd person disable ann@example.org --reason "left the project"`,
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				err := p.change(c.Context(), db, "person.disabled", person.ID, reason, func(ctx context.Context) error {
					return db.DisablePerson(ctx, person.ID, p.now(), reason)
				})
				if err != nil {
					return err
				}
				p.term.Sayf("%s was disabled", person.Address)
				return nil
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail")
	return c
}

func (p *program) personChangeCommand(verb, short string, change func(context.Context, *database.DB, identity.Person) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ADDRESS", Short: short, Long: strings.ToUpper(short[:1]) + short[1:] + ".",
		Example: "  letterlockd person " + verb + " ann@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				return change(c.Context(), db, person)
			})
		},
	}
}

func (p *program) enablePerson(ctx context.Context, db *database.DB, person identity.Person) error {
	err := p.change(ctx, db, "person.enabled", person.ID, "", func(ctx context.Context) error { return db.EnablePerson(ctx, person.ID) })
	if err != nil {
		return err
	}
	p.term.Sayf("%s was enabled", person.Address)
	return nil
}

func (p *program) removePerson(ctx context.Context, db *database.DB, person identity.Person) error {
	if err := db.RemovePerson(ctx, person.ID, p.now(), p.actor()); err != nil {
		return err
	}
	p.term.Sayf("%s was removed; mail that is there stays where it is", person.Address)
	return nil
}

// withPerson finds a person by address.
func (p *program) withPerson(ctx context.Context, text string, do func(*database.DB, identity.Person) error) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	person, err := findPerson(ctx, db, text)
	if err != nil {
		return err
	}
	return do(db, person)
}

func findPerson(ctx context.Context, db *database.DB, text string) (identity.Person, error) {
	address, err := identity.CanonicalAddress(text)
	if err != nil {
		return identity.Person{}, cli.Wrap(cli.NoUser, err, "write it as ann@example.org")
	}
	person, err := db.PersonByAddress(ctx, address)
	if errors.Is(err, identity.ErrNotFound) {
		return person, cli.Wrap(cli.NoUser, err, "letterlockd person list shows who there is")
	}
	return person, err
}

// A personView is a person as lists and scripts see them.
type personView struct {
	Address  string     `json:"address"`
	Name     string     `json:"name,omitempty"`
	Admin    bool       `json:"admin,omitempty"`
	Created  time.Time  `json:"created"`
	Disabled *time.Time `json:"disabled,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

func viewPerson(person identity.Person) personView {
	v := personView{Address: person.Address, Name: person.Name, Admin: person.Admin, Created: person.Created, Reason: person.Reason}
	if !person.Disabled.IsZero() {
		v.Disabled = &person.Disabled
	}
	return v
}

func (p *program) personListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list all persons", Long: "List all persons by address.",
		Example: `  letterlockd person list --json | jq -r '.[] | select(.disabled) | .address'`,
		Args:    command.Exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.listPersons(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

// pageSize is how many rows are read at a time.
const pageSize = 500

// every walks through a list that is read by pages. key is what it is ordered by, and where
// the next page goes on. An error is the last that is yielded.
func every[T any](ctx context.Context, list func(ctx context.Context, after string, limit int) ([]T, error), key func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for after := ""; ; {
			page, err := list(ctx, after, pageSize)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range page {
				after = key(one)
				if !yield(one, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

func addressOf(person identity.Person) string { return person.Address }

func (p *program) listPersons(ctx context.Context, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	views := []personView{}
	for person, err := range every(ctx, db.People, addressOf) {
		if err != nil {
			return err
		}
		views = append(views, viewPerson(person))
	}
	if asJSON {
		return p.printJSON(views)
	}
	rows := make([][]string, len(views))
	for i, v := range views {
		state := "active"
		if v.Disabled != nil {
			state = "disabled " + day(*v.Disabled)
		}
		if v.Admin {
			state += ", admin"
		}
		rows[i] = []string{v.Address, orDash(v.Name), state, day(v.Created)}
	}
	return cli.Table(p.term.Out, []string{"ADDRESS", "NAME", "STATE", "SINCE"}, rows)
}

func (p *program) personShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show ADDRESS", Short: "show one person and what acts for them",
		Long:    "Show a person, their addresses, and their app passwords.",
		Example: "  letterlockd person show ann@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				return p.showPerson(c.Context(), db, person, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an object")
	return c
}

func (p *program) showPerson(ctx context.Context, db *database.DB, person identity.Person, asJSON bool) error {
	addresses, err := db.AddressesOf(ctx, person.ID)
	if err != nil {
		return err
	}
	credentials, err := db.Credentials(ctx, person.ID)
	if err != nil {
		return err
	}
	view := struct {
		personView
		Addresses   []string         `json:"addresses"`
		Credentials []credentialView `json:"credentials"`
	}{viewPerson(person), []string{}, []credentialView{}}
	for _, a := range addresses {
		view.Addresses = append(view.Addresses, a.Address)
	}
	for _, credential := range credentials {
		view.Credentials = append(view.Credentials, p.viewCredential(credential))
	}
	if asJSON {
		return p.printJSON(view)
	}
	rows := [][]string{{"address", person.Address}, {"name", orDash(person.Name)}, {"addresses", strings.Join(view.Addresses, ", ")}, {"since", day(person.Created)}}
	if view.Disabled != nil {
		rows = append(rows, []string{"disabled", day(*view.Disabled) + " " + person.Reason})
	}
	if err := cli.Table(p.term.Out, nil, rows); err != nil || len(credentials) == 0 {
		return err
	}
	p.term.Sayf("")
	return p.printCredentials(view.Credentials)
}
