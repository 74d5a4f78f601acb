//go:build lab

package credential

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDovecotReadsOurHashes: the very string that is stored, behind "{ARGON2ID}", is what
// Dovecot checks passwords against while the daemon is down.
func TestDovecotReadsOurHashes(t *testing.T) {
	config := filepath.Join(t.TempDir(), "dovecot.conf")
	if err := os.WriteFile(config, []byte("ssl = no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cost := range []Cost{DefaultCost(), {Memory: 64 * 1024, Time: 1, Threads: 1}, {Memory: 7 * 1024, Time: 5, Threads: 4}} {
		password, _, hash, err := cost.NewAppPassword(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		check := func(text string) ([]byte, error) {
			return exec.CommandContext(t.Context(), "doveadm", "-c", config, "pw", "-t", "{ARGON2ID}"+hash, "-p", text).CombinedOutput()
		}
		if out, err := check(password.Reveal()); err != nil {
			t.Errorf("%+v: Dovecot refuses the password: %v\n%s", cost, err, out)
		}
		if out, err := check(lastSymbolChanged(password).Reveal()); err == nil {
			t.Errorf("%+v: Dovecot takes another password\n%s", cost, out)
		}
	}
}
