package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// A keyFolder is the private folder where the key sources keep what they keep on
// disk: a public half each, and the private half plain, encrypted, or not at all.
type keyFolder string

// keyFileLimit bounds every file in it. What an encrypt command makes of 75 bytes
// can be a few kilobytes (S/MIME with its certificates).
const keyFileLimit = 64 << 10

func (f keyFolder) path(file string) string { return filepath.Join(string(f), file) }

// read returns a file's content; ErrNoKey when it or the folder is missing.
func (f keyFolder) read(file string) ([]byte, error) {
	err := atomicfile.CheckFolder(string(f))
	var data []byte
	if err == nil {
		data, err = atomicfile.Read(f.path(file), keyFileLimit)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: %w", f.path(file), ErrNoKey)
	}
	return data, err
}

func (f keyFolder) write(file string, data []byte) error {
	return atomicfile.Write(f.path(file), data, 0o600)
}

// recipient reads a public half.
func (f keyFolder) recipient(file string) (*age.X25519Recipient, error) {
	data, err := f.read(file)
	if err != nil {
		return nil, err
	}
	recipient, err := age.ParseX25519Recipient(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("%s holds no public key: %w", f.path(file), ErrNoKey)
	}
	return recipient, nil
}

// publish writes the public half of identity.
func (f keyFolder) publish(file string, identity *age.X25519Identity) error {
	return f.write(file, []byte(identity.Recipient().String()+"\n"))
}

// matching checks identity against the public half that grants are sealed for. A
// wrong one would open no grant, and the message would accuse the grant.
func (f keyFolder) matching(file string, identity *age.X25519Identity) (age.Identity, error) {
	recipient, err := f.recipient(file)
	if err != nil {
		return nil, err
	}
	if recipient.String() != identity.Recipient().String() {
		return nil, fmt.Errorf("the key is not the private half of %s: %w", f.path(file), ErrNoKey)
	}
	return identity, nil
}

// create runs make under a lock across processes, in a folder that is private and
// there: two sign-ins at once must not make two keys.
func (f keyFolder) create(ctx context.Context, source string, make func() error) error {
	if err := atomicfile.PrivateFolder(string(f)); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, defaultWait, ErrBusy)
	defer cancel()
	lock, err := atomicfile.Acquire(ctx, f.path(source+lockSuffix))
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if err := make(); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	return nil
}

// parseIdentity reads an identity file as age-keygen writes it: comments and one
// key. Its errors quote nothing of the file.
func parseIdentity(data []byte) (*age.X25519Identity, error) {
	var found *age.X25519Identity
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		identity, err := age.ParseX25519Identity(line)
		if err != nil {
			return nil, fmt.Errorf("not an age identity: %w", ErrNoKey)
		}
		if found != nil {
			return nil, fmt.Errorf("more than one age identity: %w", ErrNoKey)
		}
		found = identity
	}
	if found == nil {
		return nil, fmt.Errorf("no age identity in it: %w", ErrNoKey)
	}
	return found, nil
}

func formatIdentity(identity *age.X25519Identity) []byte {
	return fmt.Appendf(nil, "# Letterlock: the key of the stored mail grants\n# public key: %s\n%s\n",
		identity.Recipient(), identity)
}

// missing tells a file that was never there from one that cannot be read or
// understood: only the first may be made anew.
func (f keyFolder) missing(file string) (bool, error) {
	_, err := os.Lstat(f.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
