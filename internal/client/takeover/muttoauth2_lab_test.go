//go:build lab

package takeover

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

const (
	script = "/usr/share/doc/mutt/examples/mutt_oauth2.py"
	keyID  = "takeover@example.org"
)

// A tokenServer answers the script's code exchange.
type tokenServer struct {
	mu       sync.Mutex
	requests []url.Values
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.PostForm)
	w.Header().Set("Content-Type", "application/json")
	if r.PostForm.Get("code") != "the-code" || r.PostForm.Get("grant_type") != "authorization_code" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	_, _ = w.Write([]byte(`{"access_token":"access-of-the-script","refresh_token":"refresh-of-the-script","token_type":"Bearer","expires_in":3600}`))
}

// edited is the script as its user has to edit it: key, client and end points.
func edited(t *testing.T, server string) string {
	t.Helper()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatalf("Debian's mutt package has the script: %v", err)
	}
	changed := string(text)
	for _, change := range [][2]string{
		{"YOUR_GPG_IDENTITY", keyID},
		{"'gpg', '--encrypt',", "'gpg', '--batch', '--trust-model', 'always', '--encrypt',"},
		{"https://accounts.google.com/o/oauth2/token", server + "/token"},
		{"https://accounts.google.com/o/oauth2/auth", server + "/authorize"},
		{"'client_id': ''", "'client_id': 'the-client'"},
	} {
		if !strings.Contains(changed, change[0]) {
			t.Fatalf("the script has no %q", change[0])
		}
		changed = strings.ReplaceAll(changed, change[0], change[1])
	}
	path := filepath.Join(t.TempDir(), "mutt_oauth2.py")
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyring makes a gpg home with one key without passphrase.
func keyring(t *testing.T) {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // short: the agent's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	run(t, "", "gpg", "--batch", "--passphrase", "", "--quick-gen-key", keyID, "default", "default", "never")
}

func run(t *testing.T, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// Debian's script signs in at a server of ours and writes its gpg file, which is
// then taken over; the zone it noted its time in is not ours.
func TestRealMuttOAuth2(t *testing.T) {
	server := &tokenServer{}
	endpoint := httptest.NewServer(server)
	defer endpoint.Close()
	keyring(t)
	file := filepath.Join(t.TempDir(), "me.tokens")
	zone, err := time.LoadLocation("America/St_Johns")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "America/St_Johns")
	began := time.Now()
	run(t, "google\nauthcode\nme@example.org\nthe-code\n", "python3", edited(t, endpoint.URL), "--verbose", "--authorize", file)
	ended := time.Now()
	if len(server.requests) != 1 || server.requests[0].Get("client_id") != "the-client" {
		t.Fatalf("requests of the script: %v", server.requests)
	}
	found := read(t, file, zone)
	if found.Email != "me@example.org" || found.ProviderName != "google" || found.Flow != provider.FlowPaste || found.ClientID != "" {
		t.Errorf("found %+v", found)
	}
	if found.Refresh.Reveal() != "refresh-of-the-script" || found.Access.Reveal() != "access-of-the-script" {
		t.Errorf("tokens %q, %q", found.Refresh.Reveal(), found.Access.Reveal())
	}
	if found.Expiry.Before(began.Add(time.Hour-time.Second)) || found.Expiry.After(ended.Add(time.Hour)) {
		t.Errorf("expiry %s, signed in at %s", found.Expiry, began)
	}
}

func read(t *testing.T, file string, zone *time.Location) Found {
	t.Helper()
	sealed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	found, err := ReadMuttOAuth2(t.Context(), sealed, GPG(), zone)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A sign-in that was given up leaves a file without tokens.
func TestRealMuttOAuth2Unfinished(t *testing.T) {
	endpoint := httptest.NewServer(&tokenServer{})
	defer endpoint.Close()
	keyring(t)
	file := filepath.Join(t.TempDir(), "me.tokens")
	cmd := exec.CommandContext(t.Context(), "python3", edited(t, endpoint.URL), "--authorize", file)
	cmd.Stdin = strings.NewReader("google\nauthcode\nme@example.org\n")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the script finished: %s", out)
	}
	sealed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadMuttOAuth2(t.Context(), strings.NewReader(string(sealed)), GPG(), time.Local)
	if !errors.Is(err, ErrNoGrant) {
		t.Errorf("error %v", err)
	}
	// And without the key there is nothing to be had.
	t.Setenv("GNUPGHOME", t.TempDir())
	_, err = ReadMuttOAuth2(t.Context(), strings.NewReader(string(sealed)), Command("gpg", "--no-autostart", "--batch", "--quiet", "--decrypt"), time.Local)
	var fault *cli.Fault
	if !errors.As(err, &fault) || fault.Code != cli.NoPerm || !strings.Contains(fault.What, "gpg cannot decrypt") {
		t.Errorf("error %v", err)
	}
}
