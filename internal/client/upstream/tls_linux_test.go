package upstream

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of the machine's authorities those are read that the server names, and by no stricter
// and no laxer rules than all of them: what SSL_CERT_FILE has is good, and nothing else.
func TestMachinesAuthorities(t *testing.T) {
	dial := func() error {
		conn, err := Dial(t.Context(), IMAP, greetTLS(t, testAuthority().server), Options{Timeout: patience})
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without: %v", err)
	}
	path := filepath.Join(t.TempDir(), "bundle.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testAuthority().server.Certificates[0].Certificate[0]})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", path)
	if err := dial(); err != nil {
		t.Errorf("with: %v", err)
	}
}
