package oauth

import (
	"context"
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Revoke is RFC 7009. hint is "refresh_token" or "access_token". ErrNoEndpoint means
// that the server offers none: the person has to do it on the provider's page.
func (c *Conn) Revoke(ctx context.Context, token secret.String, hint string) error {
	form := url.Values{"token": {token.Reveal()}}
	if hint != "" {
		form.Set("token_type_hint", hint)
	}
	a, err := c.postForm(ctx, "revocation", c.Endpoints.Revocation, form)
	if err != nil {
		return err
	}
	if a.ok() {
		return nil // the body says nothing (RFC 7009 section 2.2)
	}
	fault := a.fault()
	if fault.Code == "invalid_token" {
		// By RFC 7009 an unknown token is a success; Google answers 400 invalid_token.
		return nil
	}
	return fault
}
