package oauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

const (
	maxKeyFile = 64 << 10
	minRSA     = 2048
	// Assertions are used once and at once. Google takes at most an hour.
	assertionLife = 5 * time.Minute

	jwtBearerGrant     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	jwtBearerAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// A Key signs assertions in place of a secret. It prints as nothing: the private half
// stays inside.
type Key struct {
	private crypto.Signer
	id      string // kid
	thumb   string // x5t#S256, base64url, when the file has the certificate
	email   string // of a service account
}

// ServiceAccount is the address of the service account whose key file this was, "" for
// a key of another kind.
func (k *Key) ServiceAccount() string { return k.email }

// String hides the key.
func (k *Key) String() string { return secret.Redacted }

// GoString hides the key.
func (k *Key) GoString() string { return secret.Redacted }

// ParseKey reads the file of a Google service account (JSON), or a private key in PEM,
// with its certificate beside it where the server knows the key by that (Microsoft).
// Errors quote nothing of the file.
func ParseKey(data []byte) (*Key, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("a key file of more than %d bytes", maxKeyFile)
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseServiceAccount(data)
	}
	return parsePEM(data)
}

func parseServiceAccount(data []byte) (*Key, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, errors.New("a key file that is no proper JSON")
	}
	if kind := o.lenient("type"); kind != "service_account" {
		return nil, errors.New("JSON that is not the key of a service account (\"type\" says so there)")
	}
	key, err := parsePEM([]byte(o.lenient("private_key")))
	if err != nil {
		return nil, fmt.Errorf("the service account's private_key: %w", err)
	}
	key.email, key.id = o.lenient("client_email"), o.lenient("private_key_id")
	if key.email == "" || !charset(key.email, 0x21) || !charset(key.id, 0x21) {
		return nil, errors.New("a service account's key without a usable client_email")
	}
	return key, nil
}

func parsePEM(data []byte) (*Key, error) {
	key := &Key{}
	var certificate *x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE" && certificate == nil:
			var err error
			if certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, errors.New("a certificate that cannot be read")
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if key.private != nil {
				return nil, errors.New("more than one private key")
			}
			private, err := privateKey(block)
			if err != nil {
				return nil, err
			}
			key.private = private
		}
	}
	if key.private == nil {
		return nil, errors.New("no private key in PEM")
	}
	if certificate == nil {
		return key, nil
	}
	public, ok := key.private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificate.PublicKey) {
		return nil, errors.New("the certificate is of another key")
	}
	sum := sha256.Sum256(certificate.Raw)
	key.thumb = base64.RawURLEncoding.EncodeToString(sum[:])
	return key, nil
}

func privateKey(block *pem.Block) (crypto.Signer, error) {
	if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["Proc-Type"] != "" {
		return nil, errors.New("a private key under a passphrase")
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("a private key that cannot be read")
	}
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		if private.N.BitLen() < minRSA {
			return nil, fmt.Errorf("an RSA key of fewer than %d bits", minRSA)
		}
		return private, nil
	case *ecdsa.PrivateKey:
		return private, nil
	case ed25519.PrivateKey:
		return private, nil
	}
	return nil, errors.New("a private key of a kind that cannot sign")
}

// algorithm: with a certificate PS256, which Entra prefers; without one RS256, which is
// the only one of Google's and the one that every server has.
func (k *Key) algorithm() (jose.SignatureAlgorithm, error) {
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		if k.thumb != "" {
			return jose.PS256, nil
		}
		return jose.RS256, nil
	case *ecdsa.PrivateKey:
		switch private.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		}
	case ed25519.PrivateKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("a key on a curve that JWTs do not have")
}

// assertion makes a JWT of RFC 7523 section 3.
func (k *Key) assertion(issuer, subject, audience string, now time.Time, more map[string]any) (string, error) {
	algorithm, err := k.algorithm()
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if k.id != "" {
		options = options.WithHeader("kid", k.id)
	}
	if k.thumb != "" {
		options = options.WithHeader("x5t#S256", k.thumb)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: k.private}, options)
	if err != nil {
		return "", errors.New("sign assertion: the key cannot be used")
	}
	claims := map[string]any{
		"iss": issuer, "sub": subject, "aud": audience, "jti": NewState(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	}
	for name, value := range more {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", errors.New("sign assertion: the key cannot sign")
	}
	return signed.CompactSerialize()
}

// authenticateByKey is private_key_jwt (OpenID Connect Core section 9, RFC 7523 section
// 2.2). The audience is the token endpoint, which is what Microsoft and Keycloak ask for.
func (c *Conn) authenticateByKey(form url.Values) error {
	if c.Key == nil {
		return fmt.Errorf("client authentication %s needs a key", AuthKeyJWT)
	}
	text, err := c.Key.assertion(c.Client.ID, c.Client.ID, c.Endpoints.Token, c.now(), nil)
	if err != nil {
		return err
	}
	form.Set("client_id", c.Client.ID)
	form.Set("client_assertion_type", jwtBearerAssertion)
	form.Set("client_assertion", text)
	return nil
}

// ClientCredentials is the grant of machines (RFC 6749 section 4.4): the client asks
// for itself.
func (c *Conn) ClientCredentials(ctx context.Context, scopes []string, extra url.Values) (Token, error) {
	return c.Grant(ctx, "client_credentials", scopes, extra)
}

// AssertFor asks for a token of subject by an assertion of c.Key (RFC 7523 section
// 2.1): a Google service account with domain-wide delegation, or a client that its
// server trusts so far. Google wants the scopes inside the assertion.
func (c *Conn) AssertFor(ctx context.Context, subject string, scopes []string, extra url.Values) (Token, error) {
	if c.Key == nil {
		return Token{}, errors.New("an assertion needs a key")
	}
	issuer, more := c.Client.ID, map[string]any(nil)
	if c.Key.email != "" {
		issuer, more = c.Key.email, map[string]any{"scope": strings.Join(scopes, " ")}
	}
	text, err := c.Key.assertion(issuer, subject, c.Endpoints.Token, c.now(), more)
	if err != nil {
		return Token{}, err
	}
	form := url.Values{"grant_type": {jwtBearerGrant}, "assertion": {text}}
	if len(scopes) > 0 && c.Key.email == "" {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return c.token(ctx, form, extra)
}
