//go:build lab && linux

package tokenstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// With a program as people configure it.
func TestPipeOpenSSL(t *testing.T) {
	state, secrets := t.TempDir(), t.TempDir()
	password := filepath.Join(secrets, "password")
	if err := os.WriteFile(password, []byte("x9-a-password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(flags ...string) []string {
		return append([]string{"openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:" + password}, flags...)
	}
	keys := NewPipe(filepath.Join(state, "keys"), command("-e"), command("-d"), Surroundings{})
	store := newState(t, state, keys)
	wantGrant(t, store, "you@example.org", keys, labCanary)
	wantSealed(t, state, labCanary, secretPrefix)
	// A copied state without the password file gives nothing, and openssl says why.
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	if err := wantRefusal(t, store, keys, ErrLocked); err == nil || errors.Is(err, ErrNoKey) {
		t.Errorf("Read = %v", err)
	}
}

// gpg as an encrypt and decrypt pair, the way mutt_oauth2.py uses it.
func TestPipeGPG(t *testing.T) {
	lab := newGPG(t, false, answering("exit 1"))
	state := t.TempDir()
	keys := NewPipe(filepath.Join(state, "keys"),
		[]string{"gpg", "--encrypt", "--default-recipient-self"}, []string{"gpg", "--decrypt"}, lab.alone())
	store := newState(t, state, keys)
	wantGrant(t, store, "you@example.org", keys, labCanary)
	wantSealed(t, state, labCanary, secretPrefix)
}
