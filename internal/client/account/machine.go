package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

const maxKeyFile = 64 << 10

// A KeyFileError says that the file by which a machine asks for its tokens cannot be
// used. Nothing was sent.
type KeyFileError struct {
	Path string
	Err  error
}

// Error names the file.
func (e *KeyFileError) Error() string { return fmt.Sprintf("key file %s: %v", e.Path, e.Err) }

// Unwrap returns what is wrong with it.
func (e *KeyFileError) Unwrap() error { return e.Err }

// Machine reports whether the grant's tokens are asked for with a key file: there is no
// person to sign in and no refresh token (RFC 6749 section 4.4.3).
func (g *Grant) Machine() bool {
	return g.Flow == provider.FlowClientCredentials || g.Flow == provider.FlowAssertion
}

// Conn is how grant speaks to its authorization server. A machine's secret or key is read
// for it from the grant's file; an error is then a *KeyFileError.
func (g *Grant) Conn(client *http.Client, now func() time.Time) (*oauth.Conn, error) {
	conn := &oauth.Conn{HTTP: client, Endpoints: g.Endpoints, Client: g.Client, Now: now}
	if !g.Machine() {
		return conn, nil
	}
	data, err := atomicfile.Read(g.KeyFile, maxKeyFile)
	if err != nil {
		return nil, &KeyFileError{g.KeyFile, err}
	}
	switch conn.Client.Auth {
	case oauth.AuthPost, oauth.AuthBasic:
		line, _, _ := strings.Cut(string(data), "\n")
		if conn.Client.Secret = secret.New(strings.TrimSpace(line)); conn.Client.Secret.IsZero() {
			return nil, &KeyFileError{g.KeyFile, errors.New("its first line must be the secret")}
		}
	default:
		if conn.Key, err = oauth.ParseKey(data); err != nil {
			return nil, &KeyFileError{g.KeyFile, err}
		}
	}
	return conn, nil
}

// mint asks for a token with what is in the key file now.
func mint(ctx context.Context, conn *oauth.Conn, grant *Grant, resource Resource, extra url.Values) (oauth.Token, error) {
	if grant.Flow == provider.FlowAssertion {
		return conn.AssertFor(ctx, grant.Login, resource.Scopes, extra)
	}
	return conn.ClientCredentials(ctx, resource.Scopes, extra)
}
