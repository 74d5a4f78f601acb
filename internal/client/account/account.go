// Package account is an account, its grant, and the refresh rule: the one way to a
// token. Whoever needs an access token asks a [Manager]; nobody else reads a grant or
// talks to a token endpoint with a refresh token.
//
// The refresh rule (docs/design.md), with the places where a kill can happen:
//
//	take the account's lock            a kill up to here changes nothing
//	read again; if now valid, use it
//	prove the store writable           (room for the new grant is kept)
//	sync a "refresh begun" mark
//	exchange                           the provider may have used up the old token
//	write and sync the new grant       ... and we have the new one
//	clear the mark, unlock, hand out   a kill from here on loses nothing
//
// At a provider that rotates refresh tokens a kill between the last two can strand
// the grant, and no client can prevent it. The mark survives and lets the next run
// say so. On invalid_grant the grant is read again and a newer one adopted. Nothing
// but Delete removes a refresh token.
//
// A crowd makes one request, whatever comes of it: those who waited for the lock find
// the new token, or take the failure (dead grant, provider down) of the one that asked.
//
// The package knows no files, keys or prompts (tokenstore does), and no people: its
// errors are typed, and cmd turns them into a line and a hint.
package account

import (
	"context"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Grant is what an account was allowed at sign-in, and the tokens got with it.
type Grant struct {
	Account   string // the name it belongs to; checked at every read
	Login     string // the identity that signed in: the address typed at login
	Subject   string // who the provider says signed in, when it said so (e-mail or user name)
	Provider  string // provider.Provider.Name, "" for a bare issuer
	Right     provider.Right
	Client    oauth.Client
	Endpoints oauth.Endpoints // pinned at sign-in
	Resources []Resource
	Refresh   secret.String
	// RefreshExpiry is zero unless the provider tells.
	RefreshExpiry time.Time
	SignedIn      time.Time // when the person last signed in
	Refreshed     time.Time // when a refresh last succeeded
	Flow          provider.Flow
	// KeyFile is the path of the secret or key by which a machine asks for its tokens
	// (Machine). What is in it is read each time and never kept.
	KeyFile string
	Access  map[string]Access // by resource name: one access token each
	Serial  int64             // grows with each write: "newer" means a higher one
}

// A Resource is provider.Resource as granted.
type Resource struct {
	Name      string
	Purposes  []provider.Purpose
	Scopes    []string
	Indicator string
}

// An Access is one access token.
type Access struct {
	Token  secret.String
	Expiry time.Time // zero: the provider did not say, taken as one use
	Issued time.Time
	// Scopes are those the provider says it gave. nil: those asked for. They are kept
	// apart from Resource.Scopes, because a provider that leaves offline_access out of
	// its answer must be asked for it again all the same.
	Scopes []string
}

// A Want says which token a caller needs.
type Want struct {
	Purpose     provider.Purpose // empty: the grant's first
	MinValidity time.Duration    // the token must live at least that long; 0 means 5 min
	// Refused is a token that a server has just refused: it is not handed out again.
	Refused secret.String
}

// TokenGetter is the one way to a token, as other rooms may declare it.
type TokenGetter interface {
	Token(ctx context.Context, account string, want Want) (Access, error)
}
