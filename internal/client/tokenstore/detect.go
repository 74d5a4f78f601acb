package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A Finding says whether a key source could be used here and now.
type Finding struct {
	Source string // "keyring", "gpg"
	Usable bool
	Key    string // gpg: the fingerprint to use
	Reason string // why it is not usable, one line
}

// detectLimit is what a sign-in may spend on looking around.
const detectLimit = 3 * time.Second

// Detect looks for a keyring and for gpg, in the order in which login prefers them.
// It changes nothing, starts no bus, and asks nobody.
func Detect(ctx context.Context, where Surroundings) []Finding {
	return []Finding{
		finding(detectKeyring(ctx, where)),
		finding(detectGPG(ctx, where)),
	}
}

func finding(source, key string, err error) Finding {
	if err != nil {
		return Finding{Source: source, Reason: err.Error()}
	}
	return Finding{Source: source, Usable: true, Key: key}
}

// detectKeyring wants a default keyring that is open, or somebody to open it.
func detectKeyring(ctx context.Context, where Surroundings) (source, key string, err error) {
	source = "keyring"
	ctx, cancel := context.WithTimeoutCause(ctx, detectLimit, errSilent)
	defer cancel()
	service, err := dialSecrets(ctx, where)
	if err != nil {
		return source, "", err
	}
	defer service.close()
	collection, err := service.defaultCollection()
	if err != nil {
		return source, "", err
	}
	locked, err := service.locked(collection)
	if err != nil {
		return source, "", err
	}
	if locked && !where.person() {
		return source, "", fmt.Errorf("the default keyring: %w", ErrLocked)
	}
	return source, "", nil
}

// detectGPG wants a secret key that can decrypt.
func detectGPG(ctx context.Context, where Surroundings) (source, key string, err error) {
	source = "gpg"
	ctx, cancel := context.WithTimeoutCause(ctx, detectLimit, errSilent)
	defer cancel()
	if _, err := where.find("gpg"); err != nil {
		return source, "", errors.New("there is no program gpg")
	}
	// gpg would make the folder just to find it empty.
	if _, err := os.Stat(gpgHome(where)); err != nil {
		return source, "", errors.New("gpg was never used here")
	}
	records, err := listSecretKeys(ctx, where, "")
	if err != nil {
		return source, "", err
	}
	key = decryptingKey(records)
	if key == "" {
		return source, "", errors.New("gpg has no secret key that can decrypt")
	}
	return source, key, nil
}

func gpgHome(where Surroundings) string {
	complete := Surroundings{Environ: where.complete()}
	if home := complete.getenv("GNUPGHOME"); home != "" {
		return home
	}
	return filepath.Join(complete.getenv("HOME"), ".gnupg")
}

// decryptingKey returns the fingerprint of the first key that can decrypt, itself or
// by a subkey. A key's record "sec" comes first, its "fpr" next, its subkeys after.
func decryptingKey(records [][]string) string {
	for start := range records {
		if records[start][0] != "sec" {
			continue
		}
		end := start + 1
		for end < len(records) && records[end][0] != "sec" {
			end++
		}
		key := records[start:end]
		if canDecrypt(key) && len(key) > 1 && key[1][0] == "fpr" && len(key[1]) > 9 {
			return key[1][9]
		}
	}
	return ""
}
