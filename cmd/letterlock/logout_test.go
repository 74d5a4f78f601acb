package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// TestRevokeAll: a machine has no refresh token, and each of its access tokens is a right
// of its own.
func TestRevokeAll(t *testing.T) {
	access := func(names ...string) map[string]account.Access {
		m := map[string]account.Access{}
		for _, name := range names {
			m[name] = account.Access{Token: secret.New(name)}
		}
		return m
	}
	for name, c := range map[string]struct {
		grant account.Grant
		asked []string
		all   bool
		fails bool
	}{
		"person":          {account.Grant{Refresh: secret.New("refresh"), Access: access("a", "b")}, []string{"refresh_token refresh"}, true, false},
		"machine":         {account.Grant{Access: access("b", "a")}, []string{"access_token a", "access_token b"}, true, false},
		"one is not ours": {account.Grant{Access: access("a", "refused", "z")}, []string{"access_token a", "access_token refused", "access_token z"}, false, false},
		"busy":            {account.Grant{Access: access("a", "later", "z")}, []string{"access_token a", "access_token later"}, false, true},
		"nothing is out":  {account.Grant{}, nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := r.PostFormValue("token")
				asked = append(asked, r.PostFormValue("token_type_hint")+" "+token)
				switch token {
				case "refused":
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, `{"error":"unsupported_token_type"}`)
				case "later":
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			defer server.Close()
			conn := &oauth.Conn{HTTP: server.Client(), Now: time.Now, Endpoints: oauth.Endpoints{Revocation: server.URL}, Client: oauth.Client{ID: "board", Auth: oauth.AuthNone}}
			p := &program{term: &cli.Terminal{Err: io.Discard}}
			all, err := p.revokeAll(t.Context(), conn, &c.grant)
			if all != c.all || (err != nil) != c.fails || !slices.Equal(asked, c.asked) {
				t.Errorf("%v, %v; asked %q, want %q", all, err, asked, c.asked)
			}
		})
	}
}
