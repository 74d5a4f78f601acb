package authserver

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The times of a key. It is published before it signs, for longer than anybody keeps what
// /jwks said, and instances read the store more often than that; it stays published
// until the last ID token that it signed has expired.
const (
	KeyLead    = 15 * time.Minute
	keysKept   = 5 * time.Minute // max-age of /jwks
	keysReread = time.Minute
	idLifetime = 10 * time.Minute
	keyLag     = idLifetime + keysKept
)

// A keyring is the keys of ID tokens: one signs, and all that somebody may still need
// are published.
type keyring struct {
	store KeyStore
	seal  []byte
	now   func() time.Time

	mu   sync.Mutex
	read time.Time
	keys []ringKey
}

type ringKey struct {
	id       string
	signer   jose.Signer
	public   jose.JSONWebKey
	from, to time.Time // when it signs; to is zero for the last one
}

// NewSigningKey makes a key that signs from active on. key is Options.Key.
func NewSigningKey(key []byte, random io.Reader, created, active time.Time) (identity.SigningKey, error) {
	if len(key) != 32 {
		return identity.SigningKey{}, errors.New("authorization server key: want 32 bytes")
	}
	sealing, err := hkdf.Key(sha256.New, key, nil, "authserver signing keys", 32)
	if err != nil {
		return identity.SigningKey{}, fmt.Errorf("derive sealing key: %w", err)
	}
	return newSigningKey(sealing, random, created, active)
}

func newSigningKey(sealing []byte, random io.Reader, created, active time.Time) (identity.SigningKey, error) {
	// ecdsa takes randomness from the system alone, whatever it is given.
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity.SigningKey{}, fmt.Errorf("make signing key: %w", err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return identity.SigningKey{}, fmt.Errorf("encode signing key: %w", err)
	}
	id, err := thumbprint(private)
	if err != nil {
		return identity.SigningKey{}, err
	}
	aead, err := keyCipher(sealing)
	if err != nil {
		return identity.SigningKey{}, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return identity.SigningKey{}, fmt.Errorf("read randomness: %w", err)
	}
	// The id is sealed along: a key cannot be passed off under the name of another.
	return identity.SigningKey{ID: id, Sealed: aead.Seal(nonce, nonce, plain, []byte(id)), Created: created, Active: active}, nil
}

func keyCipher(sealing []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, fmt.Errorf("signing key cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

func openSigningKey(sealing []byte, key identity.SigningKey) (*ecdsa.PrivateKey, error) {
	aead, err := keyCipher(sealing)
	if err != nil {
		return nil, err
	}
	if len(key.Sealed) < aead.NonceSize() {
		return nil, errors.New("signing key " + key.ID + ": damaged")
	}
	plain, err := aead.Open(nil, key.Sealed[:aead.NonceSize()], key.Sealed[aead.NonceSize():], []byte(key.ID))
	if err != nil {
		return nil, errors.New("signing key " + key.ID + ": sealed under another master key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", key.ID, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("signing key " + key.ID + ": not ECDSA")
	}
	return private, nil
}

// thumbprint (RFC 7638) names a key the same on every instance.
func thumbprint(key *ecdsa.PrivateKey) (string, error) {
	if key.Curve != elliptic.P256() {
		return "", errors.New("ID token key: want P-256")
	}
	public := jose.JSONWebKey{Key: key.Public()}
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("ID token key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

func newRingKey(private *ecdsa.PrivateKey, from time.Time) (ringKey, error) {
	id, err := thumbprint(private)
	if err != nil {
		return ringKey{}, err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return ringKey{}, fmt.Errorf("ID token signer: %w", err)
	}
	public := jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}
	return ringKey{id: id, signer: signer, public: public, from: from}, nil
}

// newKeyring is nil where there are no ID tokens. The store is asked at the first use.
func (s *Server) newKeyring() (*keyring, error) {
	switch {
	case s.Keys != nil:
		return &keyring{store: s.Keys, seal: s.keyKey, now: s.Now}, nil
	case s.IDKey != nil:
		key, err := newRingKey(s.IDKey, time.Time{})
		return &keyring{now: s.Now, keys: []ringKey{key}}, err
	}
	return nil, nil
}

// current are the keys as the store has them, asked for once a minute. While it cannot be
// asked the last known go on.
func (k *keyring) current(ctx context.Context) ([]ringKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.store == nil || len(k.keys) > 0 && now.Before(k.read.Add(keysReread)) && !now.Before(k.read) {
		return k.keys, nil
	}
	keys, err := k.load(ctx, now)
	if err != nil {
		if len(k.keys) > 0 {
			return k.keys, nil
		}
		return nil, err
	}
	k.keys, k.read = keys, now
	return keys, nil
}

func (k *keyring) load(ctx context.Context, now time.Time) ([]ringKey, error) {
	stored, err := k.store.SigningKeys(ctx)
	if err == nil && len(stored) == 0 {
		stored, err = k.first(ctx, now)
	}
	if err != nil {
		return nil, err
	}
	var keys []ringKey
	for _, one := range stored {
		private, err := openSigningKey(k.seal, one)
		if err != nil {
			return nil, err
		}
		key, err := newRingKey(private, one.Active)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 {
			keys[len(keys)-1].to = one.Active
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// first makes the key of a new store. Of instances that do so at once one succeeds.
func (k *keyring) first(ctx context.Context, now time.Time) ([]identity.SigningKey, error) {
	key, err := newSigningKey(k.seal, rand.Reader, now, now)
	if err != nil {
		return nil, err
	}
	if err := k.store.AddSigningKey(ctx, key, true); err != nil && !errors.Is(err, identity.ErrExists) {
		return nil, err
	}
	return k.store.SigningKeys(ctx)
}

// signer is the key that signs now: the last that is active. One that is ahead of its
// time signs when there is no other.
func (k *keyring) signer(ctx context.Context) (jose.Signer, error) {
	keys, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	now := k.now()
	for i := len(keys) - 1; i >= 0; i-- {
		if i == 0 || !now.Before(keys[i].from) {
			return keys[i].signer, nil
		}
	}
	return nil, errors.New("no signing key")
}

// published are the keys that somebody may need.
func (k *keyring) published(ctx context.Context) (jose.JSONWebKeySet, error) {
	keys, err := k.current(ctx)
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range keys {
		if key.to.IsZero() || k.now().Before(key.to.Add(keyLag)) {
			set.Keys = append(set.Keys, key.public)
		}
	}
	return set, err
}

// KeyGone reports whether a key that signed until a time is needed by nobody any more.
func KeyGone(until, now time.Time) bool { return !now.Before(until.Add(keyLag)) }

// jwks shows the public keys.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	keys, err := s.ids.published(r.Context())
	if err != nil {
		s.Log.Error("read signing keys", "error", err)
		writeError(w, serverError())
		return
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keysKept/time.Second)))
	w.Header().Del("Pragma")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	writeJSON(w, http.StatusOK, keys)
}
