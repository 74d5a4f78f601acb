package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// TestIssuersApart: by token_prefix no issuer sees another's tokens; without it they do, and
// the log says so at the start.
func TestIssuersApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first, second, shown string
		warned               bool
	}{
		{"a_", "b_", "b", false}, {"a_", "", "b", false}, {"", "b_", "b", false}, {"", "", "ab", true},
	} {
		shown, log := "", &bytes.Buffer{}
		conf := &config.Daemon{Issuers: map[string]config.Issuer{}}
		for name, prefix := range map[string]string{"a": c.first, "b": c.second} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				shown += name
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"active":false}`)
			}))
			defer server.Close()
			conf.Issuers[name] = config.Issuer{URL: server.URL, Audiences: []string{"mail"}, Clients: []string{"x"}, Scopes: []string{"imap"},
				Introspection: server.URL, TokenPrefix: prefix, ClientID: "us", ClientSecretFile: file}
		}
		l := &plan{conf: conf, log: slog.New(slog.NewTextHandler(log, nil)), now: time.Now}
		all, err := l.outside()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Verify(t.Context(), secret.New("b_token")); err == nil || shown != c.shown {
			t.Errorf("prefixes %q, %q: shown to %q, want %q (%v)", c.first, c.second, shown, c.shown, err)
		}
		if strings.Contains(log.String(), "token_prefix") != c.warned {
			t.Errorf("prefixes %q, %q: the log says %q", c.first, c.second, log)
		}
	}
}
