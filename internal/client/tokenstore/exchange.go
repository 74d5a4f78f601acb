package tokenstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
)

// errExchange quotes nothing: what went wrong may be secret.
var errExchange = errors.New("the keyring's answer cannot be decrypted")

// An exchange is our half of the Secret Service's "dh-ietf1024-sha256-aes128-cbc-
// pkcs7": Diffie-Hellman in the group of RFC 2409 section 6.2, HKDF with SHA-256 and
// no salt, AES-128 in CBC mode. A thousand bits and no authentication are little by
// today's measure, but it is what keyrings speak, and it only hides secrets from who
// records the bus: who can change what travels on it is the same user anyway.
type exchange struct{ prime, private *big.Int }

const groupBytes = 128

func newExchange() (*exchange, error) {
	prime, ok := new(big.Int).SetString("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD1"+
		"29024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"+
		"302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B"+
		"0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF", 16)
	if !ok {
		return nil, errExchange
	}
	private, err := rand.Int(rand.Reader, new(big.Int).Rsh(prime, 1))
	if err != nil {
		return nil, err
	}
	return &exchange{prime: prime, private: private.Add(private, big.NewInt(2))}, nil
}

func (e *exchange) public() []byte {
	return new(big.Int).Exp(big.NewInt(2), e.private, e.prime).FillBytes(make([]byte, groupBytes))
}

// sharedKey derives the session's key. Halves that would make it predictable are
// refused.
func (e *exchange) sharedKey(theirs []byte) ([]byte, error) {
	half := new(big.Int).SetBytes(theirs)
	last := new(big.Int).Sub(e.prime, big.NewInt(1))
	if len(theirs) > groupBytes || half.Cmp(big.NewInt(1)) <= 0 || half.Cmp(last) >= 0 {
		return nil, errExchange
	}
	shared := half.Exp(half, e.private, e.prime).FillBytes(make([]byte, groupBytes))
	defer clear(shared)
	return hkdf.Key(sha256.New, shared, nil, "", 16)
}

func encryptSecret(key, plain []byte) (iv, sealed []byte, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	iv = make([]byte, aes.BlockSize)
	if _, err := rand.Read(iv); err != nil {
		return nil, nil, err
	}
	// PKCS #7 (RFC 5652 section 6.3): always some padding, each byte its length.
	fill := aes.BlockSize - len(plain)%aes.BlockSize
	sealed = append(bytes.Clone(plain), bytes.Repeat([]byte{byte(fill)}, fill)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)
	return iv, sealed, nil
}

func decryptSecret(key, iv, sealed []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 || len(sealed) > keyFileLimit {
		return nil, errExchange
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, sealed)
	fill := int(plain[len(plain)-1])
	if fill < 1 || fill > aes.BlockSize || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(fill)}, fill)) {
		return nil, errExchange
	}
	return plain[:len(plain)-fill], nil
}
