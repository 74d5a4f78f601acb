//go:build lab

package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The lock of a renewal, in PHP itself: many people share a file, and none of them ends
// another's sign-in; what lies in its place is not written to.
func TestRenewalLock(t *testing.T) {
	const cookie = "mod_auth_openidc_session=0123"
	digest := sha256.Sum256([]byte(cookie))
	mine := hex.EncodeToString(digest[:])
	other := mine[:2] + strings.Repeat("0", 62)
	for _, c := range []struct {
		name   string
		left   time.Duration // of the token
		failed string        // whose renewal has just failed
		link   bool
		answer int // of Apache
		asked  int32
		says   string
	}{
		{"renewed", time.Hour, "", false, 204, 1, "PASSES Bearer fresh"},
		{"renewed after its end", -time.Minute, "", false, 204, 1, "PASSES Bearer fresh"},
		{"another's failure, and mine has ended", -time.Minute, other, false, 204, 1, "PASSES Bearer fresh"},
		{"another's failure, and mine is good", time.Hour, other, false, 204, 0, "PASSES Bearer old"},
		{"my own failure, and it is good", time.Hour, mine, false, 204, 0, "PASSES Bearer old"},
		{"my own failure", -time.Minute, mine, false, 204, 0, "sign-in has ended"},
		{"a provider in trouble", time.Hour, "", false, 502, 1, "PASSES Bearer old"},
		{"a link", time.Hour, "", true, 502, 0, "cannot write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			apache := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/__oidc/token" && r.Header.Get("Cookie") == cookie {
					asked.Add(1)
					w.Header().Set("Letterlock-Token", fmt.Sprint(time.Now().Add(24*time.Hour).Unix(), " fresh"))
					w.WriteHeader(c.answer)
				}
			}))
			defer apache.Close()
			folder := t.TempDir()
			lock, precious := filepath.Join(folder, "letterlock-"+mine[:2]), filepath.Join(folder, "precious")
			write := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(precious, "0 kept")
			if c.failed != "" {
				// A failure counts for five seconds, which PHP may need to start.
				write(lock, fmt.Sprint(time.Now().Add(time.Hour).Unix(), " ", c.failed))
			}
			if c.link {
				if err := os.Symlink(precious, lock); err != nil {
					t.Fatal(err)
				}
			}
			write(filepath.Join(folder, "letterlock.inc.php"), RoundcubeApache{}.Config())
			php := exec.CommandContext(t.Context(), "php", "-d", "display_errors=1", "-d", "error_reporting=-1", "-r", fmt.Sprintf(`
				$_SERVER = ['REMOTE_USER' => 'ann@example.org', 'OIDC_access_token' => 'old', 'OIDC_access_token_expires' => '%d', 'HTTP_COOKIE' => 'a=b; %s',
					'LETTERLOCK_RENEW' => '%s', 'LETTERLOCK_RENEW_BEFORE' => '7200', 'REQUEST_METHOD' => 'POST'] + $_SERVER;
				$config = ['temp_dir' => '%s/'];
				include '%[4]s/letterlock.inc.php';
				echo 'PASSES ', $_SERVER['PHP_AUTH_PW'];`, time.Now().Add(c.left).Unix(), cookie, strings.TrimPrefix(apache.URL, "http://"), folder))
			out, err := php.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), "Warning") || asked.Load() != c.asked {
				t.Errorf("asked %d times, %v: %s", asked.Load(), err, out)
			}
			if text, err := os.ReadFile(precious); err != nil || string(text) != "0 kept" {
				t.Errorf("another file is %q (%v)", text, err)
			}
			if info, err := os.Lstat(lock); err != nil || !c.link && info.Mode() != 0o600 {
				t.Errorf("the lock is %v (%v)", info, err)
			}
		})
	}
}
