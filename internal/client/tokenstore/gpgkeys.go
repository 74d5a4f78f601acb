package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// GPGKeys keeps the age identity encrypted to a person's OpenPGP key, in
// keys/identity.gpg. The program gpg does it, and not a library, because it knows
// gpg-agent, its cached passphrases, and smart cards.
type GPGKeys struct {
	folder keyFolder
	key    string
	where  Surroundings
}

const (
	gpgPrivate = "identity.gpg"
	gpgPublic  = "gpg.pub"
)

// NewGPG returns the key source "gpg" in folder. Key is what gpg's --recipient
// takes (a fingerprint is best), empty for gpg's default key; only Create uses it.
func NewGPG(folder, key string, where Surroundings) *GPGKeys {
	return &GPGKeys{folder: keyFolder(folder), key: key, where: where}
}

// Source is "gpg".
func (k *GPGKeys) Source() string { return "gpg" }

// Recipient reads the public half; gpg is not asked.
func (k *GPGKeys) Recipient() (age.Recipient, error) {
	recipient, err := k.folder.recipient(gpgPublic)
	if err != nil {
		return nil, err
	}
	return recipient, nil
}

// Identity has gpg decrypt the identity. gpg-agent may ask for the passphrase or the
// card's PIN when a person is there; otherwise only a passphrase that it remembers
// or a key without one will do.
func (k *GPGKeys) Identity(ctx context.Context) (age.Identity, error) {
	// One bound for both runs of gpg.
	ctx, cancel := context.WithTimeoutCause(ctx, k.where.patience(), errSilent)
	defer cancel()
	identity, err := k.identity(ctx)
	if err != nil {
		return nil, err
	}
	return k.folder.matching(gpgPublic, identity)
}

func (k *GPGKeys) identity(ctx context.Context) (*age.X25519Identity, error) {
	sealed, err := k.folder.read(gpgPrivate)
	if err != nil {
		return nil, err
	}
	plain, stderr, err := k.gpg(ctx, sealed, "--decrypt")
	if err != nil {
		return nil, k.explain(ctx, stderr, err)
	}
	defer clear(plain)
	identity, err := parseIdentity(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.folder.path(gpgPrivate), err)
	}
	return identity, nil
}

// gpg runs gpg. It is always in batch mode: all asking is left to gpg-agent, which
// does it on GPG_TTY or the display. Telling the agent not to ask is not --batch but
// the pinentry mode; "error" still uses a remembered passphrase and needs no
// permission for loopback.
func (k *GPGKeys) gpg(ctx context.Context, stdin []byte, args ...string) ([]byte, string, error) {
	argv := []string{"gpg", "--batch", "--no-tty", "--quiet", "--status-fd", "2"}
	if !k.where.person() {
		argv = append(argv, "--pinentry-mode", "error")
	}
	return program{argv: append(argv, args...), stdin: stdin, where: k.where}.run(ctx)
}

// explain finds out what a failed decryption means. gpg says "No secret key" for a
// locked key, a cancelled question and a missing key alike, so it is asked once more
// whether it has that key.
func (k *GPGKeys) explain(ctx context.Context, stderr string, cause error) error {
	if errors.Is(cause, errSilent) {
		return fmt.Errorf("%w: %w", cause, ErrLocked)
	}
	end := (*failure)(nil)
	switch {
	case errors.As(cause, &end) && end.interrupted():
		return fmt.Errorf("%w: %w", cause, ErrLocked)
	case end == nil || end.status < 0:
		return cause
	}
	holders := statusLines(stderr, "ENC_TO")
	// With DECRYPTION_INFO gpg had the key, and what it opened with it is broken.
	if len(holders) == 0 || len(statusLines(stderr, "DECRYPTION_INFO")) > 0 {
		return fmt.Errorf("gpg cannot read %s: %w", k.folder.path(gpgPrivate), ErrNoKey)
	}
	for _, holder := range holders {
		id, _, _ := strings.Cut(holder, " ")
		if secrets, err := listSecretKeys(ctx, k.where, id); err != nil || len(secrets) > 0 {
			return fmt.Errorf("gpg did not get the passphrase or PIN of key %s: %w", cli.Line(id), ErrLocked)
		}
	}
	return fmt.Errorf("gpg has no secret key to open %s: %w", k.folder.path(gpgPrivate), ErrNoKey)
}

// statusLines picks the machine-readable lines of one kind out of what gpg wrote
// (doc/DETAILS of GnuPG).
func statusLines(stderr, keyword string) []string {
	var found []string
	for line := range strings.Lines(stderr) {
		if rest, ok := strings.CutPrefix(line, "[GNUPG:] "+keyword+" "); ok {
			found = append(found, strings.TrimSpace(rest))
		}
	}
	return found
}

// Create has gpg encrypt a new identity unless there is one.
func (k *GPGKeys) Create(ctx context.Context) error {
	return k.folder.create(ctx, k.Source(), func() error {
		missing, err := k.folder.missing(gpgPrivate)
		if err != nil {
			return err
		}
		if missing {
			return k.encrypt(ctx)
		}
		// Killed between its two files: the public half comes back out of the private one.
		if missing, err := k.folder.missing(gpgPublic); err != nil || !missing {
			return err
		}
		identity, err := k.identity(ctx)
		if err != nil {
			return err
		}
		return k.folder.publish(gpgPublic, identity)
	})
}

func (k *GPGKeys) encrypt(ctx context.Context) error {
	secrets, err := listSecretKeys(ctx, k.where, k.key)
	if err != nil {
		return err
	}
	// Encrypting to a key whose secret half is elsewhere works and is never undone.
	if !canDecrypt(secrets) {
		return fmt.Errorf("gpg has no secret key %q that can decrypt: %w", k.key, ErrNoKey)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	// The person named the key as their own: how gpg came to trust it does not matter.
	// Other recipients out of gpg.conf could open the grants too.
	args := []string{"--trust-model", "always", "--no-encrypt-to", "--encrypt"}
	if k.key == "" {
		args = append(args, "--default-recipient-self")
	} else {
		args = append(args, "--recipient", k.key)
	}
	plain := formatIdentity(identity)
	defer clear(plain)
	sealed, _, err := k.gpg(ctx, plain, args...)
	if err != nil {
		return err
	}
	if err := k.folder.write(gpgPrivate, sealed); err != nil {
		return err
	}
	return k.folder.publish(gpgPublic, identity)
}

// listSecretKeys returns gpg's list in its colon format; nothing when there is no
// such key.
func listSecretKeys(ctx context.Context, where Surroundings, key string) ([][]string, error) {
	argv := []string{"gpg", "--batch", "--no-tty", "--quiet", "--with-colons", "--list-secret-keys"}
	if key != "" {
		argv = append(argv, "--", key)
	}
	out, _, err := program{argv: argv, where: where}.run(ctx)
	if end := (*failure)(nil); errors.As(err, &end) && end.status > 0 {
		return nil, nil // gpg's way to say that there is none
	}
	if err != nil {
		return nil, err
	}
	return parseColons(out), nil
}

// parseColons splits gpg's colon format into records and fields.
func parseColons(out []byte) [][]string {
	var records [][]string
	for line := range bytes.Lines(out) {
		records = append(records, strings.Split(strings.TrimSpace(string(line)), ":"))
	}
	return records
}

// canDecrypt looks for a key or subkey that is neither expired nor revoked and has
// the capability "e". Field 2 is the validity, field 12 the capabilities.
func canDecrypt(records [][]string) bool {
	for _, field := range records {
		secret := field[0] == "sec" || field[0] == "ssb"
		if secret && len(field) > 11 && !strings.ContainsAny(field[1], "idren") && strings.Contains(field[11], "e") {
			return true
		}
	}
	return false
}
