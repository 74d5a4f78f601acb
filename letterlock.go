// Package letterlock gives Go programs the mail tokens that `letterlock login` keeps:
//
//	source, err := letterlock.TokenSource(ctx, "you@example.org")
//	...
//	client := oauth2.NewClient(ctx, source)     // Gmail API, Microsoft Graph, JMAP
//	token, err := source.Token()                // token.AccessToken for XOAUTH2
//
// The program shares the store with the letterlock command and keeps the same rule:
// however many programs want a token at once, one refresh is made, and it is on disk
// before anybody has the token. The package is a thin cover over internal packages; it
// never opens a browser. When only a person can help it says [ErrSignInNeeded].
//
// letterlock's configuration file is not read. What it would say about the store, its
// key or a company's certificate authorities goes into [Options].
package letterlock

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// Errors that callers branch on with errors.Is.
var (
	// ErrSignInNeeded: a person must run `letterlock login` again.
	ErrSignInNeeded = errors.New("sign in needed")
	// ErrTemporary: the same call may succeed later; nothing was lost.
	ErrTemporary = errors.New("try again later")
	// ErrUnknownAccount: nobody has signed in to an account of that name.
	ErrUnknownAccount = errors.New("unknown account")
)

// Options say what is not as usual. The zero value is good for a token that the grant
// gives first (most grants give one kind), from the user's own store.
type Options struct {
	// For is what the token is for: imap, pop3, smtp, send or graph.
	For string
	// MinValidity is how long the token must live at least; 0 means five minutes.
	MinValidity time.Duration
	// StateFolder holds the grants and their keys. "" means $XDG_STATE_HOME/letterlock,
	// else ~/.local/state/letterlock (on Windows %LOCALAPPDATA%\letterlock).
	StateFolder string
	// Key is where the key is kept: file, keyring, gpg or pipe. "" takes the first of
	// file, keyring and gpg that opens the grant.
	Key string
	// Decrypt is the command of the key source pipe that writes the key.
	Decrypt []string
	// Roots are certificate authorities besides the system's.
	Roots *x509.CertPool
}

// TokenSource is Options{}.TokenSource.
func TokenSource(ctx context.Context, name string) (oauth2.TokenSource, error) {
	return Options{}.TokenSource(ctx, name)
}

// TokenSource returns a source of valid tokens of the account called name. It opens
// the grant once, so that a wrong name or key shows here. ctx serves all later calls
// of Token. The source may be used by many goroutines.
func (o Options) TokenSource(ctx context.Context, name string) (oauth2.TokenSource, error) {
	state, err := o.stateFolder()
	if err != nil {
		return nil, err
	}
	store, err := tokenstore.Open(filepath.Join(state, "grants"))
	if err != nil {
		return nil, err
	}
	client := oauth.NewHTTPClient(oauth.HTTPOptions{Roots: o.Roots})
	manager := &account.Manager{Store: account.OnDisk(store), Exchange: account.OverHTTP(client, time.Now)}
	if err := o.openGrant(ctx, manager, name, filepath.Join(state, "keys")); err != nil {
		return nil, public(err)
	}
	want := account.Want{Purpose: provider.Purpose(o.For), MinValidity: o.MinValidity}
	return &source{ctx: ctx, manager: manager, name: name, want: want}, nil
}

// openGrant sets manager.Keys to the first key that opens the grant.
func (o Options) openGrant(ctx context.Context, manager *account.Manager, name, folder string) error {
	sources := []string{o.Key}
	if o.Key == "" {
		sources = []string{"file", "keyring", "gpg"}
	}
	where := tokenstore.FindSurroundings(os.Environ())
	var failure error
	for _, kind := range sources {
		keys, err := o.keys(kind, folder, where)
		if err != nil {
			return err
		}
		manager.Keys = func(string) (tokenstore.Keys, error) { return keys, nil }
		if _, err = manager.Grant(ctx, name); err == nil {
			return nil
		}
		// A locked key says more than one that was never made.
		if failure == nil || errors.Is(failure, tokenstore.ErrNoKey) {
			failure = err
		}
	}
	return failure
}

func (o Options) keys(kind, folder string, where tokenstore.Surroundings) (tokenstore.Keys, error) {
	switch kind {
	case "file":
		return tokenstore.NewFile(folder), nil
	case "keyring":
		return tokenstore.NewKeyring(folder, where), nil
	case "gpg":
		return tokenstore.NewGPG(folder, "", where), nil
	case "pipe":
		return tokenstore.NewPipe(folder, nil, o.Decrypt, where), nil
	}
	return nil, fmt.Errorf("no key source %q: it is file, keyring, gpg or pipe", kind)
}

func (o Options) stateFolder() (string, error) {
	if o.StateFolder != "" {
		return o.StateFolder, nil
	}
	if home := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, "letterlock"), nil
	}
	home, err := stateHome()
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w", err)
	}
	return filepath.Join(home, "letterlock"), nil
}

// source is an oauth2.TokenSource.
type source struct {
	ctx     context.Context // oauth2.TokenSource has no room for one in Token
	manager *account.Manager
	name    string
	want    account.Want
}

// oneUse is the life of a token whose provider tells no expiry: long enough for
// oauth2's Valid, which wants ten seconds, and short enough not to be kept.
const oneUse = 30 * time.Second

// Token returns a valid token.
func (s *source) Token() (*oauth2.Token, error) {
	access, err := s.manager.Token(s.ctx, s.name, s.want)
	if err != nil {
		return nil, public(err)
	}
	if access.Expiry.IsZero() {
		access.Expiry = time.Now().Add(oneUse) // oauth2 would take zero for "never ends"
	}
	return &oauth2.Token{AccessToken: access.Token.Reveal(), TokenType: "Bearer", Expiry: access.Expiry}, nil
}

// public adds the errors of this package, for the inner ones cannot be named outside.
func public(err error) error {
	var needed *account.SignInNeeded
	var temporary *account.Temporary
	switch {
	case errors.As(err, &needed):
		return fmt.Errorf("%w: %w", ErrSignInNeeded, err)
	case errors.As(err, &temporary), errors.Is(err, tokenstore.ErrLocked):
		return fmt.Errorf("%w: %w", ErrTemporary, err)
	case errors.Is(err, tokenstore.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrUnknownAccount, err)
	}
	return err
}
