package oauth

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// NewVerifier makes a PKCE code verifier (RFC 7636) of 256 random bits.
func NewVerifier() secret.String { return secret.New(oauth2.GenerateVerifier()) }

// NewState returns a fresh state or nonce of 256 random bits.
func NewState() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// AuthCodeURL is where to send the browser (RFC 6749 section 4.1.1 with RFC 7636).
// It holds no secret, refuses to be made without state and PKCE, and keeps the query
// that the endpoint came with.
func (c *Conn) AuthCodeURL(req AuthRequest) (string, error) {
	if c.Endpoints.Authorization == "" {
		return "", fmt.Errorf("authorization endpoint: %w", ErrNoEndpoint)
	}
	u, err := parseURL(c.Endpoints.Authorization)
	if err != nil {
		return "", fmt.Errorf("authorization endpoint: %w", err)
	}
	switch {
	case c.Client.ID == "":
		return "", errors.New("no client id")
	case req.State == "" || req.Verifier.IsZero():
		return "", errors.New("authorization request without state or PKCE")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", errors.New("authorization endpoint: malformed query")
	}
	if err := addParameters(query, c.parameters(req)); err != nil {
		return "", err
	}
	if err := addParameters(query, req.Extra); err != nil {
		return "", err
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// parameters are ours; empty ones are left out.
func (c *Conn) parameters(req AuthRequest) url.Values {
	own := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.Client.ID},
		"state":                 {req.State},
		"code_challenge":        {oauth2.S256ChallengeFromVerifier(req.Verifier.Reveal())},
		"code_challenge_method": {"S256"},
	}
	for name, value := range map[string]string{
		"redirect_uri": req.RedirectURI,
		"scope":        strings.Join(req.Scopes, " "),
		"nonce":        req.Nonce,
		"login_hint":   req.LoginHint,
	} {
		if value != "" {
			own.Set(name, value)
		}
	}
	return own
}

// addParameters refuses to set a parameter twice, whether the endpoint's own query has
// it or extra tries to replace ours, and refuses whatever is a secret.
func addParameters(query, more url.Values) error {
	for name, values := range more {
		switch {
		case secretParameter(name):
			return fmt.Errorf("parameter %s does not belong into a URL", name)
		case query.Has(name):
			return fmt.Errorf("parameter %s is set twice in the authorization request", name)
		}
		query[name] = append([]string(nil), values...)
	}
	return nil
}
