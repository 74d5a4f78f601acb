package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// A LockedError is an ErrLocked that knows what helps.
type LockedError struct {
	What string // one line
	How  string // what to do about it, one line
}

// Error is what is wrong.
func (e *LockedError) Error() string { return e.What }

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// outsideKeys is what the sources systemd and command have in common: the identity is
// kept elsewhere and only read; here is its public half.
type outsideKeys struct {
	folder keyFolder
	source string
	public string // the file
	known  string // the public half by configuration, "" when it does not say
	fetch  func(ctx context.Context) (*age.X25519Identity, error)
}

// Source implements Keys.
func (k *outsideKeys) Source() string { return k.source }

// Recipient reads the public half; the identity is not fetched.
func (k *outsideKeys) Recipient() (age.Recipient, error) {
	recipient, err := k.folder.recipient(k.public)
	if err != nil {
		return nil, err
	}
	return recipient, nil
}

// Identity fetches the identity.
func (k *outsideKeys) Identity(ctx context.Context) (age.Identity, error) {
	// First: who never signed in with it need not be told how to unlock it.
	if _, err := k.folder.recipient(k.public); err != nil {
		return nil, err
	}
	identity, err := k.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return k.folder.matching(k.public, identity)
}

// Create notes the public half, of the identity that must be there already or of the
// configuration. Making one is not ours: whoever keeps it must be given it.
func (k *outsideKeys) Create(ctx context.Context) error {
	return k.folder.create(ctx, k.source, func() error {
		if missing, err := k.folder.missing(k.public); err != nil || !missing {
			return err
		}
		if k.known != "" {
			recipient, err := age.ParseX25519Recipient(k.known)
			if err != nil {
				return fmt.Errorf("recipient of the key source %s is no public key: %w", k.source, ErrNoKey)
			}
			return k.folder.write(k.public, []byte(recipient.String()+"\n"))
		}
		identity, err := k.fetch(ctx)
		if err != nil {
			return err
		}
		return k.folder.publish(k.public, identity)
	})
}

// CommandKeys takes the age identity from what a command prints, `pass show letterlock`
// for example.
type CommandKeys struct{ outsideKeys }

// NewCommand returns the key source "command" in folder. Command is an argument list;
// no shell sees it. It may ask a person on the terminal; without one it has no terminal
// and four seconds. Name is that of its section, known the public half if it is known.
func NewCommand(folder, name string, command []string, known string, where Surroundings) *CommandKeys {
	return &CommandKeys{outsideKeys{folder: keyFolder(folder), source: "command", public: fileStem("command", name) + ".pub", known: known,
		fetch: func(ctx context.Context) (*age.X25519Identity, error) { return fromCommand(ctx, command, where) }}}
}

func fromCommand(ctx context.Context, command []string, where Surroundings) (*age.X25519Identity, error) {
	if len(command) == 0 {
		return nil, fmt.Errorf("no command is configured: %w", ErrNoKey)
	}
	plain, _, err := program{argv: command, where: where}.run(ctx)
	end := (*failure)(nil)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("command %w", err)
	case errors.Is(err, errSilent), errors.As(err, &end) && (end.status > 0 || end.interrupted()):
		// Why it refused is not ours to know; a locked password store is the usual reason.
		return nil, fmt.Errorf("command %w: %w", err, ErrLocked)
	default:
		return nil, fmt.Errorf("command %w: %w", err, ErrNoKey)
	}
	defer clear(plain)
	identity, err := parseIdentity(plain)
	if err != nil {
		return nil, fmt.Errorf("what the command printed: %w", err)
	}
	return identity, nil
}

// SystemdKeys takes the age identity from a credential of the unit that this runs in
// (systemd.exec(5), LoadCredential= and LoadCredentialEncrypted=: the service manager
// has decrypted the latter before we see it).
type SystemdKeys struct{ outsideKeys }

// DefaultCredential is the name of the credential unless configured.
const DefaultCredential = "letterlock-key"

// NewSystemd returns the key source "systemd" in folder. Credential is the credential's
// name, "" for DefaultCredential; name that of its section, known the public half if it
// is known.
func NewSystemd(folder, name, credential, known string, where Surroundings) *SystemdKeys {
	if credential == "" {
		credential = DefaultCredential
	}
	return &SystemdKeys{outsideKeys{folder: keyFolder(folder), source: "systemd", public: fileStem("systemd", name) + ".pub", known: known,
		fetch: func(context.Context) (*age.X25519Identity, error) {
			return fromCredential(where.getenv("CREDENTIALS_DIRECTORY"), credential)
		}}}
}

func fromCredential(folder, credential string) (*age.X25519Identity, error) {
	how := fmt.Sprintf("the unit needs LoadCredentialEncrypted=%s; for one command: systemd-run --pty --pipe -p LoadCredentialEncrypted=%s letterlock ...; see letterlock help keys", credential, credential)
	if folder == "" {
		return nil, &LockedError{What: "the key is a systemd credential, and this runs in no unit that has it", How: how}
	}
	if !filepath.IsAbs(folder) || !filepath.IsLocal(credential) || filepath.Base(credential) != credential {
		return nil, fmt.Errorf("%q in %q can be no credential: %w", credential, folder, ErrNoKey)
	}
	data, err := readCredential(filepath.Join(folder, credential))
	defer clear(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &LockedError{What: fmt.Sprintf("this unit has no credential %s", credential), How: how}
	}
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w: %w", err, ErrNoKey)
	}
	identity, err := parseIdentity(data)
	if err != nil {
		return nil, fmt.Errorf("the credential %s: %w", credential, err)
	}
	return identity, nil
}

// readCredential is not atomicfile.Read: credentials belong to root or to us by an
// access list, which looks like a mode that lets others read. Their folder is the
// service manager's, which has looked after that.
func readCredential(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, keyFileLimit+1))
	if err == nil && len(data) > keyFileLimit {
		err = errors.New("it is larger than 64 KiB")
	}
	return data, err
}

// NewIdentity makes an identity for sources that are given one: its text, and its
// public half.
func NewIdentity() (text []byte, recipient string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, "", err
	}
	return formatIdentity(identity), identity.Recipient().String(), nil
}
