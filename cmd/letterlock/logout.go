package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

func (p *program) logoutCommand() *cobra.Command {
	var local bool
	c := &cobra.Command{
		Use:   "logout ACCOUNT",
		Short: "revoke an account's grant and delete it",
		Long: `Revoke the grant at the provider, where that is possible, and delete it here. Where
the provider cannot be asked, its page for taking rights back is printed. A client that
login registered for this account is removed at the provider too. The account's
settings stay in the configuration.

When the provider does not answer, nothing is deleted, so that the grant can still be
revoked later; --local deletes it all the same.`,
		Example: `  letterlock logout you@example.org
  letterlock logout you@example.org --local    # the provider is gone, or the key is`,
		Args:              exactly(1),
		ValidArgsFunction: p.completeAccounts,
		RunE:              func(c *cobra.Command, args []string) error { return p.logout(c.Context(), args[0], local) },
	}
	c.Flags().BoolVar(&local, "local", false, "only delete it here")
	return c
}

func (p *program) logout(ctx context.Context, name string, local bool) error {
	if err := checkAccountName(name); err != nil {
		return err
	}
	manager, err := p.manager()
	if err != nil {
		return err
	}
	names, err := manager.List()
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		return p.notSignedIn(name, tokenstore.ErrNotFound)
	}
	page := p.revokePage(name)
	revoked := false
	if !local {
		if revoked, err = p.revoke(ctx, manager, name); err != nil {
			return err
		}
	}
	if err := manager.Delete(ctx, name); err != nil {
		return err
	}
	switch {
	case revoked:
		p.term.Sayf("%s is signed out: revoked at the provider and deleted here", name)
	case page != "":
		p.term.Sayf("%s is deleted here; take the right back at the provider too: %s", name, page)
	default:
		p.term.Sayf("%s is deleted here; the provider has no way to revoke it, its access ends when it expires", name)
	}
	return nil
}

func (p *program) revokePage(name string) string {
	if m, err := p.account(name); err == nil {
		return m.provider.RevokePage
	}
	return ""
}

// revoke takes back what the grant holds, and our registration if we made one.
func (p *program) revoke(ctx context.Context, manager *account.Manager, name string) (bool, error) {
	grant, err := manager.Grant(ctx, name)
	if err != nil {
		// Without its key a grant cannot be revoked, and has to be deletable still.
		return false, cli.Wrap(codeOf(err), err, "letterlock logout "+shellWord(name)+" --local deletes it without revoking it")
	}
	hc, err := p.httpClient(p.caFileOf(name))
	if err != nil {
		return false, err
	}
	conn, err := grant.Conn(hc, p.now)
	if err != nil {
		return false, cli.Wrap(cli.Config, err, "put it back, or letterlock logout "+shellWord(name)+" --local deletes the grant without revoking its token")
	}
	revoked := false
	if grant.Endpoints.Revocation != "" {
		if revoked, err = p.revokeAll(ctx, conn, grant); err != nil {
			return false, err
		}
	}
	return revoked, p.unregister(ctx, hc, grant.Client.Registration)
}

// revokeAll shows the provider what it is to forget: the refresh token, which takes its
// access tokens along, or else each access token that is still kept here.
func (p *program) revokeAll(ctx context.Context, conn *oauth.Conn, grant *account.Grant) (bool, error) {
	tokens, hint := []secret.String{grant.Refresh}, "refresh_token"
	if grant.Refresh.IsZero() {
		tokens, hint = nil, "access_token"
		for _, name := range slices.Sorted(maps.Keys(grant.Access)) {
			tokens = append(tokens, grant.Access[name].Token)
		}
	}
	all := true
	for _, token := range tokens {
		err := conn.Revoke(ctx, token, hint)
		var answer *oauth.Error
		switch {
		case err == nil:
		case errors.As(err, &answer) && !answer.Temporary():
			all = false
			p.term.Sayf("note: the provider did not revoke it: %s", cli.Line(err.Error()))
		default:
			return false, cli.Wrap(cli.TempFail, err, "nothing was deleted: try again later, or add --local")
		}
	}
	return all, nil
}

// unregister removes the client that login registered (RFC 7592). Its access token is
// in the grant and nowhere else: while the provider is away the grant has to stay.
func (p *program) unregister(ctx context.Context, hc *http.Client, reg *oauth.Registered) error {
	if reg == nil || reg.ClientURI == "" {
		return nil
	}
	err := oauth.Unregister(ctx, hc, *reg)
	var answer *oauth.Error
	switch {
	case err == nil:
		p.term.Sayf("the registration of this program is removed at the provider")
	case errors.As(err, &answer) && answer.Temporary():
		return cli.Wrap(cli.TempFail, fmt.Errorf("remove the registration: %w", err), "nothing was deleted here: try again later, or add --local")
	default:
		p.term.Sayf("note: the provider did not remove the registration of this program: %s", cli.Line(err.Error()))
	}
	return nil
}

// codeOf is the exit code that err would end with.
func codeOf(err error) cli.Code {
	var fault *cli.Fault
	if errors.As(explainFault(err), &fault) {
		return fault.Code
	}
	return cli.Software
}
