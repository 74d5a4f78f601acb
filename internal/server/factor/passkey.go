package factor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	// maxAnswer is more than any answer without attestation needs.
	maxAnswer  = 32 << 10
	maxKeyName = 60
	maxKeyID   = 1023 // WebAuthn level 3 section 4
)

// A holder is a person as the library wants them.
type holder struct {
	person identity.Person
	keys   []identity.Passkey
}

// WebAuthnID is the user handle. A person's id is no name of theirs and never changes.
func (h holder) WebAuthnID() []byte   { return []byte(h.person.ID) }
func (h holder) WebAuthnName() string { return h.person.Address }
func (h holder) WebAuthnDisplayName() string {
	if h.person.Name != "" {
		return h.person.Name
	}
	return h.person.Address
}

func (h holder) WebAuthnCredentials() []webauthn.Credential {
	all := make([]webauthn.Credential, 0, len(h.keys))
	for _, key := range h.keys {
		c := webauthn.Credential{ID: key.ID, PublicKey: key.PublicKey, AttestationFormat: "none",
			Flags:         webauthn.CredentialFlags{UserPresent: true, UserVerified: true, BackupEligible: key.Synced, BackupState: key.Saved},
			Authenticator: webauthn.Authenticator{SignCount: key.Count}}
		for _, t := range key.Transports {
			c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
		}
		all = append(all, c)
	}
	return all
}

// NewPasskey is the question that makes a device make a passkey, as JSON for the page. The
// purpose and the browser come again with the answer.
func (k *Keeper) NewPasskey(ctx context.Context, purpose, browser string, person identity.Person) (string, error) {
	challenge, err := k.challenge("new "+purpose, browser, string(person.ID))
	if err != nil {
		return "", err
	}
	options, _, err := k.creation(ctx, person, challenge)
	if err != nil {
		return "", err
	}
	return encode(options)
}

// creation makes options and session data of a challenge: the same each time, so that
// nothing has to be kept in between.
func (k *Keeper) creation(ctx context.Context, person identity.Person, challenge []byte) (*protocol.CredentialCreation, *webauthn.SessionData, error) {
	if k.web == nil {
		return nil, nil, errors.New("no passkeys at this address")
	}
	f, err := k.o.Store.Factors(ctx, person.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("find passkeys: %w", err)
	}
	if len(f.Passkeys) >= maxPasskeys {
		return nil, nil, ErrFull
	}
	h := holder{person, f.Passkeys}
	var there []protocol.CredentialDescriptor
	for _, c := range h.WebAuthnCredentials() {
		there = append(there, c.Descriptor())
	}
	return k.web.BeginRegistration(h, webauthn.WithExclusions(there), func(o *protocol.PublicKeyCredentialCreationOptions) error {
		o.Challenge = challenge
		return nil
	})
}

func encode(options any) (string, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return "", fmt.Errorf("write options: %w", err)
	}
	return string(text), nil
}

// AddPasskey checks the answer to NewPasskey and keeps the passkey.
func (k *Keeper) AddPasskey(ctx context.Context, purpose, browser string, person identity.Person, name, answer string) (identity.Passkey, error) {
	var none identity.Passkey
	if k.web == nil || len(answer) > maxAnswer {
		return none, ErrWrong
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return none, wrong(err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(parsed.Response.CollectedClientData.Challenge)
	if err != nil || !k.ours(challenge, "new "+purpose, browser, string(person.ID)) {
		return none, ErrStale
	}
	_, session, err := k.creation(ctx, person, challenge)
	if err != nil {
		return none, err
	}
	made, err := k.web.CreateCredential(holder{person: person}, *session, parsed)
	if err != nil {
		return none, wrong(err)
	}
	if len(made.ID) == 0 || len(made.ID) > maxKeyID {
		return none, wrong(errors.New("credential id of a length that none has"))
	}
	key := identity.Passkey{
		ID: made.ID, Person: person.ID, Name: keyName(name), PublicKey: made.PublicKey, Count: made.Authenticator.SignCount,
		Synced: made.Flags.BackupEligible, Saved: made.Flags.BackupState, Transports: transports(made.Transport), Created: k.o.Now(),
	}
	if err := k.spend(ctx, challenge); err != nil {
		return none, err
	}
	err = k.o.Store.AddPasskey(ctx, key)
	if errors.Is(err, identity.ErrExists) {
		return none, ErrSpent
	}
	if err != nil {
		return none, fmt.Errorf("keep passkey: %w", err)
	}
	return key, nil
}

// transports keeps those that the specification names: they come from the browser and go
// back to it.
func transports(all []protocol.AuthenticatorTransport) []string {
	var known []string
	for _, t := range all {
		switch t {
		case protocol.USB, protocol.NFC, protocol.BLE, protocol.Hybrid, protocol.Internal, protocol.SmartCard:
			known = append(known, string(t))
		}
	}
	return known
}

// keyName is a line that can be shown, and never empty.
func keyName(name string) string {
	name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, ""), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if utf8.RuneCountInString(name) > maxKeyName {
		name = strings.TrimSpace(string([]rune(name)[:maxKeyName]))
	}
	if name == "" {
		return "Passkey"
	}
	return name
}

// wrong keeps the library's reason for the log. It quotes what came, so logs show it as text.
func wrong(err error) error {
	var fault *protocol.Error
	if errors.As(err, &fault) {
		return fmt.Errorf("%w: %s: %s", ErrWrong, fault.Details, fault.DevInfo)
	}
	return fmt.Errorf("%w: %v", ErrWrong, err)
}

// Ask is the question that makes a device prove a passkey: one of the person's, or when
// person is nil any that the browser knows for these pages.
func (k *Keeper) Ask(ctx context.Context, purpose, browser string, person *identity.Person) (string, error) {
	challenge, err := k.challenge("prove "+purpose, browser, idOf(person))
	if err != nil {
		return "", err
	}
	options, _, err := k.request(ctx, person, challenge)
	if err != nil {
		return "", err
	}
	return encode(options)
}

func idOf(person *identity.Person) string {
	if person == nil {
		return ""
	}
	return string(person.ID)
}

func (k *Keeper) request(ctx context.Context, person *identity.Person, challenge []byte) (*protocol.CredentialAssertion, *webauthn.SessionData, error) {
	if k.web == nil {
		return nil, nil, errors.New("no passkeys at this address")
	}
	if person == nil {
		return k.web.BeginDiscoverableLogin(webauthn.WithChallenge(challenge))
	}
	f, err := k.o.Store.Factors(ctx, person.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("find passkeys: %w", err)
	}
	if len(f.Passkeys) == 0 {
		return nil, nil, ErrWrong
	}
	return k.web.BeginLogin(holder{*person, f.Passkeys}, webauthn.WithChallenge(challenge))
}

// Prove checks the answer to Ask and says whose passkey it was. The passkey is used by
// then: the same answer is worth nothing again. With ErrCloned the person is told too.
func (k *Keeper) Prove(ctx context.Context, purpose, browser string, person *identity.Person, from netip.Addr, answer string, along ...Along) (identity.Person, Proof, error) {
	var nobody identity.Person
	if k.web == nil || len(answer) > maxAnswer {
		return nobody, Proof{}, ErrWrong
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return nobody, Proof{}, wrong(err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(parsed.Response.CollectedClientData.Challenge)
	if err != nil || !k.ours(challenge, "prove "+purpose, browser, idOf(person)) {
		return nobody, Proof{}, ErrStale
	}
	key, owner, err := k.o.Store.Passkey(ctx, parsed.RawID)
	if errors.Is(err, identity.ErrNotFound) || err == nil && person != nil && owner.ID != person.ID {
		return nobody, Proof{}, fmt.Errorf("%w: a passkey that is not known here", ErrWrong)
	}
	if err != nil {
		return nobody, Proof{}, fmt.Errorf("find passkey: %w", err)
	}
	used, err := k.validate(ctx, person, holder{owner, []identity.Passkey{key}}, challenge, parsed)
	if err != nil {
		return nobody, Proof{}, err
	}
	if err := k.spend(ctx, challenge); err != nil {
		return nobody, Proof{}, err
	}
	if used.Authenticator.CloneWarning {
		return owner, Proof{Name: key.Name}, ErrCloned
	}
	use := identity.PasskeyUse{ID: key.ID, Count: used.Authenticator.SignCount, Saved: used.Flags.BackupState, At: k.o.Now(), From: remote(from)}
	proof, err := k.spending(ctx, along, func(ctx context.Context) (Proof, error) {
		return Proof{Factor: identity.ByPasskey, Name: key.Name}, k.o.Store.UsePasskey(ctx, use)
	})
	switch {
	case errors.Is(err, identity.ErrDecided):
		return owner, Proof{Name: key.Name}, ErrCloned
	case errors.Is(err, identity.ErrRevoked), errors.Is(err, identity.ErrNotFound):
		return nobody, Proof{}, fmt.Errorf("%w: %w", ErrWrong, err)
	case err != nil:
		return nobody, Proof{}, fmt.Errorf("note use of passkey: %w", err)
	}
	return owner, proof, nil
}

// validate has the library check origin, relying party, flags and signature.
func (k *Keeper) validate(ctx context.Context, person *identity.Person, h holder, challenge []byte, parsed *protocol.ParsedCredentialAssertionData) (*webauthn.Credential, error) {
	_, session, err := k.request(ctx, person, challenge)
	if err != nil {
		return nil, err
	}
	var used *webauthn.Credential
	if person == nil {
		_, used, err = k.web.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return h, nil }, *session, parsed)
	} else {
		// One of those that were asked for, which are all of the person's.
		session.AllowedCredentialIDs = [][]byte{h.keys[0].ID}
		used, err = k.web.ValidateLogin(h, *session, parsed)
	}
	if err != nil {
		return nil, wrong(err)
	}
	return used, nil
}
