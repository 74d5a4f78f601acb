package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

func (p *program) dkimCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dkim",
		Short: "make and show the keys that sign outgoing mail",
		Long: `DKIM keys of your own domains. They sign what this machine delivers itself. A private
key is kept in the state folder, for its owner only, and is never printed; dkim show
prints the public half, as the zone wants it.

To change keys: dkim new makes the next ones, which do not sign yet; publish them, and
look with letterlock dns DOMAIN; dkim use makes them sign; a week later, when no mail is
on its way any more, take the old records out of the zone and dkim remove the old keys.`,
		Example: `  letterlock dkim new example.org
  letterlock dkim show example.org >> db.example.org
  letterlock dns example.org`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.dkimNewCommand(), p.dkimShowCommand(), p.dkimListCommand(), p.dkimUseCommand(), p.dkimRemoveCommand())
	return c
}

func (p *program) dkimFolder() (string, error) {
	paths, err := p.where()
	return filepath.Join(paths.State, "dkim"), err
}

func (p *program) dkimShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show DOMAIN [SELECTOR]", Short: "print the TXT records to publish",
		Long:    "Print the public halves of a domain's keys as lines for a zone file, with the texts cut\ninto strings of 255 bytes. With --json the text is there in one piece, for web forms.",
		Example: "  letterlock dkim show example.org\n  letterlock dkim show example.org 20261122-rsa --json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			folder, err := p.dkimFolder()
			if err != nil {
				return err
			}
			keys, err := domain.List(folder, args[0])
			if err != nil {
				return keyFault(args[0], err)
			}
			if len(args) > 1 {
				keys = slices.DeleteFunc(keys, func(k domain.Key) bool { return k.Selector != args[1] })
			}
			if len(keys) == 0 {
				return keyFault(args[0], fmt.Errorf("%w here for %s", domain.ErrNoKeys, cli.Line(args[len(args)-1])))
			}
			return p.printKeys(keys, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

// A dkimKey is one object of the JSON.
type dkimKey struct {
	Domain    string           `json:"domain"`
	Selector  string           `json:"selector"`
	Algorithm domain.Algorithm `json:"algorithm"`
	Signs     bool             `json:"signs"`
	Created   time.Time        `json:"created"`
	Name      string           `json:"name"`
	Type      string           `json:"type"`
	Value     string           `json:"value"`
	Zone      string           `json:"zone"`
}

func (p *program) printKeys(keys []domain.Key, asJSON bool) error {
	out := []dkimKey{}
	for _, k := range keys {
		r := domain.Record{Name: k.Name(), Type: "TXT", Value: k.Record()}
		out = append(out, dkimKey{k.Domain, k.Selector, k.Algorithm, k.Signs, k.Created.UTC(), r.Name, r.Type, r.Value, r.Zone()})
	}
	if asJSON {
		return p.printJSON(out)
	}
	for _, k := range out {
		fmt.Fprintln(p.term.Out, k.Zone)
	}
	return nil
}

func (p *program) dkimListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list all keys", Long: "List the keys of all domains, and which of them sign.",
		Example: "  letterlock dkim list",
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			folder, err := p.dkimFolder()
			if err != nil {
				return err
			}
			names, err := domain.Domains(folder)
			if err != nil {
				return cli.Wrap(cli.Unavailable, err, "look at the folder and its rights")
			}
			var keys []domain.Key
			for _, name := range names {
				found, err := domain.List(folder, name)
				if err != nil {
					return keyFault(name, err)
				}
				keys = append(keys, found...)
			}
			if asJSON {
				return p.printKeys(keys, true)
			}
			rows := [][]string{}
			for _, k := range keys {
				rows = append(rows, []string{k.Domain, k.Selector, string(k.Algorithm), yesNo(k.Signs), k.Created.UTC().Format(time.DateOnly)})
			}
			return cli.Table(p.term.Out, []string{"DOMAIN", "SELECTOR", "ALGORITHM", "SIGNS", "CREATED"}, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) dkimUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use DOMAIN SELECTOR", Short: "make a key sign, in the place of the one before",
		Long: `Make a key sign instead of the one of its kind (Ed25519 or RSA) that did. Publish its
record first: letterlock dns DOMAIN tells whether it is there. Leave the record of the
old key in the zone for a week.`,
		Example: "  letterlock dkim use example.org 20270301-rsa",
		Args:    exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			return p.changeKey(c.Context(), domain.Use, args[0], args[1])
		},
	}
}

func (p *program) dkimRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove DOMAIN SELECTOR", Short: "delete a key that does not sign any more",
		Long:    "Delete a key. One that signs is kept: let another take its place first.",
		Example: "  letterlock dkim remove example.org 20261122-rsa",
		Args:    exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			return p.changeKey(c.Context(), domain.Remove, args[0], args[1])
		},
	}
}

func (p *program) changeKey(ctx context.Context, change func(ctx context.Context, folder, domain, selector string) error, name, selector string) error {
	folder, err := p.dkimFolder()
	if err != nil {
		return err
	}
	// Nothing is made for a domain that has no keys.
	if keys, err := domain.List(folder, name); err == nil && len(keys) == 0 {
		return keyFault(name, fmt.Errorf("%w here for %s", domain.ErrNoKeys, cli.Line(name)))
	}
	if err := change(ctx, folder, name, selector); err != nil {
		return keyFault(name, err)
	}
	return nil
}

// keyFault tells a person what is wrong with the keys of a domain.
func keyFault(name string, err error) error {
	var private *atomicfile.PrivacyError
	switch {
	case errors.Is(err, domain.ErrName):
		return cli.Wrap(cli.Usage, err, "write it as example.org; selectors are letters, digits, hyphens and dots")
	case errors.Is(err, domain.ErrExists):
		return cli.Wrap(cli.CannotWrite, err, "take another name with --selector, or see letterlock dkim list")
	case errors.Is(err, domain.ErrNoKeys):
		return cli.Wrap(cli.DataError, err, "letterlock dkim list shows what there is, letterlock dkim new "+shellWord(cli.Line(name))+" makes keys")
	case errors.Is(err, domain.ErrSigning):
		return cli.Wrap(cli.DataError, err, "letterlock dkim use lets another key take its place")
	case errors.Is(err, domain.ErrKey):
		return cli.Wrap(cli.DataError, err, "put the key back from a backup, or take the file away and make a new one")
	case errors.As(err, &private):
		return cli.Wrap(cli.NoPerm, err, private.Remedy)
	}
	return cli.Wrap(cli.CannotWrite, err, "look at the state folder and its rights")
}
