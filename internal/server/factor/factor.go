// Package factor is what a person proves themselves with beside a provider's word:
// passkeys, the codes of an authenticator app (TOTP), and recovery codes. It makes,
// checks and spends them; it shows no page and starts no session. Packages signin and
// portal call it.
//
//	passkey    go-webauthn checks what devices answer. User verification is always asked
//	           for, so that one passkey is two factors; attestation is not, because nobody
//	           here would act on it. The relying party is the host of the pages.
//	code       pquerna/otp computes it. Seeds are kept sealed under a key that is not in the
//	           database; the step of each accepted code is kept, so that it is good once.
//	recovery   ten codes of 100 random bits, kept as digests, each good once.
//
// Challenges are not kept: each is a MAC over its time, the browser and the purpose, and
// only one that was answered is written down, until it would have ended, so that it is
// answered once. A page that is only looked at costs the database nothing.
package factor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What a check says besides yes. Any other error is a fault of ours, or the store's.
var (
	// ErrWrong: it is none of this person's, or not good any more.
	ErrWrong = errors.New("not a valid proof")
	// ErrSpent: it was good once.
	ErrSpent = errors.New("used already")
	// ErrStale: the page was open for too long, or in another browser.
	ErrStale = errors.New("the question has ended")
	// ErrCloned: the counter of a passkey went back. Two devices have its key.
	ErrCloned = errors.New("the counter of the passkey went back")
	// ErrTooMany: there were too many wrong codes for this person.
	ErrTooMany = errors.New("too many wrong codes")
	// ErrFull: the person has as many passkeys as one can have.
	ErrFull = errors.New("too many passkeys")
)

// PasskeyStore keeps passkeys.
type PasskeyStore interface {
	AddPasskey(ctx context.Context, k identity.Passkey) error
	Passkey(ctx context.Context, id []byte) (identity.Passkey, identity.Person, error)
	UsePasskey(ctx context.Context, use identity.PasskeyUse) error
	RemovePasskey(ctx context.Context, person identity.PersonID, id []byte) error
}

// CodeStore keeps authenticator apps and says what there is.
type CodeStore interface {
	Factors(ctx context.Context, person identity.PersonID) (identity.Factors, error)
	PutTOTP(ctx context.Context, o identity.TOTP) error
	UseTOTP(ctx context.Context, person identity.PersonID, step int64, at time.Time) error
	RemoveTOTP(ctx context.Context, person identity.PersonID) error
}

// RecoveryStore keeps recovery codes.
type RecoveryStore interface {
	PutRecovery(ctx context.Context, person identity.PersonID, codes []identity.Digest, at time.Time) error
	UseRecovery(ctx context.Context, person identity.PersonID, code identity.Digest, at time.Time) error
}

// Counter counts guesses, over all instances.
type Counter interface {
	Count(ctx context.Context, key string, window time.Time, add int) (int, error)
}

// Once keeps challenges that were answered.
type Once interface {
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
}

// Store is all of them; database has it.
type Store interface {
	PasskeyStore
	CodeStore
	RecoveryStore
	Counter
	Once
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// An Along is done in the transaction that spends a proof, with the context that it is given:
// its line of the audit trail. Its error leaves the proof unspent. It may be called more than
// once. The tries that are counted are no part of that transaction.
type Along func(ctx context.Context, p Proof) error

// spending spends a proof and does what goes along, both or neither.
func (k *Keeper) spending(ctx context.Context, along []Along, spend func(ctx context.Context) (Proof, error)) (proof Proof, err error) {
	err = k.o.Store.Together(ctx, func(ctx context.Context) error {
		if proof, err = spend(ctx); err != nil {
			return err
		}
		for _, do := range along {
			if err := do(ctx, proof); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Proof{}, err
	}
	return proof, nil
}

// Options shape a Keeper.
type Options struct {
	Store     Store
	PublicURL string // of the pages: its host is the relying party
	Name      string // of the service, in the dialogues of devices and apps; empty: the host
	// SealKey seals seeds and ChallengeKey makes challenges: 32 bytes each, the same in all
	// instances.
	SealKey, ChallengeKey []byte

	Now    func() time.Time
	Random io.Reader // crypto/rand.Reader
}

// A Keeper makes and checks factors.
type Keeper struct {
	o   Options
	web *webauthn.WebAuthn // nil: no passkeys at this address
}

const maxPasskeys = 20

// New checks the options.
func New(o Options) (*Keeper, error) {
	u, err := url.Parse(o.PublicURL)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("factors: public URL %q has no host", o.PublicURL)
	}
	if o.Store == nil || o.Now == nil || o.Random == nil || len(o.SealKey) != 32 || len(o.ChallengeKey) != 32 {
		return nil, errors.New("factors: store, clock, randomness or keys are missing")
	}
	if o.Name == "" {
		o.Name = u.Hostname()
	}
	k := &Keeper{o: o}
	if !CanPasskeys(o.PublicURL) {
		return k, nil
	}
	k.web, err = webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: o.Name, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		// Password managers return outputs that nobody asked for; none of them is read.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, fmt.Errorf("factors: passkeys for %s: %w", o.PublicURL, err)
	}
	return k, nil
}

// CanPasskeys reports whether browsers let pages at an address have passkeys: the host is a
// name, and the page came by https or from this machine (WebAuthn level 3 section 5.1.3).
func CanPasskeys(publicURL string) bool {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
		return false
	}
	return u.Scheme == "https" || u.Hostname() == "localhost"
}

// Passkeys reports whether there can be passkeys at the address of the pages.
func (k *Keeper) Passkeys() bool { return k.web != nil }

// Of lists what a person has.
func (k *Keeper) Of(ctx context.Context, person identity.PersonID) (identity.Factors, error) {
	return k.o.Store.Factors(ctx, person)
}

// RemovePasskey takes a passkey away.
func (k *Keeper) RemovePasskey(ctx context.Context, person identity.PersonID, id []byte) error {
	return k.o.Store.RemovePasskey(ctx, person, id)
}

// RemoveTOTP takes the authenticator app away.
func (k *Keeper) RemoveTOTP(ctx context.Context, person identity.PersonID) error {
	return k.o.Store.RemoveTOTP(ctx, person)
}

// How many wrong codes a person may send. Six digits, three of them good at a time: fifty
// tries a day find one in 6,700 days on average.
const (
	triesShort = 10
	triesLong  = 50
	spanShort  = 10 * time.Minute
	spanLong   = 24 * time.Hour
)

// try sets a try aside, in counters that all instances share and that nothing is exempt
// from, before the code is looked at: any number sent at once is counted.
func (k *Keeper) try(ctx context.Context, kind string, person identity.PersonID) (giveBack func(), err error) {
	now := k.o.Now()
	key := "factor/" + kind + "/" + string(person)
	windows := []struct {
		span time.Duration
		stop int
	}{{spanShort, triesShort}, {spanLong, triesLong}}
	full := false
	for _, w := range windows {
		n, err := k.o.Store.Count(ctx, fmt.Sprintf("%s/%s", key, w.span), now.Truncate(w.span), 1)
		if err != nil {
			return nil, fmt.Errorf("count tries: %w", err)
		}
		full = full || n > w.stop
	}
	if full {
		return nil, ErrTooMany
	}
	return func() {
		for _, w := range windows {
			// One try too many stays counted when this fails: the safe side.
			_, _ = k.o.Store.Count(context.WithoutCancel(ctx), fmt.Sprintf("%s/%s", key, w.span), now.Truncate(w.span), -1)
		}
	}, nil
}

// A Proof is a check that succeeded.
type Proof struct {
	Factor identity.Factor
	Name   string // which passkey
	Left   int    // recovery codes, after one was spent
}

// Code checks what somebody typed: a code of the app, or a recovery code.
func (k *Keeper) Code(ctx context.Context, person identity.PersonID, typed string, along ...Along) (Proof, error) {
	if digits, ok := normalDigits(typed); ok {
		return k.totp(ctx, person, digits, along)
	}
	return k.Recover(ctx, person, typed, along...)
}

// remote is for uses that are kept.
func remote(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
