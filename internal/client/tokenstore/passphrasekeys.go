package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// PassphraseKeys keeps the age identity encrypted by a passphrase (age's scrypt), in
// keys/passphrase.age, which `age -d` opens too. The person types it once: the agent
// then holds the identity, and without one each process asks for itself. What slows
// guessing down is scrypt: about a second and 256 MB an attempt.
type PassphraseKeys struct {
	folder          keyFolder
	private, public string
	holder          Keyholder
	ask             Asker

	workFactor int // of scrypt, the exponent; 0: age's own

	mu      sync.Mutex // one question at a time
	refused error      // what came of it: a person who gave up is not asked again
	typed   *age.X25519Identity
}

// An Asker asks the person for one line that is not shown; nil when nobody is there.
type Asker func(ctx context.Context, prompt string) (secret.String, error)

// NewPassphrase returns the key source "passphrase" in folder. Name is that of its
// section, "passphrase" without one.
func NewPassphrase(folder, name string, holder Keyholder, ask Asker) *PassphraseKeys {
	stem := fileStem("passphrase", name)
	return &PassphraseKeys{folder: keyFolder(folder), private: stem + ".age", public: stem + ".pub", holder: holder, ask: ask}
}

// fileStem lets several sections of one source live in a folder.
func fileStem(source, name string) string {
	if name == source || name == "" {
		return source
	}
	return source + "-" + EncodeName(name)
}

const (
	passphraseTries   = 3
	passphraseMinimum = 8 // bytes; scrypt slows guessing, it does not end it
)

// Source is "passphrase".
func (k *PassphraseKeys) Source() string { return "passphrase" }

// Recipient reads the public half; nobody is asked.
func (k *PassphraseKeys) Recipient() (age.Recipient, error) {
	recipient, err := k.folder.recipient(k.public)
	if err != nil {
		return nil, err
	}
	return recipient, nil
}

// Held says whether the keyholder has the identity.
func (k *PassphraseKeys) Held(ctx context.Context) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	recipient, err := k.folder.recipient(k.public)
	if err != nil {
		return false, err
	}
	return k.held(ctx, recipient.String()) != nil, nil
}

// Identity takes the identity from the keyholder, or asks the person and gives it to
// the keyholder. What was typed is good for the life of this process.
func (k *PassphraseKeys) Identity(ctx context.Context) (age.Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	recipient, err := k.folder.recipient(k.public)
	if err != nil {
		return nil, err
	}
	if k.typed != nil {
		return k.typed, nil
	}
	if identity := k.held(ctx, recipient.String()); identity != nil {
		return identity, nil
	}
	if k.refused != nil {
		return nil, k.refused
	}
	identity, err := k.unlock(ctx)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, ErrLocked) && k.ask != nil {
			k.refused = err
		}
		return nil, err
	}
	matched, err := k.folder.matching(k.public, identity)
	if err != nil {
		return nil, err
	}
	k.typed = identity
	k.hold(ctx, identity)
	return matched, nil
}

// held asks the keyholder. One that is away or talks nonsense holds nothing: the
// person can still be asked.
func (k *PassphraseKeys) held(ctx context.Context, recipient string) *age.X25519Identity {
	if k.holder == nil {
		return nil
	}
	text, err := k.holder.Key(ctx, recipient)
	defer clear(text)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		k.holder = nil // it is stuck: waiting once is enough for one process
	}
	if err != nil || text == nil {
		return nil
	}
	identity, err := parseIdentity(text)
	if err != nil || identity.Recipient().String() != recipient {
		return nil
	}
	return identity
}

// hold is a convenience: without it the next process asks again.
func (k *PassphraseKeys) hold(ctx context.Context, identity *age.X25519Identity) {
	if k.holder == nil {
		return
	}
	text := formatIdentity(identity)
	defer clear(text)
	_ = k.holder.Hold(ctx, text)
}

func (k *PassphraseKeys) unlock(ctx context.Context) (*age.X25519Identity, error) {
	sealed, err := k.folder.read(k.private)
	if err != nil {
		return nil, err
	}
	if k.ask == nil {
		return nil, &LockedError{What: "no agent holds the key, and nobody is there to type its passphrase",
			How: "in a terminal: letterlock agent unlock (with the agent running), then try again"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, personLimit, errSilent)
	defer cancel()
	prompt := "passphrase of the key of the stored mail grants (not shown): "
	for range passphraseTries {
		passphrase, err := k.ask(ctx, prompt)
		if err != nil {
			return nil, lockedBy(ctx, err)
		}
		identity, err := k.decrypt(sealed, passphrase)
		if !errors.Is(err, errPassphrase) {
			return identity, err
		}
		prompt = "that is not the passphrase; once more: "
	}
	return nil, &LockedError{What: "the passphrase was wrong each time", How: "try again with the right one"}
}

// lockedBy is a question that got no answer.
func lockedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent) {
		return err // we were told to end
	}
	return fmt.Errorf("nobody typed the passphrase: %w: %w", err, ErrLocked)
}

// errPassphrase means that another one is right.
var errPassphrase = errors.New("wrong passphrase")

func (k *PassphraseKeys) decrypt(sealed []byte, passphrase secret.String) (*age.X25519Identity, error) {
	if passphrase.IsZero() {
		return nil, errPassphrase
	}
	key, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return nil, err
	}
	reader, err := age.Decrypt(bytes.NewReader(sealed), key)
	if mismatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &mismatch) {
		return nil, errPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", k.folder.path(k.private), err, ErrNoKey)
	}
	plain, err := io.ReadAll(io.LimitReader(reader, keyFileLimit))
	defer clear(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", k.folder.path(k.private), err, ErrNoKey)
	}
	identity, err := parseIdentity(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.folder.path(k.private), err)
	}
	return identity, nil
}

// Create has the person choose a passphrase for a new identity unless there is one.
func (k *PassphraseKeys) Create(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.folder.create(ctx, k.Source(), func() error {
		missing, err := k.folder.missing(k.private)
		if err != nil {
			return err
		}
		if missing {
			return k.seal(ctx)
		}
		// Killed between its two files: the public half comes back out of the private one.
		if missing, err := k.folder.missing(k.public); err != nil || !missing {
			return err
		}
		identity, err := k.unlock(ctx)
		if err != nil {
			return err
		}
		return k.folder.publish(k.public, identity)
	})
}

func (k *PassphraseKeys) seal(ctx context.Context) error {
	passphrase, err := k.choose(ctx)
	if err != nil {
		return err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	recipient, err := age.NewScryptRecipient(passphrase.Reveal())
	if err != nil {
		return err
	}
	if k.workFactor != 0 {
		recipient.SetWorkFactor(k.workFactor)
	}
	var sealed bytes.Buffer
	writer, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return err
	}
	plain := formatIdentity(identity)
	defer clear(plain)
	if _, err := writer.Write(plain); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := k.folder.write(k.private, sealed.Bytes()); err != nil {
		return err
	}
	if err := k.folder.publish(k.public, identity); err != nil {
		return err
	}
	k.typed = identity
	k.hold(ctx, identity)
	return nil
}

// choose asks for a new passphrase, twice: a slip would cost all grants.
func (k *PassphraseKeys) choose(ctx context.Context) (secret.String, error) {
	if k.ask == nil {
		return secret.String{}, &LockedError{What: "nobody is there to choose a passphrase",
			How: "run it in a terminal, or take another --key"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*personLimit, errSilent)
	defer cancel()
	prompt := fmt.Sprintf("choose a passphrase for the key of the stored mail grants, at least %d characters (not shown): ", passphraseMinimum)
	for range passphraseTries {
		first, err := k.ask(ctx, prompt)
		if err != nil {
			return secret.String{}, lockedBy(ctx, err)
		}
		if len(first.Reveal()) < passphraseMinimum {
			prompt = fmt.Sprintf("that is shorter than %d; choose another: ", passphraseMinimum)
			continue
		}
		second, err := k.ask(ctx, "the same once more: ")
		if err != nil {
			return secret.String{}, lockedBy(ctx, err)
		}
		if first.Reveal() == second.Reveal() {
			return first, nil
		}
		prompt = "these were not the same; choose a passphrase: "
	}
	return secret.String{}, &LockedError{What: "no passphrase was chosen", How: "try again"}
}
