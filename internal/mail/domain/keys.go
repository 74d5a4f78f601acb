package domain

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// An Algorithm is a kind of key.
type Algorithm string

// The algorithms. RSA-4096 is left out: its record is more than many zone editors and
// resolvers take, and RFC 8301 section 3.2 asks no verifier to go beyond 4096.
const (
	Ed25519 Algorithm = "ed25519"  // RFC 8463
	RSA2048 Algorithm = "rsa-2048" // the one that everybody verifies
	RSA3072 Algorithm = "rsa-3072"
)

var (
	// ErrNoKeys means that a domain has no key that signs.
	ErrNoKeys = errors.New("no DKIM key")
	// ErrExists means that the selector is taken: a key is never overwritten.
	ErrExists = errors.New("there is a key of this selector")
	// ErrKey means a key file that holds no key that can be used.
	ErrKey = errors.New("not a usable DKIM key")
	// ErrSigning means that a key cannot be removed because it signs.
	ErrSigning = errors.New("this key signs")
)

const (
	keyLimit   = 16 << 10
	keySuffix  = ".pem"
	signing    = "signing" // the selectors whose keys sign, one a line
	pemPrivate = "PRIVATE KEY"
)

// A Key is one DKIM key pair. Its private half stays in here.
type Key struct {
	Domain    string
	Selector  string
	Algorithm Algorithm
	Signs     bool // false: kept for a rotation, before or after
	Created   time.Time
	Path      string

	private crypto.Signer
}

// Keys are the keys of one domain that sign: at most one of each kind, Ed25519 and RSA.
type Keys struct {
	Domain string
	keys   []Key
}

// OpenKeys reads the keys in folder that sign for domain; ErrNoKeys when there is none.
func OpenKeys(folder, domain string) (*Keys, error) {
	name, err := Name(domain)
	if err != nil {
		return nil, err
	}
	folder = filepath.Join(folder, name)
	active, err := readSigning(folder)
	if err != nil {
		return nil, err
	}
	if len(active) == 0 {
		return nil, fmt.Errorf("%w signs for %s", ErrNoKeys, name)
	}
	// Only these: a damaged key that does not sign must not hold up mail.
	k := &Keys{Domain: name}
	for _, selector := range active {
		key, err := readKey(folder, name, selector)
		if err != nil {
			return nil, err
		}
		key.Signs = true
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// All returns the keys that sign.
func (k *Keys) All() []Key { return slices.Clone(k.keys) }

// Domains lists the domains that have a folder of keys in folder.
func Domains(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list DKIM keys: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && isName(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// List reads all keys of a domain, oldest first; none is no error.
func List(folder, domain string) ([]Key, error) {
	name, err := Name(domain)
	if err != nil {
		return nil, err
	}
	folder = filepath.Join(folder, name)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list DKIM keys: %w", err)
	}
	active, err := readSigning(folder)
	if err != nil {
		return nil, err
	}
	var out []Key
	for _, e := range entries {
		selector, ok := strings.CutSuffix(e.Name(), keySuffix)
		if !ok || !isName(selector) {
			continue
		}
		key, err := readKey(folder, name, selector)
		if err != nil {
			return nil, err
		}
		key.Signs = slices.Contains(active, selector)
		out = append(out, key)
	}
	slices.SortStableFunc(out, func(a, b Key) int { return a.Created.Compare(b.Created) })
	return out, nil
}

func readKey(folder, domain, selector string) (Key, error) {
	key := Key{Domain: domain, Selector: selector, Path: filepath.Join(folder, selector+keySuffix)}
	text, err := atomicfile.Read(key.Path, keyLimit)
	if err != nil {
		return key, fmt.Errorf("read DKIM key: %w", err)
	}
	defer clear(text)
	if key.private, key.Algorithm, err = parseKey(text); err != nil {
		return key, fmt.Errorf("%s: %w", key.Path, err)
	}
	if info, err := os.Stat(key.Path); err == nil {
		key.Created = info.ModTime()
	}
	return key, nil
}

// parseKey reads PEM: PKCS #8 as we write it, and PKCS #1 as OpenDKIM does, so that a
// key that is published already can be put into the folder. No error shows a byte of it.
func parseKey(text []byte) (crypto.Signer, Algorithm, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", fmt.Errorf("%w: it must be one PEM block", ErrKey)
	}
	defer clear(block.Bytes)
	var parsed any
	var err error
	switch block.Type {
	case pemPrivate:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, "", fmt.Errorf("%w: the PEM block is not a private key", ErrKey)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: the key inside is damaged", ErrKey)
	}
	switch key := parsed.(type) {
	case ed25519.PrivateKey:
		return key, Ed25519, nil
	case *rsa.PrivateKey:
		// RFC 8301 section 3.2: signers should use at least 2048 bits.
		if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
			return nil, "", fmt.Errorf("%w: RSA with %d bits, it must be 2048 to 4096", ErrKey, bits)
		}
		return key, Algorithm(fmt.Sprintf("rsa-%d", key.N.BitLen())), nil
	}
	return nil, "", fmt.Errorf("%w: only RSA and Ed25519 sign DKIM", ErrKey)
}

// kind is what there may be one of that signs.
func (a Algorithm) kind() string {
	kind, _, _ := strings.Cut(string(a), "-")
	return kind
}

// Create makes a key and keeps it in folder. It signs at once when the domain has no
// signing key of its kind yet; otherwise it waits for Use, so that it can be published
// first. ErrExists when the selector is taken.
func Create(ctx context.Context, folder, domain, selector string, algorithm Algorithm, random io.Reader) (Key, error) {
	name, err := Name(domain)
	if err != nil {
		return Key{}, err
	}
	if !isName(selector) {
		return Key{}, fmt.Errorf("selector %q: %w", shorten(selector), ErrName)
	}
	private, err := generate(algorithm, random)
	if err != nil {
		return Key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, fmt.Errorf("encode DKIM key: %w", err)
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
	defer clear(text)
	key := Key{Domain: name, Selector: selector, Algorithm: algorithm, private: private}
	err = locked(ctx, folder, name, func(folder string) error {
		key.Path = filepath.Join(folder, selector+keySuffix)
		if _, err := os.Lstat(key.Path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrExists, key.Path))
		}
		if err := atomicfile.Write(key.Path, text, 0o600); err != nil {
			return fmt.Errorf("keep DKIM key: %w", err)
		}
		var err error
		key.Signs, err = signWhenFirst(folder, name, key)
		return err
	})
	return key, err
}

func generate(algorithm Algorithm, random io.Reader) (crypto.Signer, error) {
	var err error
	var key crypto.Signer
	switch algorithm {
	case Ed25519:
		_, key, err = ed25519.GenerateKey(random)
	case RSA2048:
		key, err = rsa.GenerateKey(random, 2048)
	case RSA3072:
		key, err = rsa.GenerateKey(random, 3072)
	default:
		return nil, fmt.Errorf("%w: no algorithm %q", ErrKey, shorten(string(algorithm)))
	}
	if err != nil {
		return nil, fmt.Errorf("make DKIM key: %w", err)
	}
	return key, nil
}

func signWhenFirst(folder, domain string, key Key) (bool, error) {
	active, err := readSigning(folder)
	if err != nil {
		return false, err
	}
	for _, selector := range active {
		other, err := readKey(folder, domain, selector)
		if err == nil && other.Algorithm.kind() == key.Algorithm.kind() {
			return false, nil
		}
	}
	return true, writeSigning(folder, append(active, key.Selector))
}

// Use makes the key of selector the one that signs among those of its kind.
func Use(ctx context.Context, folder, domain, selector string) error {
	name, err := Name(domain)
	if err != nil {
		return err
	}
	return locked(ctx, folder, name, func(folder string) error {
		key, err := existing(folder, name, selector)
		if err != nil {
			return err
		}
		active, err := readSigning(folder)
		if err != nil {
			return err
		}
		kept := []string{selector}
		for _, s := range active {
			other, err := readKey(folder, name, s)
			if err == nil && s != selector && other.Algorithm.kind() != key.Algorithm.kind() {
				kept = append(kept, s)
			}
		}
		return writeSigning(folder, kept)
	})
}

// Remove deletes a key that does not sign.
func Remove(ctx context.Context, folder, domain, selector string) error {
	name, err := Name(domain)
	if err != nil {
		return err
	}
	return locked(ctx, folder, name, func(folder string) error {
		key, err := existing(folder, name, selector)
		if err != nil && !errors.Is(err, ErrKey) {
			return err
		}
		active, err := readSigning(folder)
		if err != nil {
			return err
		}
		if slices.Contains(active, selector) {
			return fmt.Errorf("%s: %w", selector, ErrSigning)
		}
		return atomicfile.Remove(key.Path)
	})
}

func existing(folder, domain, selector string) (Key, error) {
	if !isName(selector) {
		return Key{}, fmt.Errorf("selector %q: %w", shorten(selector), ErrName)
	}
	key, err := readKey(folder, domain, selector)
	if errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("%w of selector %s for %s", ErrNoKeys, selector, domain)
	}
	return key, err
}

// locked runs do with the domain's folder, which is made when it is missing.
func locked(ctx context.Context, folder, domain string, do func(folder string) error) error {
	folder = filepath.Join(folder, domain)
	if err := atomicfile.PrivateFolder(folder); err != nil {
		return fmt.Errorf("keep DKIM keys: %w", err)
	}
	lock, err := atomicfile.Acquire(ctx, filepath.Join(folder, "lock"))
	if err != nil {
		return fmt.Errorf("keep DKIM keys: %w", err)
	}
	return errors.Join(do(folder), lock.Release())
}

func readSigning(folder string) ([]string, error) {
	text, err := atomicfile.Read(filepath.Join(folder, signing), keyLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which DKIM keys sign: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(text)), func(s string) bool { return !isName(s) }), nil
}

func writeSigning(folder string, selectors []string) error {
	text := strings.Join(selectors, "\n") + "\n"
	if err := atomicfile.Write(filepath.Join(folder, signing), []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep which DKIM keys sign: %w", err)
	}
	return nil
}
