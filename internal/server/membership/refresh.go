package membership

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What a Refresher's error may say about the account; any other says nothing.
var (
	ErrSpent     = errors.New("the refresh token is refused")
	ErrNotMember = errors.New("the claim does not have the value")
)

// A Refresher asks an OpenID Connect issuer about one account. It returns the refresh token
// for the next time beside an error too: the old one may be spent.
type Refresher interface {
	Refresh(ctx context.Context, subject string, refresh secret.String) (fresh secret.String, err error)
}

// Grants keep refresh tokens, sealed.
type Grants interface {
	Sealed(ctx context.Context, issuer, subject string) (identity.SealedGrant, error)
	PutSealed(ctx context.Context, g identity.SealedGrant) error
	DeleteSealed(ctx context.Context, issuer, subject string, since time.Time) error
}

// RefreshOptions shape an asker by refresh tokens.
type RefreshOptions struct {
	Refresher Refresher
	Grants    Grants
	Box       *Box
	// SpentIsGone: a refused refresh token says that the account is gone. It is so only at
	// issuers whose tokens end with nothing else.
	SpentIsGone bool
	Now         func() time.Time
}

// A ByRefresh asks by refresh tokens that were kept at sign-in.
type ByRefresh struct{ o RefreshOptions }

// NewByRefresh returns an asker.
func NewByRefresh(o RefreshOptions) *ByRefresh { return &ByRefresh{o} }

// maxFailures in a row end a look: the issuer is away.
const maxFailures = 3

// Ask implements Asker. At least one account must be a member by a fresh answer: else the
// issuer, or a claim that it has no more, is what has changed.
func (r *ByRefresh) Ask(ctx context.Context, accounts []identity.Binding) (map[string]Answer, error) {
	answers := map[string]Answer{}
	members, gone, failures := 0, 0, 0
	for _, b := range accounts {
		answer, err := r.one(ctx, b)
		switch {
		case errors.Is(err, identity.ErrUnavailable), ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case err != nil:
			if failures++; failures >= maxFailures {
				return nil, fmt.Errorf("%d accounts in a row: %w", failures, err)
			}
			continue
		}
		if answer.State != Unknown {
			failures = 0
		}
		switch answer.State {
		case Member:
			members++
		case Gone:
			gone++
		}
		answers[b.Subject] = answer
	}
	if gone > 0 && members == 0 {
		return nil, fmt.Errorf("control: the issuer says of nobody that they belong, and of %d that they do not: %w", gone, errControl)
	}
	return answers, nil
}

func (r *ByRefresh) one(ctx context.Context, b identity.Binding) (Answer, error) {
	kept, err := r.o.Grants.Sealed(ctx, b.Issuer, b.Subject)
	if errors.Is(err, identity.ErrNotFound) {
		return Answer{}, nil // signed in before tokens were kept, or not yet at all
	}
	if err != nil {
		return Answer{}, err
	}
	token, err := r.o.Box.Open(kept)
	if err != nil {
		return Answer{}, nil // sealed under another key: of no use until the next sign-in
	}
	// An exchange that was begun is finished and kept, whoever ends the daemon: the old token
	// is spent by it.
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	fresh, asked := r.o.Refresher.Refresh(keep, b.Subject, token)
	if !fresh.IsZero() && !fresh.Equal(token) {
		if err := r.Keep(keep, b.Issuer, b.Subject, fresh); err != nil {
			return Answer{}, err
		}
	}
	switch {
	case asked == nil:
		return Answer{State: Member}, nil
	case errors.Is(asked, ErrNotMember):
		return Answer{Gone, "the issuer names them without the claim that lets people in"}, nil
	case errors.Is(asked, ErrSpent):
		if r.o.SpentIsGone {
			return r.spent(keep, b, kept)
		}
		return Answer{}, r.o.Grants.DeleteSealed(keep, b.Issuer, b.Subject, kept.Kept)
	}
	return Answer{}, asked
}

// spent keeps the refused token: it is all that says that the account is gone, and must say
// so again when this look comes to nothing, or waits for an administrator. Who has signed
// in meanwhile has another.
func (r *ByRefresh) spent(ctx context.Context, b identity.Binding, refused identity.SealedGrant) (Answer, error) {
	now, err := r.o.Grants.Sealed(ctx, b.Issuer, b.Subject)
	if errors.Is(err, identity.ErrNotFound) || err == nil && !bytes.Equal(now.Sealed, refused.Sealed) {
		return Answer{}, nil
	}
	return Answer{Gone, "the issuer has ended the account's grant"}, err
}

// Keep seals a refresh token and keeps it.
func (r *ByRefresh) Keep(ctx context.Context, issuer, subject string, token secret.String) error {
	sealed, err := r.o.Box.Seal(issuer, subject, token)
	if err != nil {
		return err
	}
	return r.o.Grants.PutSealed(ctx, identity.SealedGrant{Issuer: issuer, Subject: subject, Sealed: sealed, Kept: r.o.Now()})
}

// A Box seals refresh tokens under a key that is not in the database, each to its account:
// one that is moved to another row opens nothing (AES-256-GCM).
type Box struct {
	aead   cipher.AEAD
	random io.Reader
}

// NewBox takes a key of 32 bytes.
func NewBox(key []byte, random io.Reader) (*Box, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make box: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return &Box{aead: aead, random: random}, err
}

// boxVersion begins every sealed token.
const boxVersion = 1

func account(issuer, subject string) []byte {
	return []byte(fmt.Sprintf("%d %s %s", len(issuer), issuer, subject))
}

// Seal seals a token to an account.
func (b *Box) Seal(issuer, subject string, token secret.String) ([]byte, error) {
	nonce := make([]byte, b.aead.NonceSize())
	if _, err := io.ReadFull(b.random, nonce); err != nil {
		return nil, fmt.Errorf("seal refresh token: %w", err)
	}
	out := append([]byte{boxVersion}, nonce...)
	return b.aead.Seal(out, nonce, []byte(token.Reveal()), account(issuer, subject)), nil
}

// Open opens what Seal has sealed to the same account.
func (b *Box) Open(g identity.SealedGrant) (secret.String, error) {
	head := 1 + b.aead.NonceSize()
	if len(g.Sealed) < head || g.Sealed[0] != boxVersion {
		return secret.String{}, errors.New("open refresh token: not sealed by this program")
	}
	text, err := b.aead.Open(nil, g.Sealed[1:head], g.Sealed[head:], account(g.Issuer, g.Subject))
	if err != nil {
		return secret.String{}, errors.New("open refresh token: sealed under another key, or for another account")
	}
	return secret.New(strings.Clone(string(text))), nil
}
