package account

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// TestMachine: a grant without a refresh token renews by its file, which is read each
// time; a file that cannot be used is a fault of the set-up, and nothing is asked.
func TestMachine(t *testing.T) {
	var forms []url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		forms = append(forms, r.PostForm)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "t" + r.PostForm.Get("client_secret"), "token_type": "Bearer", "expires_in": 3600})
	}))
	t.Cleanup(server.Close)
	m, _ := setUp(t, OverHTTP(oauth.NewHTTPClient(oauth.HTTPOptions{}), time.Now))
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	grant := testGrant(server.URL, "", time.Now())
	grant.Refresh, grant.Flow, grant.KeyFile = secret.String{}, provider.FlowClientCredentials, file
	grant.Client = oauth.Client{ID: "app", Auth: oauth.AuthPost}
	if err := m.Save(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	refused := secret.String{}
	for _, text := range []string{"one", "two"} {
		write(text+"\nnot this\n", 0o600)
		access, err := m.Token(t.Context(), testName, Want{Refused: refused})
		if err != nil || access.Token.Reveal() != "t"+text {
			t.Fatalf("%q: %v", access.Token.Reveal(), err)
		}
		refused = access.Token
	}
	if len(forms) != 2 || forms[0].Get("grant_type") != "client_credentials" || forms[0].Has("refresh_token") {
		t.Errorf("asked with %v", forms)
	}
	for name, spoil := range map[string]func(){
		"empty": func() { write("\n", 0o600) }, "open to others": func() { write("three\n", 0o644) }, "gone": func() { _ = os.Remove(file) },
	} {
		spoil()
		_, err := m.Token(t.Context(), testName, Want{Refused: refused})
		var rejected *Rejected
		var wrong *KeyFileError
		if !errors.As(err, &rejected) || !errors.As(err, &wrong) || wrong.Path != file {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(forms) != 2 {
		t.Error("a request was made without a key")
	}
	if mark, err := m.Interrupted(t.Context(), testName); err != nil || mark != nil {
		t.Errorf("a mark was left: %v, %v", mark, err)
	}
}
