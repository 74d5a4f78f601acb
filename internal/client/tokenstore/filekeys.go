package tokenstore

import (
	"context"
	"fmt"

	"filippo.io/age"
)

// FileKeys keeps the age identity in a plain file, keys/identity.age-key. Whoever
// reads the disk can use the grants; programs that run with nobody there need no
// more than the file's rights.
type FileKeys struct{ folder keyFolder }

const identityFile = "identity.age-key"

// NewFile returns the key source "file" in folder.
func NewFile(folder string) *FileKeys { return &FileKeys{keyFolder(folder)} }

// Source is "file".
func (k *FileKeys) Source() string { return "file" }

// Recipient reads the identity: there is no separate public half that could differ.
func (k *FileKeys) Recipient() (age.Recipient, error) {
	identity, err := k.identity()
	if err != nil {
		return nil, err
	}
	return identity.Recipient(), nil
}

// Identity reads the identity. It never asks anybody.
func (k *FileKeys) Identity(context.Context) (age.Identity, error) {
	identity, err := k.identity()
	if err != nil {
		return nil, err
	}
	return identity, nil
}

func (k *FileKeys) identity() (*age.X25519Identity, error) {
	data, err := k.folder.read(identityFile)
	if err != nil {
		return nil, err
	}
	identity, err := parseIdentity(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.folder.path(identityFile), err)
	}
	return identity, nil
}

// Create makes an identity unless there is one. One that cannot be read is left
// alone: replacing it would make all grants worthless.
func (k *FileKeys) Create(ctx context.Context) error {
	return k.folder.create(ctx, k.Source(), func() error {
		missing, err := k.folder.missing(identityFile)
		if err != nil {
			return err
		}
		if !missing {
			_, err := k.identity()
			return err
		}
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		return k.folder.write(identityFile, formatIdentity(identity))
	})
}
