package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) credentialCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "credential", Short: "app passwords",
		Long: `An app password lets one device or program in, for one person, and can be held to
protocols, networks, senders, recipients and a number of messages. It is shown once,
when it is made; what is kept is a slow hash of it.`,
		Example: `  letterlockd credential make ann@example.org --label phone --protocol imap,smtp
  letterlockd credential make ann@example.org --label scanner --protocol smtp \
      --sender scanner@example.org --recipient @example.org --per-hour 20 --network 192.0.2.0/24
  letterlockd credential revoke ann@example.org scanner`,
	})
	c.AddCommand(p.credentialMakeCommand(), p.credentialListCommand(), p.credentialRevokeCommand())
	return c
}

// limits are the flags of credential make.
type limits struct {
	label, name                              string
	protocols, networks, senders, recipients []string
	perHour                                  int
	expires                                  time.Duration
}

func (p *program) credentialMakeCommand() *cobra.Command {
	var l limits
	c := &cobra.Command{
		Use: "make PERSON", Short: "make an app password and print it, once",
		Long: `The password is the one line on standard output; what it may do is told on standard
error. Without a limit it may do what the person may.`,
		Example: "  letterlockd credential make ann@example.org --label phone --protocol imap,smtp",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				return p.makeCredential(c.Context(), db, person, l)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&l.label, "label", "", "what it is for, in the person's words (needed)")
	f.StringVar(&l.name, "name", "", "its part of the login name ann+NAME@example.org; default: from the label")
	f.StringSliceVar(&l.protocols, "protocol", nil, "imap, pop3, smtp, sieve; several with commas; default: all")
	f.StringSliceVar(&l.networks, "network", nil, "networks that it works from; default: everywhere")
	f.StringSliceVar(&l.senders, "sender", nil, "addresses that it may send as; default: the person's")
	f.StringSliceVar(&l.recipients, "recipient", nil, "addresses and @domains that it may send to; default: all")
	f.IntVar(&l.perHour, "per-hour", 0, "messages an hour; 0: no limit of its own")
	f.DurationVar(&l.expires, "expires", 0, "how long it works, like 720h; default: until revoked")
	return c
}

func (p *program) makeCredential(ctx context.Context, db *database.DB, person identity.Person, l limits) error {
	made, err := p.readLimits(l)
	if err != nil {
		return err
	}
	conf, err := p.config()
	if err != nil {
		return err
	}
	password, selector, hash, err := argon(conf).NewAppPassword(p.random)
	if err != nil {
		return err
	}
	id, err := identity.NewID(p.random, p.now())
	if err != nil {
		return err
	}
	made.ID, made.Person, made.Selector, made.Hash = identity.CredentialID(id), person.ID, selector, hash
	err = p.change(ctx, db, "credential.made", person.ID, made.Name, func(ctx context.Context) error { return db.AddCredential(ctx, made) })
	if errors.Is(err, identity.ErrExists) || errors.Is(err, identity.ErrInvalid) || errors.Is(err, identity.ErrRevoked) {
		return cli.Wrap(cli.DataError, err, "choose another name with --name; letterlockd credential list "+person.Address+" shows those there are")
	}
	if err != nil {
		return err
	}
	p.term.Sayf("%s for %s: %s", made.Name, person.Address, rights(made))
	_, err = fmt.Fprintln(p.term.Out, password.Reveal())
	return err
}

// readLimits checks the flags before anything is made.
func (p *program) readLimits(l limits) (identity.Credential, error) {
	c := identity.Credential{Label: l.label, Name: l.name, PerHour: l.perHour, Created: p.now()}
	if strings.TrimSpace(l.label) == "" {
		return c, cli.Faultf(cli.Usage, `say what it is for: --label "Ann's phone"`, "a label is needed")
	}
	if c.Name == "" {
		c.Name = identity.NameFrom(l.label)
	}
	if l.perHour < 0 || l.expires < 0 {
		return c, cli.Faultf(cli.Usage, "", "--per-hour and --expires cannot be negative")
	}
	if l.expires > 0 {
		c.Expires = p.now().Add(l.expires)
	}
	for _, name := range l.protocols {
		protocol := identity.Protocol(name)
		if !slices.Contains([]identity.Protocol{identity.IMAP, identity.POP3, identity.SMTP, identity.Sieve}, protocol) {
			return c, cli.Faultf(cli.Usage, "protocols are imap, pop3, smtp and sieve", "there is no protocol %q", cli.Line(name))
		}
		c.Protocols = append(c.Protocols, protocol)
	}
	for _, text := range l.networks {
		network, err := parseNetwork(text)
		if err != nil {
			return c, cli.Faultf(cli.Usage, "write it as 192.0.2.0/24 or 2001:db8::/48", "%q is no network", cli.Line(text))
		}
		c.Networks = append(c.Networks, network)
	}
	for _, text := range l.senders {
		address, err := p.ownAddress(text)
		if err != nil {
			return c, err
		}
		c.Senders = append(c.Senders, address)
	}
	for _, text := range l.recipients {
		address, err := canonicalEntry(text)
		if err != nil {
			return c, cli.Faultf(cli.NoUser, "write it as ann@example.org or @example.org", "%q is no recipient", cli.Line(text))
		}
		c.Recipients = append(c.Recipients, address)
	}
	return c, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

func canonicalEntry(text string) (string, error) {
	if domain, whole := strings.CutPrefix(text, "@"); whole {
		domain, err := identity.CanonicalDomain(domain)
		return "@" + domain, err
	}
	return identity.CanonicalAddress(text)
}

// rights says in plain words what a credential may do.
func rights(c identity.Credential) string {
	words := []string{"everything the person may"}
	if len(c.Protocols) > 0 {
		words = []string{}
		for _, protocol := range c.Protocols {
			words = append(words, string(protocol))
		}
		words = []string{strings.Join(words, ", ") + " only"}
	}
	for _, limit := range []struct {
		lead string
		what []string
	}{{"from", prefixes(c.Networks)}, {"sends as", c.Senders}, {"sends to", c.Recipients}} {
		if len(limit.what) > 0 {
			words = append(words, limit.lead+" "+strings.Join(limit.what, ", "))
		}
	}
	if c.PerHour > 0 {
		words = append(words, fmt.Sprintf("%d messages an hour", c.PerHour))
	}
	if !c.Expires.IsZero() {
		words = append(words, "until "+day(c.Expires))
	}
	return strings.Join(words, "; ")
}

func prefixes(networks []netip.Prefix) []string {
	out := make([]string, len(networks))
	for i, network := range networks {
		out[i] = network.String()
	}
	return out
}

type credentialView struct {
	Name     string     `json:"name"`
	Label    string     `json:"label"`
	Rights   string     `json:"rights"`
	State    string     `json:"state"` // active, expired, revoked
	Created  time.Time  `json:"created"`
	LastUse  *time.Time `json:"last_use,omitempty"`
	LastFrom string     `json:"last_from,omitempty"`
}

func (p *program) viewCredential(c identity.Credential) credentialView {
	v := credentialView{Name: c.Name, Label: c.Label, Rights: rights(c), State: "active", Created: c.Created}
	switch {
	case !c.Revoked.IsZero():
		v.State = "revoked"
	case !c.Expires.IsZero() && !p.now().Before(c.Expires):
		v.State = "expired"
	}
	if !c.LastUse.IsZero() {
		v.LastUse = &c.LastUse
		if c.LastFrom.IsValid() {
			v.LastFrom = c.LastFrom.String()
		}
	}
	return v
}

func (p *program) credentialListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list PERSON", Short: "list a person's app passwords", Long: "List the app passwords of a person, revoked ones too.",
		Example: "  letterlockd credential list ann@example.org",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				all, err := db.Credentials(c.Context(), person.ID)
				if err != nil {
					return err
				}
				views := []credentialView{}
				for _, one := range all {
					views = append(views, p.viewCredential(one))
				}
				if asJSON {
					return p.printJSON(views)
				}
				return p.printCredentials(views)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) printCredentials(views []credentialView) error {
	rows := make([][]string, len(views))
	for i, v := range views {
		used := "never"
		if v.LastUse != nil {
			used = day(*v.LastUse) + " " + v.LastFrom
		}
		rows[i] = []string{v.Name, v.Label, v.State, v.Rights, used}
	}
	return cli.Table(p.term.Out, []string{"NAME", "LABEL", "STATE", "MAY", "LAST USE"}, rows)
}

func (p *program) credentialRevokeCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke PERSON NAME", Short: "end an app password", Long: "End an app password, for good. Sessions that it opened are ended at the mail servers.",
		Example: "  letterlockd credential revoke ann@example.org phone --reason lost",
		Args:    command.Exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPerson(c.Context(), args[0], func(db *database.DB, person identity.Person) error {
				one, err := db.CredentialByName(c.Context(), person.ID, args[1])
				if err != nil {
					return cli.Wrap(cli.NoUser, err, "letterlockd credential list "+person.Address)
				}
				err = p.change(c.Context(), db, "credential.revoked", person.ID, strings.TrimSpace(one.Name+" "+reason), func(ctx context.Context) error {
					return db.RevokeCredential(ctx, one.ID, p.now(), reason)
				})
				if err != nil {
					return err
				}
				p.term.Sayf("%s of %s was revoked", one.Name, person.Address)
				return nil
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail")
	return c
}
