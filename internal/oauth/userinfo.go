package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// UserInfo asks the issuer for the claims about the owner of an access token (OpenID Connect
// Core section 5.3). subject is that of the checked ID token that came with it. Signed and
// encrypted answers are for clients that registered for them, which we do not.
func (c *Conn) UserInfo(ctx context.Context, access secret.String, subject string) (map[string]json.RawMessage, error) {
	const endpoint = "userinfo"
	if c.Endpoints.UserInfo == "" {
		return nil, fmt.Errorf("%s endpoint: %w", endpoint, ErrNoEndpoint)
	}
	if _, err := parseURL(c.Endpoints.UserInfo); err != nil {
		return nil, fmt.Errorf("%s endpoint: %w", endpoint, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoints.UserInfo, nil)
	if err != nil {
		return nil, fmt.Errorf("%s endpoint: not a URL", endpoint)
	}
	req.Header.Set("Authorization", "Bearer "+access.Reveal())
	a, err := send(c.HTTP, req, endpoint, scrubSecrets(access))
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, a.fault()
	}
	return a.userInfo(subject)
}

// userInfo reads the claims. Section 5.3.2: another subject, or none, and they are not used;
// a token of another person could have been slipped in.
func (a answer) userInfo(subject string) (map[string]json.RawMessage, error) {
	o, err := a.object()
	if err != nil {
		return nil, err
	}
	if named, err := o.text("sub"); err != nil || named == "" || named != subject {
		return nil, a.malformed(errors.New("claims about another account than the ID token's"))
	}
	return o, nil
}
