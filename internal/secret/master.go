package secret

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// MasterLength is the length of a master key in bytes.
const MasterLength = 32

// A Master is one key that others are derived from, each for one use (RFC 5869): what
// is done with one tells nothing about another. It prints itself as little as a
// [String] does.
type Master struct{ key String }

// NewMaster takes 32 random bytes.
func NewMaster(key []byte) (Master, error) {
	if len(key) != MasterLength {
		return Master{}, fmt.Errorf("master key of %d bytes: want %d", len(key), MasterLength)
	}
	return Master{New(string(key))}, nil
}

// For derives the key of a use. Uses are names in the program ("totp seeds"), never
// something that came from outside.
func (m Master) For(use string) ([]byte, error) {
	if m.key.IsZero() || use == "" {
		return nil, fmt.Errorf("derive key for %q: no master key or no use", use)
	}
	key, err := hkdf.Key(sha256.New, []byte(m.key.Reveal()), nil, "letterlock "+use, MasterLength)
	if err != nil {
		return nil, fmt.Errorf("derive key for %q: %w", use, err)
	}
	return key, nil
}
