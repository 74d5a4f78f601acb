package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

func (p *program) clientCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "client", Short: "programs that an administrator enters",
		Long: `A program that asks people for rights on their mail, or a machine that acts as one
mailbox. Mail programs of people need no entry where registration in [oauth] is on.
The secret of a program is shown once, when it is entered; what is kept is a hash of it.`,
		Example: `  letterlockd client add webmail --name "Web mail" --redirect https://mail.example.org/index.php/login/oauth --without-pkce
  letterlockd client add scanner --name "Scanner, 2nd floor" --person scanner@example.org --scope send-only
  letterlockd client list
  letterlockd client disable webmail --reason "to be replaced"`,
	})
	c.AddCommand(p.clientAddCommand(), p.clientListCommand(), p.clientDisableCommand(), p.clientRemoveCommand())
	return c
}

// clientFlags are the flags of client add.
type clientFlags struct {
	name, person, auth, keys           string
	redirects, logouts, scopes         []string
	public, device, noPKCE, introspect bool
}

func (p *program) clientAddCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: "add ID", Short: "enter a program and print its secret, once",
		Long: `The secret is the one line on standard output. With --redirect people are asked in the
browser and the answer goes to exactly that address; with --device they type a code;
with --person the program is a machine that asks nobody and acts as that person's
mailbox (client credentials). --public is for a program that can keep no secret: it
gets none. With --auth private_key_jwt it proves itself by a signature (RFC 7523) and gets
none either: the file of --jwks holds its public keys, RSA, P-256 or Ed25519, as a JWK set
or as PEM.`,
		Example: `  letterlockd client add webmail --name "Web mail" --redirect https://mail.example.org/cb
  letterlockd client add scanner --name "Scanner" --person scanner@example.org --scope send-only --auth private_key_jwt --jwks scanner.pub.pem
  letterlockd client add board --name "Ticket board" --person tickets@example.org --scope imap,smtp`,
		Args: command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return p.addClient(c.Context(), args[0], f) },
	}
	l := c.Flags()
	l.StringVar(&f.name, "name", "", "what people are told it is called (needed)")
	l.StringArrayVar(&f.redirects, "redirect", nil, "`URI` that answers may go to; may be repeated")
	l.StringArrayVar(&f.logouts, "logout-redirect", nil, "`URI` that a browser may go to after it has signed out; may be repeated")
	l.StringSliceVar(&f.scopes, "scope", nil, "the most it may ask for: imap, pop3, smtp, sieve, send-only, openid, email, offline_access; several with commas; default: all")
	l.StringVar(&f.person, "person", "", "the `ADDRESS` that a machine acts as; needs --scope")
	l.BoolVar(&f.device, "device", false, "it may use codes that people type elsewhere")
	l.BoolVar(&f.public, "public", false, "it can keep no secret")
	l.StringVar(&f.auth, "auth", "", "how it proves itself: client_secret (the default) or private_key_jwt")
	l.StringVar(&f.keys, "jwks", "", "`FILE` with the public keys of a program that signs")
	l.BoolVar(&f.noPKCE, "without-pkce", false, "it cannot do PKCE (Roundcube 1.6); its secret and its exact address have to do")
	l.BoolVar(&f.introspect, "introspect", false, "it may ask whether tokens are good")
	return c
}

func (p *program) addClient(ctx context.Context, id string, f clientFlags) error {
	client, err := readClient(id, f)
	if err != nil {
		return err
	}
	if f.keys != "" {
		if client.Keys, err = clientKeys(f.keys); err != nil {
			return err
		}
	}
	client.Created = p.now()
	secret := ""
	if !f.public && client.Keys == "" {
		random, err := web.NewSecret(p.random)
		if err != nil {
			return err
		}
		secret = "llcs_" + random
		client.Secret = identity.DigestOf(secret)
	}
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	var consent *identity.Grant
	if f.person != "" {
		if consent, err = p.machineGrant(ctx, db, &client, f); err != nil {
			return err
		}
	}
	var person identity.PersonID
	if consent != nil {
		person = consent.Person
	}
	err = p.change(ctx, db, "client.added", person, id+": "+client.Name, func(ctx context.Context) error { return db.AddClient(ctx, client, consent) })
	if errors.Is(err, identity.ErrExists) {
		return cli.Wrap(cli.DataError, err, "choose another id, or letterlockd client remove "+id)
	}
	if err != nil {
		return err
	}
	p.term.Sayf("%s (%s) is entered: %s", cli.Line(client.Name), id, mayClient(client, f.person))
	if secret == "" {
		return nil
	}
	_, err = fmt.Fprintln(p.term.Out, secret)
	return err
}

// machineGrant is the one grant of a machine: it stands on the person's page.
func (p *program) machineGrant(ctx context.Context, db *database.DB, client *identity.Client, f clientFlags) (*identity.Grant, error) {
	var grant *identity.Grant
	err := p.withPerson(ctx, f.person, func(_ *database.DB, person identity.Person) error {
		id, err := identity.NewID(p.random, p.now())
		if err != nil {
			return err
		}
		client.Consent = identity.GrantID(id)
		grant = &identity.Grant{ID: client.Consent, Person: person.ID, Client: client.ID, Scopes: f.scopes, Created: p.now()}
		return nil
	})
	return grant, err
}

// readClient checks the flags before anything is kept.
func readClient(id string, f clientFlags) (identity.Client, error) {
	c := identity.Client{
		ID: identity.ClientID(id), Name: strings.TrimSpace(f.name), RedirectURIs: f.redirects, LogoutURIs: f.logouts, Scopes: f.scopes,
		WithoutPKCE: f.noPKCE, Introspects: f.introspect,
	}
	usage := func(hint, format string, args ...any) (identity.Client, error) {
		return c, cli.Faultf(cli.Usage, hint, format, args...)
	}
	if len(id) > 40 || id == "" || id == authserver.OpenClient || strings.ContainsFunc(id, notClientID) {
		return usage("at most 40 of a-z, 0-9, - and .", "%q cannot be the id of a program", cli.Line(id))
	}
	if c.Name == "" || len(c.Name) > 100 || c.Name != cli.Line(c.Name) {
		return usage(`say what people are told: --name "Web mail"`, "a name of at most 100 characters is needed")
	}
	for _, uri := range append(slices.Clone(f.redirects), f.logouts...) {
		if authserver.CheckRedirectURI(uri) != nil {
			return usage("https://, http:// on 127.0.0.1 or [::1], or a scheme of the program's own like org.example.app:/", "%q cannot be an address for answers", cli.Line(uri))
		}
	}
	for _, scope := range f.scopes {
		if !slices.Contains(authserver.Scopes(), scope) {
			return usage("scopes are "+strings.Join(authserver.Scopes(), ", "), "there is no scope %q", cli.Line(scope))
		}
	}
	if len(f.redirects) > 0 {
		c.Grants = append(c.Grants, identity.AuthorizationCode)
	}
	if f.device {
		c.Grants = append(c.Grants, identity.DeviceCode)
	}
	if len(c.Grants) > 0 {
		c.Grants = append(c.Grants, identity.RefreshGrant)
	}
	if f.person != "" {
		c.Grants = append(c.Grants, identity.ClientCredentials)
	}
	switch {
	case len(c.Grants) == 0 && !f.introspect:
		return usage("name at least one of --redirect, --device, --person and --introspect", "the program could do nothing")
	case f.public && (f.person != "" || f.noPKCE || f.introspect):
		return usage("leave --public out: such a program needs a secret", "--public goes with neither --person, --without-pkce nor --introspect")
	case !slices.Contains([]string{"", secretAuth, authserver.KeyAuth}, f.auth):
		return usage("--auth "+secretAuth+" or --auth "+authserver.KeyAuth, "no program proves itself by %q here", cli.Line(f.auth))
	case f.public && (f.auth != "" || f.keys != ""):
		return usage("leave --public out, or --auth and --jwks", "--public says that the program cannot prove itself")
	case (f.auth == authserver.KeyAuth) != (f.keys != ""):
		return usage("--auth private_key_jwt --jwks FILE", "--auth private_key_jwt and --jwks go together")
	case f.person != "" && len(f.scopes) == 0:
		return usage("say what the machine may do: --scope send-only", "--person needs --scope")
	}
	return c, nil
}

// secretAuth is a secret, by HTTP Basic or in the body.
const secretAuth = "client_secret"

// clientKeys reads the file with a program's public keys.
func clientKeys(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", cli.Wrap(cli.DataError, err, "--jwks wants a file with public keys that can be read")
	}
	data, err := io.ReadAll(io.LimitReader(file, 1<<20)) // longer than what is taken
	if err := errors.Join(err, file.Close()); err != nil {
		return "", cli.Wrap(cli.DataError, err, "--jwks wants a file with public keys that can be read")
	}
	keys, err := authserver.ClientKeys(data)
	if err != nil {
		return "", cli.Wrap(cli.DataError, fmt.Errorf("%s: %w", cli.Line(path), err), "a JWK set, or the public key in PEM: openssl pkey -in key.pem -pubout")
	}
	return keys, nil
}

func notClientID(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
}

// mayClient says in words what a program may do.
func mayClient(c identity.Client, person string) string {
	var words []string
	for _, one := range []struct {
		is   bool
		text string
	}{
		{c.Allows(identity.AuthorizationCode), "asks people in the browser"},
		{c.Allows(identity.DeviceCode), "asks people by a code"},
		{c.Allows(identity.ClientCredentials), strings.TrimSpace("acts as one mailbox " + person)},
		{c.Introspects, "may ask about tokens"},
		{c.WithoutPKCE, "without PKCE"},
		{!c.Confidential(), "without a secret"},
		{c.Keys != "", "proves itself by a signature"},
		{len(c.Scopes) > 0, "at most " + strings.Join(c.Scopes, " ")},
	} {
		if one.is {
			words = append(words, one.text)
		}
	}
	return strings.Join(words, "; ")
}

type clientView struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	May       string     `json:"may"`
	State     string     `json:"state"` // active, disabled
	Redirects []string   `json:"redirect_uris"`
	Created   time.Time  `json:"created"`
	Disabled  *time.Time `json:"disabled,omitempty"`
	Reason    string     `json:"reason,omitempty"`
}

func (p *program) clientListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "list the programs that were entered",
		Long:    "List the programs that were entered, disabled ones too. Those that registered themselves are kept nowhere; what people allowed them stands on their pages.",
		Example: "  letterlockd client list --json",
		Args:    command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			all, err := db.Clients(c.Context())
			if err != nil {
				return err
			}
			views := []clientView{}
			for _, one := range all {
				view := clientView{ID: string(one.ID), Name: one.Name, May: mayClient(one, ""), State: "active",
					Redirects: append([]string{}, one.RedirectURIs...), Created: one.Created, Reason: one.Reason}
				if !one.Disabled.IsZero() {
					view.State, view.Disabled = "disabled", &one.Disabled
				}
				views = append(views, view)
			}
			if asJSON {
				return p.printJSON(views)
			}
			rows := make([][]string, len(views))
			for i, v := range views {
				rows[i] = []string{v.ID, v.Name, v.State, v.May, orDash(strings.Join(v.Redirects, " "))}
			}
			return cli.Table(p.term.Out, []string{"ID", "NAME", "STATE", "MAY", "REDIRECTS"}, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) clientDisableCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "disable ID", Short: "keep a program out", Long: "Keep a program out and end everything that people allowed it, at the mail servers too. It stays in the list.",
		Example: `  letterlockd client disable webmail --reason "secret was in a backup"`,
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.endClient(c.Context(), args[0], "client.disabled", reason, func(ctx context.Context, db *database.DB, id identity.ClientID) error {
				return db.DisableClient(ctx, id, p.now(), reason)
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail and for people's pages")
	return c
}

func (p *program) clientRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "forget a program", Long: "Forget a program and end everything that people allowed it, at the mail servers too.",
		Example: "  letterlockd client remove webmail",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.endClient(c.Context(), args[0], "client.removed", "", func(ctx context.Context, db *database.DB, id identity.ClientID) error {
				return db.DeleteClient(ctx, id, p.now())
			})
		},
	}
}

// endClient ends a program, and writes down each grant that ends with it: by those the
// mail servers learn that sessions are over.
func (p *program) endClient(ctx context.Context, text, kind, reason string, end func(context.Context, *database.DB, identity.ClientID) error) error {
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	id := identity.ClientID(text)
	var grants []identity.Grant
	err = db.Together(ctx, func(ctx context.Context) (err error) {
		if grants, err = db.ClientGrants(ctx, id); err != nil {
			return err
		}
		if err := end(ctx, db, id); err != nil {
			return err
		}
		if err := p.record(ctx, db, kind, "", strings.TrimSpace(text+" "+reason)); err != nil {
			return err
		}
		for _, grant := range grants {
			if err := p.record(ctx, db, "grant.revoked", grant.Person, text+": "+strings.TrimPrefix(kind, "client.")); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, identity.ErrNotFound) {
		return cli.Wrap(cli.NoUser, err, "letterlockd client list")
	}
	if err != nil {
		return err
	}
	p.term.Sayf("%s is %s; %d grants ended", cli.Line(text), strings.TrimPrefix(kind, "client."), len(grants))
	return nil
}
