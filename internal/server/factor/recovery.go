package factor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A recovery code is 20 letters of five bits in four groups. Letters that look alike are
// one, so that a code can be copied from paper (Crockford's base 32).
const (
	alphabet      = "0123456789abcdefghjkmnpqrstvwxyz"
	codeLength    = 20
	groupLength   = 5
	recoveryCodes = 10
)

// NewRecovery makes ten codes, to be shown once; those before are worth nothing from now on.
func (k *Keeper) NewRecovery(ctx context.Context, person identity.PersonID) ([]secret.String, error) {
	return MakeRecovery(ctx, k.o.Store, k.o.Random, person, k.o.Now())
}

// MakeRecovery is NewRecovery for who has no Keeper: it needs no key.
func MakeRecovery(ctx context.Context, store RecoveryStore, random io.Reader, person identity.PersonID, now time.Time) ([]secret.String, error) {
	var shown []secret.String
	var kept []identity.Digest
	for range recoveryCodes {
		var bits [codeLength]byte
		if _, err := io.ReadFull(random, bits[:]); err != nil {
			return nil, fmt.Errorf("make recovery codes: %w", err)
		}
		var code strings.Builder
		for i, b := range bits {
			if i > 0 && i%groupLength == 0 {
				code.WriteByte('-')
			}
			code.WriteByte(alphabet[b&31])
		}
		shown = append(shown, secret.New(code.String()))
		kept = append(kept, recoveryDigest(person, strings.ReplaceAll(code.String(), "-", "")))
	}
	if err := store.PutRecovery(ctx, person, kept, now); err != nil {
		return nil, fmt.Errorf("keep recovery codes: %w", err)
	}
	return shown, nil
}

// recoveryDigest needs no slow hash: 100 random bits are not found by trying.
func recoveryDigest(person identity.PersonID, code string) identity.Digest {
	return identity.DigestOf("recovery\n" + string(person) + "\n" + code)
}

// normalCode reads a code as people write it; false: it cannot be one.
func normalCode(typed string) (string, bool) {
	if len(typed) > 200 {
		return "", false
	}
	var code strings.Builder
	for _, r := range strings.ToLower(typed) {
		switch {
		case r == 'o':
			r = '0'
		case r == 'i' || r == 'l':
			r = '1'
		case r == ' ' || r == '-' || r == '\t' || r == '\u00a0':
			continue
		}
		if r >= 0x80 || strings.IndexByte(alphabet, byte(r)) < 0 {
			return "", false
		}
		code.WriteRune(r)
	}
	return code.String(), code.Len() == codeLength
}

// Recover checks a recovery code and spends it.
func (k *Keeper) Recover(ctx context.Context, person identity.PersonID, typed string, along ...Along) (Proof, error) {
	code, ok := normalCode(typed)
	if !ok {
		return Proof{}, ErrWrong
	}
	giveBack, tried := k.try(ctx, "recovery", person)
	if tried != nil && !errors.Is(tried, ErrTooMany) {
		return Proof{}, tried
	}
	// Looked at in any case: anybody may send codes for an address, and must not be able to
	// keep its owner out. There are too many to be found.
	proof, err := k.spending(ctx, along, func(ctx context.Context) (Proof, error) {
		if err := k.o.Store.UseRecovery(ctx, person, recoveryDigest(person, code), k.o.Now()); err != nil {
			return Proof{}, err
		}
		f, err := k.o.Store.Factors(ctx, person)
		return Proof{Factor: identity.ByRecovery, Left: f.Recovery}, err
	})
	switch missing := errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrRevoked); {
	case missing && tried != nil:
		return Proof{}, tried
	case missing:
		return Proof{}, fmt.Errorf("%w: %w", ErrWrong, err)
	case err != nil:
		return Proof{}, fmt.Errorf("spend recovery code: %w", err)
	}
	if giveBack != nil {
		giveBack()
	}
	return proof, nil
}
