package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// ExchangeCode trades a code for tokens (RFC 6749 section 4.1.3).
func (c *Conn) ExchangeCode(ctx context.Context, code secret.String, redirectURI string, verifier secret.String, extra url.Values) (Token, error) {
	form := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code.Reveal()},
		"code_verifier": {verifier.Reveal()},
	}
	if redirectURI != "" {
		form.Set("redirect_uri", redirectURI)
	}
	return c.token(ctx, form, extra)
}

// Refresh trades a refresh token for a new access token (RFC 6749 section 6). scopes
// may be empty; extra carries the provider's own parameters, `resource` among them.
func (c *Conn) Refresh(ctx context.Context, refresh secret.String, scopes []string, extra url.Values) (Token, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return c.token(ctx, form, extra)
}

// Grant asks the token endpoint by a grant type that has no method of its own:
// client_credentials, the assertions of RFC 7523, or an extension.
func (c *Conn) Grant(ctx context.Context, grantType string, scopes []string, extra url.Values) (Token, error) {
	form := url.Values{"grant_type": {grantType}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return c.token(ctx, form, extra)
}

// token posts once. Expiry counts from before the request: a slow answer must not make
// a token look younger than the server thinks it is.
func (c *Conn) token(ctx context.Context, form, extra url.Values) (Token, error) {
	if err := addExtra(form, extra); err != nil {
		return Token{}, err
	}
	sent := c.now()
	a, err := c.postForm(ctx, "token", c.Endpoints.Token, form)
	if err != nil {
		return Token{}, err
	}
	return a.token(sent)
}

func (c *Conn) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// addExtra adds a provider's own parameters; they cannot replace ours.
func addExtra(form, extra url.Values) error {
	for name, values := range extra {
		if form.Has(name) || name == "client_id" || name == "client_secret" {
			return fmt.Errorf("extra parameter %s is set by the protocol", name)
		}
		form[name] = append([]string(nil), values...)
	}
	return nil
}

// authenticate puts the client's proof into the form or returns it as a header
// (RFC 6749 section 2.3.1). The style is never guessed.
func (c *Conn) authenticate(form url.Values) (header string, err error) {
	id, key := c.Client.ID, c.Client.Secret.Reveal()
	if id == "" {
		return "", errors.New("no client id")
	}
	if key == "" && (c.Client.Auth == AuthPost || c.Client.Auth == AuthBasic) {
		return "", fmt.Errorf("client authentication %s needs a client secret", c.Client.Auth)
	}
	switch c.Client.Auth {
	case AuthNone:
		form.Set("client_id", id)
	case AuthOmitted:
	case AuthKeyJWT:
		return "", c.authenticateByKey(form)
	case AuthPost:
		form.Set("client_id", id)
		form.Set("client_secret", key)
	case AuthBasic:
		// Both parts are form-encoded before they are joined, which most clients forget
		// and which matters when a secret has a colon, a plus or a percent sign.
		pair := url.QueryEscape(id) + ":" + url.QueryEscape(key)
		header = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	default:
		return "", fmt.Errorf("client authentication %q is not known", string(c.Client.Auth))
	}
	return header, nil
}

// token reads a token answer.
func (a answer) token(sent time.Time) (Token, error) {
	if !a.ok() {
		return Token{}, a.fault()
	}
	o, err := a.object()
	if err != nil {
		return Token{}, err
	}
	if o.fault() != nil {
		return Token{}, a.fault() // Zoho and others report errors with 200
	}
	t, err := o.token(sent)
	if err != nil {
		return Token{}, a.malformed(err)
	}
	return t, nil
}

// token reads the members of RFC 6749 section 5.1, generous in all but the tokens.
func (o object) token(sent time.Time) (Token, error) {
	kind, err := o.text("token_type")
	if err != nil {
		return Token{}, err
	}
	// Names are case-insensitive (RFC 6749 section 7.1); some servers leave it out.
	if kind != "" && !strings.EqualFold(kind, "Bearer") {
		return Token{}, fmt.Errorf("%w: %s", errTokenType, kind)
	}
	t := Token{Scopes: o.list("scope")}
	for _, part := range []struct {
		name string
		to   *secret.String
		low  byte // lowest character allowed
	}{
		{"access_token", &t.Access, 0x21}, // RFC 6750 section 2.1: it becomes one word of a header
		{"refresh_token", &t.Refresh, 0x20},
		{"id_token", &t.ID, 0x21},
	} {
		text, err := o.text(part.name)
		if err != nil {
			return Token{}, err
		}
		if !charset(text, part.low) {
			return Token{}, fmt.Errorf("%s has characters that no token has", part.name)
		}
		*part.to = secret.New(text)
	}
	if t.Access.IsZero() {
		return Token{}, errors.New("no access_token in the answer")
	}
	if span, said := o.seconds("expires_in"); said {
		t.Expiry = sent.Add(max(span, 0))
	}
	t.RefreshExpiry = o.refreshExpiry(sent)
	return t, nil
}

// refreshExpiry reads the two names in use. Zero means "does not end" at Keycloak.
func (o object) refreshExpiry(sent time.Time) time.Time {
	for _, name := range []string{"refresh_token_expires_in", "refresh_expires_in"} {
		if span, said := o.seconds(name); said && span > 0 {
			return sent.Add(span)
		}
	}
	return time.Time{}
}

// charset reports whether text is printable ASCII from low on (VSCHAR, RFC 6749
// appendix A).
func charset(text string, low byte) bool {
	for i := range len(text) {
		if text[i] < low || text[i] > 0x7e {
			return false
		}
	}
	return true
}
