package authserver

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// KeyAuth is the name of client authentication by a signature (OpenID Connect Core section 9).
const KeyAuth = "private_key_jwt"

const (
	maxClientKeys = 5
	maxKeyFile    = 32 << 10
	minRSA        = 2048
	maxRSA        = 8192
)

// assertionAlgorithms are those that a client may sign with. HS256 would make a secret of
// what is public here, and "none" would let in anybody.
func assertionAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA}
}

func assertionAlgorithmNames() []string {
	var names []string
	for _, algorithm := range assertionAlgorithms() {
		names = append(names, string(algorithm))
	}
	return names
}

// ClientKeys reads the public keys of a client, a JWK set or one JWK or public keys in PEM,
// and returns them as the JWK set that identity.Client keeps. Only what is needed to check a
// signature is left of them: no certificate, no address, nothing to be fetched. A private key
// is refused, for what has been handed out is no secret any more.
func ClientKeys(data []byte) (string, error) {
	if len(data) > maxKeyFile {
		return "", fmt.Errorf("more than %d bytes of keys", maxKeyFile)
	}
	if block, _ := pem.Decode(data); block != nil {
		keys, err := pemKeys(data)
		if err != nil {
			return "", err
		}
		return keptKeys(keys)
	}
	var shape struct {
		Keys json.RawMessage `json:"keys"`
		Kind string          `json:"kty"`
	}
	if json.Unmarshal(data, &shape) == nil && shape.Keys == nil && shape.Kind != "" {
		data = slices.Concat([]byte(`{"keys":[`), data, []byte(`]}`))
	}
	return keySet(data)
}

// keySet reads a JWK set (RFC 7517 section 5).
func keySet(data []byte) (string, error) {
	if len(data) > maxKeyFile {
		return "", fmt.Errorf("more than %d bytes of keys", maxKeyFile)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return "", errors.New("not a JWK set")
	}
	return keptKeys(set.Keys)
}

func pemKeys(data []byte) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	for len(keys) <= maxClientKeys {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, errors.New("PEM that is no PUBLIC KEY")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("a public key that cannot be read")
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
	return keys, nil
}

// keptKeys holds keys to what can be used here.
func keptKeys(keys []jose.JSONWebKey) (string, error) {
	if len(keys) > maxClientKeys {
		return "", fmt.Errorf("more than %d keys", maxClientKeys)
	}
	var kept jose.JSONWebKeySet
	for _, key := range keys {
		if key.Use == "enc" {
			continue // many programs publish one of those beside
		}
		if err := checkClientKey(key); err != nil {
			return "", err
		}
		if key.KeyID != "" && len(kept.Key(key.KeyID)) > 0 {
			return "", errors.New("two keys of the same kid")
		}
		kept.Keys = append(kept.Keys, jose.JSONWebKey{Key: key.Key, KeyID: key.KeyID, Algorithm: key.Algorithm})
	}
	if len(kept.Keys) == 0 {
		return "", errors.New("no key that signs")
	}
	text, err := json.Marshal(kept)
	return string(text), err
}

func checkClientKey(key jose.JSONWebKey) error {
	if len(key.KeyID) > 100 || !plainText(key.KeyID, 100) {
		return errors.New("a kid that is too long or not plain text")
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA || public.E < 3 || public.E%2 == 0 {
			return fmt.Errorf("an RSA key of fewer than %d or more than %d bits", minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return errors.New("a key on another curve than P-256")
		}
	case ed25519.PublicKey:
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return errors.New("a private key, which must not leave its owner: make another, and hand out its public half")
	default:
		return errors.New("a key of a kind that does not sign, or a secret one")
	}
	if !key.Valid() || key.Algorithm != "" && len(fitting(key)) == 0 {
		return errors.New("a key that does not fit the algorithm it names")
	}
	return nil
}

// fitting are the algorithms that a key checks.
func fitting(key jose.JSONWebKey) []jose.SignatureAlgorithm {
	var can []jose.SignatureAlgorithm
	switch key.Key.(type) {
	case *rsa.PublicKey:
		can = []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
	case *ecdsa.PublicKey:
		can = []jose.SignatureAlgorithm{jose.ES256}
	case ed25519.PublicKey:
		can = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return slices.DeleteFunc(can, func(one jose.SignatureAlgorithm) bool {
		return key.Algorithm != "" && key.Algorithm != string(one)
	})
}

// onlyBy holds all keys of a set to one algorithm (token_endpoint_auth_signing_alg of RFC
// 7591).
func onlyBy(keys, algorithm string) (string, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(keys), &set); err != nil {
		return "", errors.New("not a JWK set")
	}
	for i := range set.Keys {
		if !slices.Contains(fitting(set.Keys[i]), jose.SignatureAlgorithm(algorithm)) {
			return "", errors.New("a key that does not fit token_endpoint_auth_signing_alg")
		}
		set.Keys[i].Algorithm = algorithm
	}
	text, err := json.Marshal(set)
	return string(text), err
}
