package authserver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Prefixes tell secret scanners, log filters and people what they found. A token is
// 48 bytes and so fits every initial response with its user name.
const (
	accessPrefix  = "llat_"
	refreshPrefix = "llrt_"
	codePrefix    = "llac_"
	devicePrefix  = "lldc_"
	randomLength  = 43 // base64url of 256 bits
)

// mint makes a secret of 256 random bits and its digest.
func (s *Server) mint(prefix string) (secret.String, identity.Digest, error) {
	var random [32]byte
	if _, err := io.ReadFull(s.Random, random[:]); err != nil {
		return secret.String{}, identity.Digest{}, fmt.Errorf("read randomness: %w", err)
	}
	text := prefix + base64.RawURLEncoding.EncodeToString(random[:])
	return secret.New(text), identity.DigestOf(text), nil
}

// digest hashes a presented secret, if it has the form of one of ours. Others are
// refused before any store is asked.
func digest(text, prefix string) (identity.Digest, bool) {
	random, ok := strings.CutPrefix(text, prefix)
	if !ok || len(random) != randomLength {
		return identity.Digest{}, false
	}
	for _, r := range random {
		if !base64URL(r) {
			return identity.Digest{}, false
		}
	}
	return identity.DigestOf(text), true
}

func base64URL(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// newID makes an identifier that is unique and no secret.
func (s *Server) newID() (string, error) {
	var random [16]byte
	if _, err := io.ReadFull(s.Random, random[:]); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(random[:]), nil
}

// seal hides the successor of a refresh token under a key that only the holder of
// the old token can derive. Each old token seals once, so a zero nonce is safe.
func seal(old, successor secret.String) ([]byte, error) {
	aead, err := sealCipher(old)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, make([]byte, aead.NonceSize()), []byte(successor.Reveal()), nil), nil
}

func unseal(old secret.String, sealed []byte) (secret.String, error) {
	aead, err := sealCipher(old)
	if err != nil {
		return secret.String{}, err
	}
	text, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil {
		return secret.String{}, errors.New("open the sealed successor: it does not belong to this token")
	}
	return secret.New(string(text)), nil
}

func sealCipher(old secret.String) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(old.Reveal()), nil, "letterlock refresh successor", 32)
	if err != nil {
		return nil, fmt.Errorf("derive successor key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("successor cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
