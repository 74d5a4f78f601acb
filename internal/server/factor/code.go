package factor

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"rsc.io/qr"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	seedLength = 20 // RFC 4226 section 4, R6: 160 bits
	period     = 30
	// drift is how many steps a clock may be off (RFC 6238 section 5.2).
	drift      = 1
	ticketLife = 30 * time.Minute
)

// An App is an authenticator app before its first code.
type App struct {
	// Ticket comes back with the code: the seed, sealed for the person and the time.
	Ticket string
	URI    secret.String // otpauth://, for an app on the same device
	Text   secret.String // the seed in groups, to be typed
	QR     []byte        // the URI as a PNG picture
}

// NewApp makes a seed. Nothing is kept until a code proves that the app has it.
func (k *Keeper) NewApp(person identity.Person) (App, error) {
	seed := make([]byte, seedLength)
	if _, err := io.ReadFull(k.o.Random, seed); err != nil {
		return App{}, fmt.Errorf("make seed: %w", err)
	}
	ticket := binary.BigEndian.AppendUint64(nil, uint64(k.o.Now().Add(ticketLife).Unix()))
	sealed, err := k.seal(append(ticket, seed...), "ticket", person.ID)
	if err != nil {
		return App{}, err
	}
	return k.app(person, seed, sealed)
}

func (k *Keeper) app(person identity.Person, seed, ticket []byte) (App, error) {
	// A colon would end the issuer.
	key, err := totp.Generate(totp.GenerateOpts{Issuer: strings.ReplaceAll(k.o.Name, ":", " "), AccountName: person.Address, Secret: seed, Period: period})
	if err != nil {
		return App{}, fmt.Errorf("make otpauth address: %w", err)
	}
	code, err := qr.Encode(key.URL(), qr.M)
	if err != nil {
		return App{}, fmt.Errorf("make picture: %w", err)
	}
	code.Scale = 6
	var groups []string
	for text := key.Secret(); text != ""; text = text[min(4, len(text)):] {
		groups = append(groups, text[:min(4, len(text))])
	}
	return App{
		Ticket: base64.RawURLEncoding.EncodeToString(ticket), URI: secret.New(key.URL()), Text: secret.New(strings.Join(groups, " ")), QR: code.PNG(),
	}, nil
}

// SameApp shows an app again after a wrong code: the seed stays, as the app has it by now.
func (k *Keeper) SameApp(person identity.Person, ticket string) (App, error) {
	sealed, seed, err := k.openTicket(person.ID, ticket)
	if err != nil {
		return App{}, err
	}
	return k.app(person, seed, sealed)
}

// AddApp keeps the app when the code is one of its.
func (k *Keeper) AddApp(ctx context.Context, person identity.PersonID, ticket, code string) error {
	_, seed, err := k.openTicket(person, ticket)
	if err != nil {
		return err
	}
	digits, ok := normalDigits(code)
	if !ok {
		return ErrWrong
	}
	step, err := k.match(seed, digits)
	if err != nil {
		return err
	}
	sealed, err := k.seal(seed, "seed", person)
	if err != nil {
		return err
	}
	// The step of this code is spent by it.
	err = k.o.Store.PutTOTP(ctx, identity.TOTP{Person: person, Sealed: sealed, Step: step, Created: k.o.Now(), LastUse: k.o.Now()})
	if err != nil {
		return fmt.Errorf("keep seed: %w", err)
	}
	return nil
}

func (k *Keeper) openTicket(person identity.PersonID, ticket string) (sealed, seed []byte, err error) {
	if len(ticket) > 200 {
		return nil, nil, ErrStale
	}
	sealed, err = base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil {
		return nil, nil, ErrStale
	}
	plain, err := k.unseal(sealed, "ticket", person)
	if err != nil || len(plain) != 8+seedLength || uint64(k.o.Now().Unix()) >= binary.BigEndian.Uint64(plain) {
		return nil, nil, ErrStale
	}
	return sealed, plain[8:], nil
}

// match finds the time step that a code belongs to.
func (k *Keeper) match(seed []byte, digits string) (int64, error) {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
	now := k.o.Now().Unix() / period
	found, at := false, int64(0)
	// All are computed whichever fits: the time tells nothing.
	for step := now - drift; step <= now+drift; step++ {
		ok, err := hotp.ValidateCustom(digits, uint64(step), text, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, fmt.Errorf("compute code: %w", err)
		}
		if ok {
			found, at = true, step
		}
	}
	if !found {
		return 0, ErrWrong
	}
	return at, nil
}

// totp checks a code and spends its step.
func (k *Keeper) totp(ctx context.Context, person identity.PersonID, digits string, along []Along) (Proof, error) {
	giveBack, err := k.try(ctx, "totp", person)
	if err != nil {
		return Proof{}, err
	}
	f, err := k.o.Store.Factors(ctx, person)
	if err != nil {
		return Proof{}, fmt.Errorf("find seed: %w", err)
	}
	if f.TOTP == nil {
		return Proof{}, ErrWrong
	}
	seed, err := k.unseal(f.TOTP.Sealed, "seed", person)
	if err != nil {
		return Proof{}, fmt.Errorf("open seed: is the master key another one now? %w", err)
	}
	step, err := k.match(seed, digits)
	if err != nil {
		return Proof{}, err
	}
	proof, err := k.spending(ctx, along, func(ctx context.Context) (Proof, error) {
		return Proof{Factor: identity.ByTOTP}, k.o.Store.UseTOTP(ctx, person, step, k.o.Now())
	})
	switch {
	case errors.Is(err, identity.ErrDecided):
		return Proof{}, ErrSpent
	case errors.Is(err, identity.ErrRevoked), errors.Is(err, identity.ErrNotFound):
		return Proof{}, fmt.Errorf("%w: %w", ErrWrong, err)
	case err != nil:
		return Proof{}, fmt.Errorf("spend code: %w", err)
	}
	giveBack()
	return proof, nil
}

// normalDigits takes six digits as people write them: "123 456".
func normalDigits(typed string) (string, bool) {
	if len(typed) > 64 {
		return "", false
	}
	var digits strings.Builder
	for _, r := range typed {
		switch {
		case r >= '0' && r <= '9':
			digits.WriteRune(r)
		case r == ' ' || r == '-' || r == '\t' || r == '\u00a0':
		default:
			return "", false
		}
	}
	return digits.String(), digits.Len() == 6
}

// seal is AES-256-GCM with a random nonce; the use and the person are part of what it holds
// for, so that one person's row in another's place opens nothing.
func (k *Keeper) seal(plain []byte, use string, person identity.PersonID) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(k.o.Random, nonce); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(nonce, nonce, plain, []byte(use+"\n"+string(person))), nil
}

func (k *Keeper) unseal(sealed []byte, use string, person identity.PersonID) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("unseal: too short")
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(use+"\n"+string(person)))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return plain, nil
}

func (k *Keeper) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.o.SealKey)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return cipher.NewGCM(block)
}
