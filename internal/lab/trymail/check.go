package trymail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	gosasl "github.com/emersion/go-sasl"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A checker asks the authorization server about tokens.
type checker struct{ Options }

// errUnavailable: nobody could say whether the token is good. That is not the
// token's fault, and a client must not be told to throw it away.
var errUnavailable = errors.New("the authorization server cannot be asked")

// mechanisms are what both servers offer.
func (c checker) mechanisms() []string {
	offered := []string{sasl.OAuthBearer, sasl.XOAuth2}
	if c.Password != "" {
		offered = append(offered, sasl.Plain)
	}
	return offered
}

// server returns the server side of a mechanism. Who signed in goes to welcome; scope
// is what the token must have.
func (c checker) server(mechanism, scope string, welcome func(user string), refuse func(error) error) (gosasl.Server, error) {
	if !slices.Contains(c.mechanisms(), mechanism) {
		return nil, refuse(sasl.ErrMechanism)
	}
	inner, err := sasl.NewServer(mechanism, func(presented sasl.Credentials) error {
		user, err := c.judge(presented, scope)
		if err == nil {
			welcome(user)
		}
		return err
	})
	if err != nil {
		return nil, refuse(err)
	}
	return refusing{inner, refuse}, nil
}

// refusing gives errors the form that the library around it sends.
type refusing struct {
	gosasl.Server
	refuse func(error) error
}

func (r refusing) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := r.Server.Next(response)
	if err != nil {
		err = r.refuse(err)
	}
	return challenge, done, err
}

// An introspection is what counts of RFC 7662 section 2.2.
type introspection struct {
	Active   bool   `json:"active"`
	Username string `json:"username"`
	Scope    string `json:"scope"`
}

func (c checker) judge(presented sasl.Credentials, scope string) (user string, err error) {
	if presented.Mechanism == sasl.Plain {
		return c.password(presented.User, presented.Secret, scope)
	}
	return c.token(presented, scope)
}

func (c checker) token(presented sasl.Credentials, scope string) (user string, err error) {
	answer, err := c.ask(c.Introspection, url.Values{"token": {presented.Secret.Reveal()}, "token_type_hint": {"access_token"}}, scope)
	if err != nil {
		c.Log.Error("introspection", "error", err)
		return "", errUnavailable
	}
	refusal := func(status string) error {
		c.Log.Info("token refused", "mechanism", presented.Mechanism, "user", presented.User, "status", status)
		return &sasl.Refusal{Status: status, Scope: scope, OpenIDConfiguration: c.OpenIDConfiguration}
	}
	switch {
	case !answer.Active || answer.Username == "":
		return "", refusal("invalid_token")
	case presented.User != "" && !strings.EqualFold(presented.User, answer.Username):
		return "", refusal("invalid_token")
	case !slices.Contains(strings.Fields(answer.Scope), scope):
		return "", refusal("insufficient_scope")
	}
	return strings.ToLower(answer.Username), nil
}

// password asks whether the app password opens the user's account for the protocol, as
// Dovecot's oauth2 passdb does with grant_url. A no is an answer too: it names somebody
// else.
func (c checker) password(user string, password secret.String, protocol string) (login string, err error) {
	if c.Password == "" {
		return "", sasl.ErrMechanism
	}
	answer, err := c.ask(c.Password, url.Values{"grant_type": {"password"}, "username": {user}, "password": {password.Reveal()}}, protocol)
	switch {
	case err != nil:
		c.Log.Error("password", "error", err)
		return "", errUnavailable
	case !answer.Active || !strings.EqualFold(answer.Username, user):
		return "", errRefused
	}
	return strings.ToLower(answer.Username), nil
}

// errRefused is a no to a password.
var errRefused = errors.New("the password is refused")

// ask asks anew at every login: what was revoked a second ago must not log in.
func (c checker) ask(endpoint string, form url.Values, protocol string) (answer introspection, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return answer, fmt.Errorf("make introspection request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Dovecot-Auth-Service", protocol)
	req.SetBasicAuth(c.ClientID, c.Secret.Reveal())
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return answer, fmt.Errorf("ask for introspection: %w", err)
	}
	defer resp.Body.Close()
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || media != "application/json" {
		return answer, fmt.Errorf("introspection answered %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return answer, fmt.Errorf("read introspection: %w", err)
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, errors.New("introspection answered something that is not its JSON")
	}
	return answer, nil
}
