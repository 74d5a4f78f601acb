package tokenstore

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/age"
)

// KeyringKeys keeps the age identity in the desktop's keyring through the Secret
// Service API. On disk there is only the public half, keys/keyring.pub, which also
// says which item of the keyring is ours: several stores can share a keyring.
type KeyringKeys struct {
	folder keyFolder
	where  Surroundings
}

const keyringPublic = "keyring.pub"

// NewKeyring returns the key source "keyring" in folder.
func NewKeyring(folder string, where Surroundings) *KeyringKeys {
	return &KeyringKeys{folder: keyFolder(folder), where: where}
}

// Source is "keyring".
func (k *KeyringKeys) Source() string { return "keyring" }

// Recipient reads the public half; the keyring is not asked.
func (k *KeyringKeys) Recipient() (age.Recipient, error) {
	recipient, err := k.folder.recipient(keyringPublic)
	if err != nil {
		return nil, err
	}
	return recipient, nil
}

// Identity gets the identity out of the keyring. A locked one is unlocked by its own
// dialogue when a person is there. A keyring out of reach, as cron's, counts as
// locked: the key is there, and asking again from a login session helps.
func (k *KeyringKeys) Identity(ctx context.Context) (age.Identity, error) {
	ctx, cancel := k.bound(ctx)
	defer cancel()
	recipient, err := k.folder.recipient(keyringPublic)
	if err != nil {
		return nil, err
	}
	service, err := dialSecrets(ctx, k.where)
	if err != nil {
		return nil, outOfReach(ctx, err)
	}
	defer service.close()
	identity, err := k.fetch(service, recipient)
	if err != nil {
		return nil, err
	}
	return k.folder.matching(keyringPublic, identity)
}

func (k *KeyringKeys) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, k.where.patience(), errSilent)
}

// outOfReach makes an ErrLocked of a keyring that cannot be asked now.
func outOfReach(ctx context.Context, err error) error {
	if errors.Is(err, ErrLocked) || errors.Is(context.Cause(ctx), context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrLocked)
}

func (k *KeyringKeys) fetch(service *secretService, recipient *age.X25519Recipient) (*age.X25519Identity, error) {
	item, err := service.search(keyringSearch(recipient))
	if err != nil {
		return nil, err
	}
	if item == noObject {
		return nil, fmt.Errorf("the keyring has no item for %s: %w", k.folder.path(keyringPublic), ErrNoKey)
	}
	if err := service.unlock(item, k.where.person()); err != nil {
		return nil, err
	}
	secret, err := service.get(item)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	identity, err := parseIdentity(secret)
	if err != nil {
		return nil, fmt.Errorf("the keyring's item: %w", err)
	}
	return identity, nil
}

// keyringAttributes find the item again. They are readable by every program of the
// session, and by whoever copies the keyring's file.
func keyringAttributes(recipient *age.X25519Recipient) map[string]string {
	return map[string]string{
		"xdg:schema": "com.github.letterlock-mail.GrantKey",
		"recipient":  recipient.String(),
	}
}

// keyringSearch is what an item of ours is looked for by. Not by its schema: of a
// keyring that nobody has unlocked since the log-in gnome-keyring knows the other
// attributes, as hashes, but takes every item for a generic one.
func keyringSearch(recipient *age.X25519Recipient) map[string]string {
	return map[string]string{"recipient": recipient.String()}
}

// Create puts a new identity into the default keyring unless ours is there. Only a
// keyring that was searched and has none gets a new one.
func (k *KeyringKeys) Create(ctx context.Context) error {
	return k.folder.create(ctx, k.Source(), func() error {
		ctx, cancel := k.bound(ctx)
		defer cancel()
		service, err := dialSecrets(ctx, k.where)
		if err != nil {
			return outOfReach(ctx, err)
		}
		defer service.close()
		there, err := k.there(service)
		if err != nil || there {
			return err
		}
		return k.store(service)
	})
}

func (k *KeyringKeys) there(service *secretService) (bool, error) {
	missing, err := k.folder.missing(keyringPublic)
	if err != nil || missing {
		return false, err
	}
	recipient, err := k.folder.recipient(keyringPublic)
	if err != nil {
		return false, err
	}
	item, err := service.search(keyringSearch(recipient))
	return item != noObject, err
}

func (k *KeyringKeys) store(service *secretService) error {
	collection, err := service.defaultCollection()
	if err != nil {
		return outOfReach(service.ctx, err)
	}
	if err := service.unlock(collection, k.where.person()); err != nil {
		return err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	secret := formatIdentity(identity)
	defer clear(secret)
	attributes := keyringAttributes(identity.Recipient())
	if err := service.put(collection, "Letterlock: key of the stored mail grants", attributes, secret); err != nil {
		return err
	}
	// What it took it must give back before any grant depends on it.
	back, err := k.fetch(service, identity.Recipient())
	if err != nil {
		return err
	}
	if back.String() != identity.String() {
		return fmt.Errorf("the keyring gives back another key: %w", ErrNoKey)
	}
	// Last: a kill before this leaves an item that nothing uses, and no broken store.
	return k.folder.publish(keyringPublic, identity)
}
