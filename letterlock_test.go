package letterlock

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// signIn leaves a state folder as `letterlock login` does.
func signIn(t *testing.T, access account.Access) (state string) {
	t.Helper()
	state = filepath.Join(t.TempDir(), "letterlock")
	store, err := tokenstore.Open(filepath.Join(state, "grants"))
	if err != nil {
		t.Fatal(err)
	}
	keys := tokenstore.NewFile(filepath.Join(state, "keys"))
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	manager := &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
	grant := &account.Grant{
		Account: "you@try.test", Client: oauth.Client{ID: "c", Auth: oauth.AuthNone},
		Resources: []account.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP}}},
		Access:    map[string]account.Access{"mail": access},
	}
	if err := manager.Save(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestTokenSource(t *testing.T) {
	now := time.Now()
	good := account.Access{Token: secret.New("the-token"), Issued: now, Expiry: now.Add(time.Hour)}
	state := signIn(t, good)
	t.Setenv("XDG_STATE_HOME", filepath.Dir(state))
	source, err := TokenSource(t.Context(), "you@try.test")
	if err != nil {
		t.Fatal(err)
	}
	token, err := source.Token()
	if err != nil || token.AccessToken != "the-token" || !token.Valid() {
		t.Errorf("Token = %v, %v", token, err)
	}
	// As programs use it: an HTTP client that presents the token.
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer server.Close()
	res, err := oauth2.NewClient(t.Context(), source).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got != "Bearer the-token" {
		t.Errorf("Authorization: %s", got)
	}
}

func TestErrors(t *testing.T) {
	state := signIn(t, account.Access{}) // no access token and no refresh token
	source, err := Options{StateFolder: state, Key: "file"}.TokenSource(t.Context(), "you@try.test")
	if err != nil {
		t.Fatal(err)
	}
	if token, err := source.Token(); !errors.Is(err, ErrSignInNeeded) || token != nil {
		t.Errorf("Token = %v, %v", token, err)
	}
	if _, err := (Options{StateFolder: state}).TokenSource(t.Context(), "other@try.test"); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("unknown account: %v", err)
	}
	if _, err := (Options{StateFolder: state, Key: "cloud"}).TokenSource(t.Context(), "you@try.test"); err == nil {
		t.Error("unknown key source taken")
	}
	if _, err := (Options{StateFolder: t.TempDir()}).TokenSource(t.Context(), "you@try.test"); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("an empty store: %v", err)
	}
}
