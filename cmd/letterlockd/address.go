package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) addressCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "address", Short: "addresses, aliases, and who may send as them",
		Long: `An address is a mailbox or an alias, and persons have roles at it: login opens the
mailbox, send lets them write in its name. A role mailbox has several persons, and a
person has several addresses. @example.org is every address of the domain.`,
		Example: `  letterlockd address grant sales@example.org ann@example.org --role send
  letterlockd address alias info@example.org ann@example.org bob@example.org
  letterlockd address list`,
	})
	c.AddCommand(p.addressListCommand(), p.addressAliasCommand(), p.addressRoleCommand("grant", "give a person roles at an address", true),
		p.addressRoleCommand("revoke", "take roles at an address from a person", false), p.addressRemoveCommand())
	return c
}

// ownEntry is ownAddress that also takes "@domain".
func (p *program) ownEntry(text string) (string, error) {
	if !strings.HasPrefix(text, "@") {
		return p.ownAddress(text)
	}
	address, err := p.ownAddress("x" + text)
	return strings.TrimPrefix(address, "x"), err
}

func (p *program) addressAliasCommand() *cobra.Command {
	return &cobra.Command{
		Use: "alias ADDRESS TARGET...", Short: "send an address's mail on to others",
		Long:    "Make ADDRESS an alias. Who had roles at it keeps them. Targets may be anywhere.",
		Example: "  letterlockd address alias info@example.org ann@example.org",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return command.Exactly(2)(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			address, err := p.ownEntry(args[0])
			if err != nil {
				return err
			}
			var targets []string
			for _, text := range args[1:] {
				target, err := identity.CanonicalAddress(text)
				if err != nil {
					return cli.Faultf(cli.NoUser, "write it as ann@example.org", "%q is no mail address", cli.Line(text))
				}
				targets = append(targets, target)
			}
			return p.changeAddress(c.Context(), address, "alias to "+strings.Join(targets, " "), func(a *identity.Address) { a.Targets = targets })
		},
	}
}

func (p *program) addressRoleCommand(verb, short string, give bool) *cobra.Command {
	var names []string
	c := &cobra.Command{
		Use: verb + " ADDRESS PERSON", Short: short,
		Long:    strings.ToUpper(short[:1]) + short[1:] + ". Without --role: both, login and send.",
		Example: "  letterlockd address " + verb + " sales@example.org ann@example.org --role send",
		Args:    command.Exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			roles, err := parseRoles(names)
			if err != nil {
				return err
			}
			address, err := p.ownEntry(args[0])
			if err != nil {
				return err
			}
			return p.withPerson(c.Context(), args[1], func(_ *database.DB, person identity.Person) error {
				detail := verb + " " + strings.Join(roleNames(roles), " ") + " " + person.Address
				return p.changeAddress(c.Context(), address, detail, func(a *identity.Address) { setRoles(a, person.ID, roles, give) })
			})
		},
	}
	c.Flags().StringSliceVar(&names, "role", nil, "login or send; several with commas")
	return c
}

func parseRoles(names []string) ([]identity.Role, error) {
	if len(names) == 0 {
		return []identity.Role{identity.RoleLogin, identity.RoleSend}, nil
	}
	var roles []identity.Role
	for _, name := range names {
		role := identity.Role(name)
		if role != identity.RoleLogin && role != identity.RoleSend {
			return nil, cli.Faultf(cli.Usage, "roles are login and send", "there is no role %q", cli.Line(name))
		}
		roles = append(roles, role)
	}
	return roles, nil
}

func roleNames(roles []identity.Role) []string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return names
}

// setRoles gives or takes roles; an owner without any is none.
func setRoles(a *identity.Address, person identity.PersonID, roles []identity.Role, give bool) {
	at := slices.IndexFunc(a.Owners, func(o identity.Owner) bool { return o.Person == person })
	if at < 0 {
		if !give {
			return
		}
		a.Owners = append(a.Owners, identity.Owner{Person: person})
		at = len(a.Owners) - 1
	}
	owner := &a.Owners[at]
	for _, role := range roles {
		owner.Roles = slices.DeleteFunc(owner.Roles, func(r identity.Role) bool { return r == role })
		if give {
			owner.Roles = append(owner.Roles, role)
		}
	}
	if len(owner.Roles) == 0 {
		a.Owners = slices.Delete(a.Owners, at, at+1)
	}
}

// changeAddress changes an address, which is made when it is not there.
func (p *program) changeAddress(ctx context.Context, address, detail string, change func(*identity.Address)) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	err = p.change(ctx, db, "address.changed", "", address+": "+detail, func(ctx context.Context) error {
		a, err := db.Address(ctx, address)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		a.Address = address
		change(&a)
		return db.PutAddress(ctx, a)
	})
	if err != nil {
		return err
	}
	p.term.Sayf("%s: %s", address, cli.Line(detail))
	return nil
}

func (p *program) addressRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ADDRESS", Short: "forget an address", Long: "Forget an address: no mail is taken for it and nobody may send as it.",
		Example: "  letterlockd address remove info@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			address, err := p.ownEntry(args[0])
			if err != nil {
				return err
			}
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			err = p.change(c.Context(), db, "address.removed", "", address, func(ctx context.Context) error {
				_, err := db.PersonByAddress(ctx, address)
				switch {
				case err == nil:
					return cli.Faultf(cli.DataError, "letterlockd person remove "+address, "%s is the address of a person", address)
				case !errors.Is(err, identity.ErrNotFound):
					return err
				}
				return db.DeleteAddress(ctx, address)
			})
			if errors.Is(err, identity.ErrNotFound) {
				return cli.Wrap(cli.NoUser, err, "letterlockd address list shows what there is")
			}
			if err != nil {
				return err
			}
			p.term.Sayf("%s was removed", address)
			return nil
		},
	}
}

type addressView struct {
	Address string      `json:"address"`
	Targets []string    `json:"targets,omitempty"`
	Owners  []ownerView `json:"owners"`
}

type ownerView struct {
	Person string   `json:"person"`
	Roles  []string `json:"roles"`
}

func (p *program) addressListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list all addresses", Long: "List all addresses with where their mail goes and who has which role.",
		Example: "  letterlockd address list --json",
		Args:    command.Exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.listAddresses(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) listAddresses(ctx context.Context, asJSON bool) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	views := []addressView{}
	names := addressBook{db: db, known: map[identity.PersonID]string{}}
	for a, err := range every(ctx, db.Addresses, func(a identity.Address) string { return a.Address }) {
		if err != nil {
			return err
		}
		view := addressView{Address: a.Address, Targets: a.Targets, Owners: []ownerView{}}
		for _, owner := range a.Owners {
			view.Owners = append(view.Owners, ownerView{names.of(ctx, owner.Person), roleNames(owner.Roles)})
		}
		views = append(views, view)
	}
	if asJSON {
		return p.printJSON(views)
	}
	rows := make([][]string, len(views))
	for i, v := range views {
		var owners []string
		for _, o := range v.Owners {
			owners = append(owners, o.Person+" ("+strings.Join(o.Roles, ", ")+")")
		}
		rows[i] = []string{v.Address, orDash(strings.Join(v.Targets, " ")), orDash(strings.Join(owners, ", "))}
	}
	return cli.Table(p.term.Out, []string{"ADDRESS", "GOES TO", "PERSONS"}, rows)
}
