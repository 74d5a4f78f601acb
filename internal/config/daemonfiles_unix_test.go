//go:build unix

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whatever file a configuration names: a FIFO there is told with its line, and waited for
// by nobody.
func TestFilesThatAreNone(t *testing.T) {
	folder := t.TempDir()
	fifo := filepath.Join(folder, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const base = "domains = [\"example.org\"]\n"
	for _, c := range []struct{ key, section, text string }{
		{"deny", "throttle", "[throttle]\ndeny = [\"/etc/hosts\", %q]\n"},
		{"url", "database", "[database]\nurl = \"sqlite:%[2]s\"\n"},
		{"url_file", "database", "[database]\nurl_file = %q\n"},
		{"view_file", "database", "[database]\nview_file = %q\n"},
		{"master_key_file", "web", "[web]\nmaster_key_file = %q\n"},
		{"certificate", "web", "[web]\ncertificate = %q\nkey = \"/nowhere\"\n"},
		{"key", "web", "[web]\nkey = %q\ncertificate = \"/nowhere\"\n"},
		{"secret_file", "dovecot", "[dovecot]\nsecret_file = %q\nlisten = \"127.0.0.1:1\"\n"},
		{"key_file", "doveadm.one", "[doveadm.one]\nkey_file = %q\nurl = \"http://127.0.0.1:1/\"\n"},
		{"ca_file", "doveadm.one", "[doveadm.one]\nca_file = %q\nurl = \"https://one.example.org:1/\"\nkey_file = \"/nowhere\"\n"},
		{"client_secret_file", "signin.x", "[signin.x]\nclient_secret_file = %q\ntype = \"oidc\"\nissuer = \"https://op.example.org\"\nclient_id = \"x\"\n[web]\npublic_url = \"https://id.example.org\"\n"},
		{"token_file", "scim", "[scim]\ntoken_file = %q\nlisten = \"127.0.0.1:1\"\n"},
	} {
		path := filepath.Join(folder, "letterlockd.toml")
		text := base + strings.ReplaceAll(fmt.Sprintf(c.text, fifo, fifo), "%!(EXTRA string="+fifo+")", "")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadDaemon(path)
		var faults *Error
		want := fmt.Sprintf("%s:3: %s in [%s]: %s is a FIFO and no regular file", path, c.key, c.section, fifo)
		if !errors.As(err, &faults) || len(faults.Lines()) != 1 || faults.Lines()[0] != want {
			t.Errorf("%s: %v, want %s", c.key, err, want)
		}
	}
}
