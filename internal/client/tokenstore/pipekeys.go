package tokenstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"filippo.io/age"
)

// PipeKeys keeps the age identity encrypted by any pair of programs, in
// keys/identity.piped: one that encrypts from standard input to standard output, and
// one that decrypts. What the first writes is given to the second, so a password
// store works as well, which keeps the text itself and writes nothing.
type PipeKeys struct {
	folder           keyFolder
	encrypt, decrypt []string
	where            Surroundings
}

const (
	pipePrivate = "identity.piped"
	pipePublic  = "pipe.pub"
)

// NewPipe returns the key source "pipe" in folder. The commands are argument lists;
// no shell sees them. Encrypt may be empty once Create has run.
func NewPipe(folder string, encrypt, decrypt []string, where Surroundings) *PipeKeys {
	return &PipeKeys{folder: keyFolder(folder), encrypt: encrypt, decrypt: decrypt, where: where}
}

// Source is "pipe".
func (k *PipeKeys) Source() string { return "pipe" }

// Recipient reads the public half; no program is run.
func (k *PipeKeys) Recipient() (age.Recipient, error) {
	recipient, err := k.folder.recipient(pipePublic)
	if err != nil {
		return nil, err
	}
	return recipient, nil
}

// Identity runs the decrypt command. It may ask a person on the terminal; without
// one it has no terminal and four seconds.
func (k *PipeKeys) Identity(ctx context.Context) (age.Identity, error) {
	sealed, err := k.folder.read(pipePrivate)
	if err != nil {
		return nil, err
	}
	identity, err := k.open(ctx, sealed)
	if err != nil {
		return nil, err
	}
	return k.folder.matching(pipePublic, identity)
}

func (k *PipeKeys) open(ctx context.Context, sealed []byte) (*age.X25519Identity, error) {
	if len(k.decrypt) == 0 {
		return nil, fmt.Errorf("no decrypt command is configured: %w", ErrNoKey)
	}
	plain, _, err := program{argv: k.decrypt, stdin: sealed, where: k.where}.run(ctx)
	end := (*failure)(nil)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("decrypt command %w", err)
	case errors.Is(err, errSilent), errors.As(err, &end) && (end.status > 0 || end.interrupted()):
		// Why it refused is not ours to know; a locked agent is the usual reason.
		return nil, fmt.Errorf("decrypt command %w: %w", err, ErrLocked)
	default:
		return nil, fmt.Errorf("decrypt command %w: %w", err, ErrNoKey)
	}
	defer clear(plain)
	identity, err := parseIdentity(plain)
	if err != nil {
		return nil, fmt.Errorf("what the decrypt command wrote: %w", err)
	}
	return identity, nil
}

// Create encrypts a new identity unless there is one, and proves that the other
// command gives it back, before any grant depends on it.
func (k *PipeKeys) Create(ctx context.Context) error {
	return k.folder.create(ctx, k.Source(), func() error {
		missing, err := k.folder.missing(pipePrivate)
		if err != nil {
			return err
		}
		if missing {
			return k.seal(ctx)
		}
		// Killed between its two files: the public half comes back out of the private one.
		if missing, err := k.folder.missing(pipePublic); err != nil || !missing {
			return err
		}
		sealed, err := k.folder.read(pipePrivate)
		if err != nil {
			return err
		}
		identity, err := k.open(ctx, sealed)
		if err != nil {
			return err
		}
		return k.folder.publish(pipePublic, identity)
	})
}

func (k *PipeKeys) seal(ctx context.Context) error {
	if len(k.encrypt) == 0 {
		return fmt.Errorf("no encrypt command is configured: %w", ErrNoKey)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	plain := formatIdentity(identity)
	defer clear(plain)
	sealed, _, err := program{argv: k.encrypt, stdin: plain, where: k.where}.run(ctx)
	if err != nil {
		return fmt.Errorf("encrypt command %w", err)
	}
	// Someone may configure cat, or base64, to see whether it works.
	if readable(sealed, identity) {
		return fmt.Errorf("the encrypt command does not encrypt: its output holds the key: %w", ErrNoKey)
	}
	back, err := k.open(ctx, sealed)
	if err != nil {
		return err
	}
	if back.String() != identity.String() {
		return fmt.Errorf("the decrypt command gives back another key: %w", ErrNoKey)
	}
	if err := k.folder.write(pipePrivate, sealed); err != nil {
		return err
	}
	return k.folder.publish(pipePublic, identity)
}

// readable finds the key in text as it is, in another case, and as base64 would
// show it at each of the three places in a group that it can start at.
func readable(sealed []byte, identity *age.X25519Identity) bool {
	key := []byte(identity.String())
	if bytes.Contains(bytes.ToUpper(sealed), key) {
		return true
	}
	bare := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, sealed)
	for skip := range 3 {
		// Whole groups of three bytes look the same wherever they stand.
		whole := key[skip : skip+(len(key)-skip)/3*3]
		if bytes.Contains(bare, []byte(base64.StdEncoding.EncodeToString(whole))) {
			return true
		}
	}
	return false
}
