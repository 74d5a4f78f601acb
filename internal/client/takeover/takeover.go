// Package takeover reads the grants that other tools keep, so that a person who has
// signed in there need not do so again. It reads and no more: it asks no server,
// changes no file of the other tool, and leaves to its caller what becomes of a
// [Found]. The import command calls it.
//
// What is found is a claim, not a fact: the tokens have to be tried before the other
// tool is put away. Where the provider rotates refresh tokens the two must not be
// used side by side.
package takeover

import (
	"context"
	"errors"
	"time"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Bounds of what is read: a token file is two or three KiB.
const (
	maxFile  = 1 << 20
	maxPlain = 256 << 10
	maxToken = 32 << 10
	maxField = 1 << 10
)

// ErrNoGrant is in the error for a file without any token: nobody finished a
// sign-in with it.
var ErrNoGrant = errors.New("no token in the file")

// A Found is one grant of another tool.
type Found struct {
	Email string // the account's address, as typed there
	// Registration is the tool's name for the provider. ProviderName is ours for it,
	// empty when the tool's user had one of their own.
	Registration string
	ProviderName string
	Tenant       string        // Microsoft's, when the file says it
	Flow         provider.Flow // how the person signed in; empty when unknown

	// The client the tokens belong to, from tools that keep it. Without ClientID the
	// person has to give both: no other client can use the refresh token (RFC 6749
	// section 6).
	ClientID     string
	ClientSecret secret.String
	RedirectURI  string

	Refresh secret.String
	Access  secret.String
	// Expiry is when Access ends at the latest, by the tool's word; zero when the
	// tool did not say.
	Expiry time.Time
}

// Decrypt opens an encrypted file. It honours ctx, since it may ask for a
// passphrase, and bounds what it returns.
type Decrypt func(ctx context.Context, sealed []byte) ([]byte, error)
