package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Registered is our dynamic registration (RFC 7591, 7592).
type Registered struct {
	ClientURI   string // registration_client_uri
	AccessToken secret.String
}

// A RegisterRequest asks for a client of our own.
type RegisterRequest struct {
	RedirectURIs []string
	Scopes       []string
	GrantTypes   []string // empty: authorization_code and refresh_token
}

// clientMetadata is the body of RFC 7591 section 2. The name is fixed: people see it
// on the consent page.
type clientMetadata struct {
	ClientName      string   `json:"client_name"`
	RedirectURIs    []string `json:"redirect_uris,omitempty"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	ApplicationType string   `json:"application_type"`
	Scope           string   `json:"scope,omitempty"`
}

// Register registers a public client for this installation (RFC 7591).
func Register(ctx context.Context, hc *http.Client, endpoint string, req RegisterRequest) (Client, error) {
	if endpoint == "" {
		return Client{}, fmt.Errorf("registration endpoint: %w", ErrNoEndpoint)
	}
	if _, err := parseURL(endpoint); err != nil {
		return Client{}, fmt.Errorf("registration endpoint: %w", err)
	}
	if len(req.GrantTypes) == 0 {
		req.GrantTypes = []string{"authorization_code", "refresh_token"}
	}
	body, err := json.Marshal(clientMetadata{
		ClientName: "Letterlock", RedirectURIs: req.RedirectURIs, GrantTypes: req.GrantTypes,
		ResponseTypes: []string{"code"}, AuthMethod: string(AuthNone), ApplicationType: "native",
		Scope: strings.Join(req.Scopes, " "),
	})
	if err != nil {
		return Client{}, fmt.Errorf("encode registration: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return Client{}, errors.New("registration endpoint: not a URL")
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := send(hc, r, "registration", scrubber{})
	if err != nil {
		return Client{}, err
	}
	return a.client(req, endpoint)
}

// client reads RFC 7591 section 3.2.1, as the registration endpoint answered it.
func (a answer) client(req RegisterRequest, endpoint string) (Client, error) {
	if !a.ok() {
		return Client{}, a.fault()
	}
	o, err := a.object()
	if err != nil {
		return Client{}, err
	}
	if o.fault() != nil {
		return Client{}, a.fault()
	}
	client, err := o.client(req, endpoint)
	if err != nil {
		return Client{}, a.malformed(err)
	}
	return client, nil
}

func (o object) client(req RegisterRequest, endpoint string) (Client, error) {
	id, err := o.text("client_id")
	if err != nil || id == "" || !charset(id, 0x20) {
		return Client{}, errors.New("no usable client_id in the answer")
	}
	key := o.lenient("client_secret")
	if !charset(key, 0x20) {
		return Client{}, errors.New("client_secret with characters that none has")
	}
	client := Client{ID: id, Secret: secret.New(key)}
	if client.Auth, err = o.authMethod(key != ""); err != nil {
		return Client{}, err
	}
	if client.Auth == AuthNone {
		client.Secret = secret.String{}
	}
	// A server may change what it registers; a redirect that is not ours would send
	// codes to somebody else.
	for _, uri := range o.list("redirect_uris") {
		if !slices.Contains(req.RedirectURIs, uri) {
			return Client{}, fmt.Errorf("the server registered another redirect URI: %s", uri)
		}
	}
	client.Registration, err = o.registered(endpoint)
	return client, err
}

// authMethod reads how the server wants to be shown who we are. Silence means Basic by
// RFC 7591 section 2, but only where there is a secret to show.
func (o object) authMethod(withSecret bool) (AuthStyle, error) {
	method, err := o.text("token_endpoint_auth_method")
	switch {
	case err != nil:
		return "", err
	case method == "" && withSecret:
		return AuthBasic, nil
	case method == "", method == string(AuthNone):
		return AuthNone, nil
	case withSecret && (method == string(AuthPost) || method == string(AuthBasic)):
		return AuthStyle(method), nil
	}
	return "", fmt.Errorf("the server registered client authentication %s, which we cannot do", method)
}

// registered reads RFC 7592 section 3. Where we deregister one day is held to the rule
// for endpoints: a server elsewhere names no port of this machine.
func (o object) registered(endpoint string) (*Registered, error) {
	uri, token := o.lenient("registration_client_uri"), o.lenient("registration_access_token")
	if uri == "" || token == "" {
		return nil, nil // RFC 7592 not offered
	}
	if _, err := o.endpoint("registration_client_uri", Issuer(endpoint)); err != nil {
		return nil, err
	}
	if !charset(token, 0x21) {
		return nil, errors.New("registration_access_token has characters that no token has")
	}
	return &Registered{ClientURI: uri, AccessToken: secret.New(token)}, nil
}

// Unregister removes our registration (RFC 7592 section 2.3). One that is gone already
// is a success.
func Unregister(ctx context.Context, hc *http.Client, reg Registered) error {
	if _, err := parseURL(reg.ClientURI); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, reg.ClientURI, nil)
	if err != nil {
		return errors.New("registration: not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+reg.AccessToken.Reveal())
	a, err := send(hc, req, "registration", scrubSecrets(reg.AccessToken))
	switch {
	case err != nil:
		return err
	case a.ok(), a.status == http.StatusNotFound, a.status == http.StatusGone:
		return nil
	}
	return a.fault()
}
