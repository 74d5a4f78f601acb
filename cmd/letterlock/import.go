package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/takeover"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

type importOptions struct {
	login   loginOptions
	decrypt string
}

func (p *program) importCommand() *cobra.Command {
	var o importOptions
	c := &cobra.Command{
		Use:   "import mutt_oauth2 FILE",
		Short: "take over the grant of another tool",
		Long: `Take over a sign-in that was made with another tool: a token file of mutt_oauth2.py,
decrypted by gpg or by what --decryption-pipe says. The grant is tried at once; when
the provider refuses it, nothing is kept. The file is not changed, but where the
provider renews refresh tokens it is worth nothing afterwards.

Older versions of the script keep the client id in the script: give it with
--client-id. Called by the name mutt_oauth2.py, letterlock takes that script's
arguments and imports the file at its first use.`,
		Example: `  letterlock import mutt_oauth2 ~/.mutt/you@example.org.tokens
  ln -s $(which letterlock) ~/bin/mutt_oauth2.py     # an old .muttrc goes on working`,
		Args: exactly(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"mutt_oauth2"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "mutt_oauth2" {
				return cli.Faultf(cli.Usage, "there is mutt_oauth2", "importing from %q is not known", cli.Line(args[0]))
			}
			_, err := p.importMutt(c.Context(), args[1], o)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.login.account, "account", "", "what to call the account (default: its address)")
	f.StringVar(&o.login.provider, "provider", "", "the provider, when the file does not name one of those known")
	f.StringVar(&o.login.tenant, "tenant", "", "Microsoft: the tenant, when the file does not say")
	f.StringVar(&o.login.clientID, "client-id", "", "the client id that the tokens belong to, when the file does not say")
	f.StringVar(&o.login.secretFile, "client-secret-file", "", "file whose first line is that client's secret")
	f.StringVar(&o.login.key, "key", "", "what protects the grant on disk: keyring, gpg, passphrase, systemd, file, or a [key.NAME]")
	f.StringVar(&o.decrypt, "decryption-pipe", "gpg --quiet --decrypt", "command that decrypts the file; no shell sees it")
	return c
}

// importMutt returns the name of the account that it made.
func (p *program) importMutt(ctx context.Context, path string, o importOptions) (string, error) {
	found, err := p.readMutt(ctx, path, o.decrypt)
	if err != nil {
		return "", err
	}
	if err := checkAddress(found.Email); err != nil {
		return "", err
	}
	l := o.login
	l.tokenFile = realPath(path)
	l.provider = firstOf(l.provider, found.ProviderName)
	l.tenant = firstOf(l.tenant, found.Tenant)
	if l.clientID == "" && found.ClientID != "" {
		l.clientID, l.secret = found.ClientID, found.ClientSecret
	}
	s, err := p.prepare(ctx, found.Email, l)
	if err != nil {
		return "", err
	}
	// One at a time: of two first calls of mutt_oauth2.py the second would put the spent
	// token in the place of the renewed one. No account can be called that.
	unlock, err := s.manager.Store.Lock(ctx, "/import")
	if err != nil {
		return "", err
	}
	defer unlock()
	if s.p.hasGrant(s.manager, s.name) {
		return "", cli.Wrap(cli.CannotWrite, fmt.Errorf("%s %w", s.name, errHasGrant), "letterlock import mutt_oauth2 "+shellWord(path)+
			" --account NAME takes the file over beside it, letterlock logout "+shellWord(s.name)+" makes room for it")
	}
	return s.name, s.takeOver(ctx, found)
}

// errHasGrant: what another tool left behind must not replace a grant of ours. It may
// be refused, and ours would be gone with it.
var errHasGrant = errors.New("has a grant already")

func (p *program) readMutt(ctx context.Context, path, decrypt string) (takeover.Found, error) {
	words, err := splitWords(decrypt)
	if err != nil || len(words) == 0 {
		return takeover.Found{}, cli.Faultf(cli.Usage, "for example --decryption-pipe 'gpg --decrypt'", "the decryption command cannot be read")
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return takeover.Found{}, cli.Faultf(cli.DataError, "give the token file that mutt_oauth2.py was called with", "there is no file %s", cli.Line(path))
	}
	if err != nil {
		return takeover.Found{}, fmt.Errorf("read token file: %w", err)
	}
	defer file.Close()
	return takeover.ReadMuttOAuth2(ctx, file, takeover.Command(words[0], words[1:]...), time.Local)
}

// takeOver keeps the grant and tries it. A refresh token that the provider refuses is
// not kept: it would stand in the way of the sign-in that is needed.
func (s *signIn) takeOver(ctx context.Context, found takeover.Found) error {
	r := s.resource()
	// Exactly what that script asked for: to ask for more at a refresh is an error
	// (RFC 6749 section 6).
	scopes := slices.DeleteFunc(slices.Clone(s.scopes()), func(scope string) bool {
		return scope == "openid" || scope == "email" || scope == "profile" || scope == "offline_access" && s.providerName == "google"
	})
	grant := &account.Grant{
		Account: s.name, Login: s.login, Provider: s.providerName, Right: provider.Full, Client: s.client,
		Endpoints: s.endpoints, Refresh: found.Refresh, Flow: found.Flow, SignedIn: s.p.now(),
		Resources: []account.Resource{{Name: r.Name, Purposes: r.Purposes, Scopes: scopes, Indicator: r.Indicator}},
	}
	old := s.replaced(ctx)
	if err := s.manager.Save(ctx, grant); err != nil {
		return err
	}
	// The settings, which name the provider's authorities, are not written yet.
	s.manager.Exchange = account.OverHTTP(s.http, s.p.now)
	_, err := s.manager.Token(ctx, s.name, account.Want{})
	var needed *account.SignInNeeded
	var rejected *account.Rejected
	if errors.As(err, &needed) || errors.As(err, &rejected) {
		if deleteErr := s.manager.Delete(ctx, s.name); deleteErr != nil {
			return deleteErr
		}
		return &cli.Fault{Code: cli.NoPerm, What: "the provider refuses the grant of " + s.login + ": " + cli.Line(err.Error()),
			Hint: s.p.loginLine(s.login) + "; nothing was kept", Err: err}
	}
	if configErr := s.configure(ctx, string(found.Flow)); configErr != nil {
		return fmt.Errorf("the grant is kept, but not the settings: %w", configErr)
	}
	s.unregister(ctx, old)
	if err != nil {
		return fmt.Errorf("the grant is kept and could not be tried: %w", err)
	}
	s.p.term.Sayf("%s is taken over; %s", s.name, s.keyRemark)
	if s.provider.Rotates {
		s.p.term.Sayf("do not use the old file any more: two copies of a grant that renews itself end each other")
	}
	return nil
}

// realPath is how a token file is recognised again, by whatever way it is named.
func realPath(path string) string {
	path = absolute(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// accountOfFile finds the account that has taken a token file's place.
func (p *program) accountOfFile(conf *config.Config, path string) (string, bool) {
	path = realPath(path)
	for _, name := range sortedNames(conf.Accounts) {
		if conf.Accounts[name].TokenFile == path {
			return name, true
		}
	}
	return "", false
}
