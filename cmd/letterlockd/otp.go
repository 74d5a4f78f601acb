package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) otpCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "otp", Short: "second factors",
		Long: `Passkeys, the authenticator app and the recovery codes of a person. People set them up
themselves, at PUBLIC_URL/security; here an administrator takes away what was lost, and
helps those who cannot sign in any more: by new recovery codes, or by an invitation
(letterlockd person invite).`,
		Example: `  letterlockd otp list ann@example.org
  letterlockd otp remove ann@example.org laptop
  letterlockd otp reset-recovery ann@example.org`,
	})
	c.AddCommand(p.otpListCommand(), p.otpRemoveCommand(), p.otpResetCommand())
	return c
}

// A factorView is one second factor as lists and scripts see it.
type factorView struct {
	Kind    string     `json:"kind"`
	ID      string     `json:"id"`
	Name    string     `json:"name,omitempty"`
	Synced  bool       `json:"synced,omitempty"`
	Made    time.Time  `json:"made"`
	LastUse *time.Time `json:"last_use,omitempty"`
	From    string     `json:"last_from,omitempty"`
	Left    *int       `json:"left,omitempty"`
}

const (
	appID      = "app"
	recoveryID = "recovery"
)

func viewFactors(f identity.Factors) []factorView {
	used := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		return &at
	}
	views := []factorView{}
	for _, k := range f.Passkeys {
		v := factorView{Kind: "passkey", ID: keyID(k), Name: k.Name, Synced: k.Synced, Made: k.Created, LastUse: used(k.LastUse)}
		if k.LastFrom.IsValid() {
			v.From = k.LastFrom.String()
		}
		views = append(views, v)
	}
	if f.TOTP != nil {
		views = append(views, factorView{Kind: "authenticator app", ID: appID, Made: f.TOTP.Created, LastUse: used(f.TOTP.LastUse)})
	}
	if !f.RecoveryMade.IsZero() {
		views = append(views, factorView{Kind: "recovery codes", ID: recoveryID, Made: f.RecoveryMade, Left: &f.Recovery})
	}
	return views
}

// keyID is enough of a passkey's id to tell a person's apart.
func keyID(k identity.Passkey) string { return hex.EncodeToString(k.ID[:min(6, len(k.ID))]) }

func (p *program) otpListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list PERSON", Short: "list what a person proves themselves with",
		Long:    "List passkeys, the authenticator app, and how many recovery codes are left.",
		Example: "  letterlockd otp list ann@example.org --json",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				f, err := db.Factors(c.Context(), person.ID)
				if err != nil {
					return err
				}
				return p.printFactors(viewFactors(f), asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) printFactors(views []factorView, asJSON bool) error {
	if asJSON {
		return p.printJSON(views)
	}
	var rows [][]string
	for _, v := range views {
		name, last := v.Name, "-"
		if v.Left != nil {
			name = fmt.Sprintf("%d left", *v.Left)
		}
		if v.LastUse != nil {
			last = strings.TrimSpace(day(*v.LastUse) + " " + v.From)
		}
		rows = append(rows, []string{v.Kind, v.ID, orDash(cli.Line(name)), day(v.Made), last})
	}
	return cli.Table(p.term.Out, []string{"KIND", "ID", "NAME", "SINCE", "LAST USE"}, rows)
}

func (p *program) otpRemoveCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "remove PERSON [NAME]", Short: "take a second factor away",
		Long: `Take a passkey, named as otp list names it or by its id, the authenticator app (app) or
the recovery codes (recovery) away, or all of them. What a browser has proved with it
counts no more; the browser itself stays signed in until letterlockd session end.`,
		Example: `  letterlockd otp remove ann@example.org laptop
  letterlockd otp remove ann@example.org --all && letterlockd session end ann@example.org`,
		Args: between(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 2) {
				return cli.Faultf(cli.Usage, "letterlockd otp list "+cli.Line(args[0]), "name one, or say --all")
			}
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				if all {
					return p.removeFactors(c.Context(), db, person)
				}
				return p.removeFactor(c.Context(), db, person, args[1])
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all of them, recovery codes too")
	return c
}

func (p *program) removeFactors(ctx context.Context, db *database.DB, person identity.Person) error {
	err := p.change(ctx, db, "factor.removed", person.ID, "all", func(ctx context.Context) error { return db.RemoveFactors(ctx, person.ID) })
	if err != nil {
		return err
	}
	p.term.Sayf("%s has no second factor any more", person.Address)
	return nil
}

func (p *program) removeFactor(ctx context.Context, db *database.DB, person identity.Person, name string) error {
	f, err := db.Factors(ctx, person.ID)
	if err != nil {
		return err
	}
	what, remove := p.findFactor(db, person, f, name)
	if remove == nil {
		return cli.Faultf(cli.NoUser, "letterlockd otp list "+person.Address+" shows those there are; an id tells two of one name apart", "there is no one second factor %q", cli.Line(name))
	}
	if what != "recovery codes" && len(f.Passkeys)+present(f.TOTP != nil) == 1 {
		what += ", the last second factor"
	}
	if err := p.change(ctx, db, "factor.removed", person.ID, what, remove); err != nil {
		return err
	}
	p.term.Sayf("%s: %s was removed", person.Address, cli.Line(what))
	return nil
}

func present(there bool) int {
	if there {
		return 1
	}
	return 0
}

// findFactor finds the one that is meant; two passkeys of one name are none.
func (p *program) findFactor(db *database.DB, person identity.Person, f identity.Factors, name string) (string, func(context.Context) error) {
	switch {
	case name == appID && f.TOTP != nil:
		return "authenticator app", func(ctx context.Context) error { return db.RemoveTOTP(ctx, person.ID) }
	case name == recoveryID && !f.RecoveryMade.IsZero():
		return "recovery codes", func(ctx context.Context) error { return db.PutRecovery(ctx, person.ID, nil, p.now()) }
	}
	var found []identity.Passkey
	for _, k := range f.Passkeys {
		if k.Name == name || keyID(k) == name {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return "", nil
	}
	return "passkey " + found[0].Name, func(ctx context.Context) error { return db.RemovePasskey(ctx, person.ID, found[0].ID) }
}

func (p *program) otpResetCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "reset-recovery PERSON", Short: "make new recovery codes and print them, once",
		Long: `Print ten recovery codes, one a line; those before are worth nothing from then on. Each
stands in once for a second factor, and lets who signs in with a passkey in without
it. Give them to nobody but the person.`,
		Example: "  letterlockd otp reset-recovery ann@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				return p.resetRecovery(c.Context(), db, person, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of strings")
	return c
}

func (p *program) resetRecovery(ctx context.Context, db *database.DB, person identity.Person, asJSON bool) error {
	var codes []secret.String
	err := p.change(ctx, db, "recovery.made", person.ID, "by an administrator", func(ctx context.Context) (err error) {
		codes, err = factor.MakeRecovery(ctx, db, p.random, person.ID, p.now())
		return err
	})
	if errors.Is(err, identity.ErrRevoked) {
		return cli.Faultf(cli.NoUser, "letterlockd person enable "+person.Address, "%s is disabled", person.Address)
	}
	if err != nil {
		return err
	}
	p.term.Sayf("new recovery codes for %s; the old ones are worth nothing", person.Address)
	var plain []string
	for _, code := range codes {
		plain = append(plain, code.Reveal())
	}
	if asJSON {
		return p.printJSON(plain)
	}
	_, err = fmt.Fprintln(p.term.Out, strings.Join(plain, "\n"))
	return err
}
