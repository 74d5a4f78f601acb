package tokenstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

func TestFileKeys(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	keys := NewFile(folder)
	if _, err := keys.Recipient(); !errors.Is(err, ErrNoKey) {
		t.Errorf("Recipient before Create: %v, want ErrNoKey", err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Identity before Create: %v, want ErrNoKey", err)
	}
	if _, err := os.Lstat(folder); err == nil {
		t.Error("asking for a key made a folder")
	}
	var first string
	for range 3 {
		if err := keys.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		identity, err := keys.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := identity.(*age.X25519Identity).String()
		if first == "" {
			first = text
		}
		if text != first {
			t.Error("Create replaced the key")
		}
	}
	if info, err := os.Lstat(filepath.Join(folder, "identity.age-key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("key file: %v, %v, want mode 0600", info.Mode(), err)
	}
}

func TestFileKeysCreatedAtOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	var wait sync.WaitGroup
	found := make([]string, 8)
	for i := range found {
		wait.Go(func() {
			keys := NewFile(folder)
			if err := keys.Create(t.Context()); err != nil {
				t.Error(err)
				return
			}
			if recipient, err := keys.Recipient(); err == nil {
				found[i] = recipient.(*age.X25519Recipient).String()
			}
		})
	}
	wait.Wait()
	for _, recipient := range found {
		if recipient != found[0] || recipient == "" {
			t.Fatalf("sign-ins at once made several keys: %q", found)
		}
	}
}

func TestFileKeysFaults(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	keys := NewFile(folder)
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "identity.age-key")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, want error) {
		t.Helper()
		_, recipientErr := keys.Recipient()
		_, identityErr := keys.Identity(t.Context())
		for _, err := range []error{recipientErr, identityErr, keys.Create(t.Context())} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%s: the error quotes the key: %v", what, err)
			}
		}
	}
	for what, text := range map[string]string{
		"empty": "", "cut off": string(good[:len(good)-10]), "twice": string(good) + string(good),
		"public half": newIdentity(t).Recipient().String(), "plugin": "AGE-PLUGIN-X-1QQQ",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		check(what, ErrNoKey)
		// A key that cannot be understood is kept for somebody who can.
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: Create replaced the file", what)
		}
	}
	if err := errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	check("loose file", atomicfile.ErrNotPrivate)
	if err := errors.Join(os.Chmod(path, 0o600), os.Chmod(folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	check("loose folder", atomicfile.ErrNotPrivate)
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte("# comment\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n"))
	f.Add([]byte("\r\n\n# nothing"))
	f.Add([]byte("AGE-SECRET-KEY-1\nAGE-SECRET-KEY-1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		identity, err := parseIdentity(data)
		if err != nil {
			if !errors.Is(err, ErrNoKey) || identity != nil {
				t.Errorf("parseIdentity = %v, %v", identity != nil, err)
			}
			return
		}
		again, err := parseIdentity(formatIdentity(identity))
		if err != nil || again.String() != identity.String() {
			t.Errorf("what was parsed does not parse again: %v", err)
		}
	})
}
