package tokenstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// credentials is what the service manager gives a unit.
func credentials(t *testing.T, name, content string) (folder string, where Surroundings) {
	t.Helper()
	folder = t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o440); err != nil {
		t.Fatal(err)
	}
	return folder, Surroundings{Environ: []string{"CREDENTIALS_DIRECTORY=" + folder}}
}

func TestSystemdKeys(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	text, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	store, where := credentials(t, DefaultCredential, string(text))
	outside := NewSystemd(folder, "systemd", "", "", Surroundings{})
	var locked *LockedError
	if err := outside.Create(t.Context()); !errors.As(err, &locked) || !strings.Contains(locked.How, "LoadCredentialEncrypted="+DefaultCredential) {
		t.Errorf("Create outside of the unit: %v", err)
	}
	inside := NewSystemd(folder, "systemd", "", "", where)
	for range 2 {
		if err := inside.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantPair(t, inside)
	wantSealed(t, folder, secretPrefix)
	// Outside grants can be written and not read.
	if got, err := outside.Recipient(); err != nil || got.(interface{ String() string }).String() != recipient {
		t.Errorf("Recipient outside: %v, %v", got, err)
	}
	if _, err := outside.Identity(t.Context()); !errors.As(err, &locked) || !errors.Is(err, ErrLocked) || locked.How == "" {
		t.Errorf("Identity outside: %v", err)
	}
	// With the public half known a sign-in needs no unit.
	known := NewSystemd(filepath.Join(t.TempDir(), "keys"), "systemd", "", recipient, Surroundings{})
	if err := known.Create(t.Context()); err != nil {
		t.Error(err)
	}
	wrong := NewSystemd(filepath.Join(t.TempDir(), "keys"), "systemd", "", "age1nonsense", Surroundings{})
	if err := wrong.Create(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a recipient that is none: %v", err)
	}
	path := filepath.Join(store, DefaultCredential)
	for what, spoil := range map[string]struct {
		change func() error
		want   error
	}{
		"gone":    {func() error { return nil }, ErrLocked},
		"folder":  {func() error { return os.Mkdir(path, 0o700) }, ErrNoKey},
		"link":    {func() error { return os.Symlink("/dev/zero", path) }, ErrNoKey},
		"huge":    {func() error { return os.WriteFile(path, make([]byte, keyFileLimit+1), 0o400) }, ErrNoKey},
		"rubbish": {func() error { return os.WriteFile(path, []byte("AGE-SECRET-KEY-1NONSENSE"), 0o400) }, ErrNoKey},
		"another": {func() error { return os.WriteFile(path, formatIdentity(newIdentity(t)), 0o400) }, ErrNoKey},
	} {
		if err := errors.Join(os.RemoveAll(path), spoil.change()); err != nil {
			t.Fatal(err)
		}
		if _, err := inside.Identity(t.Context()); !errors.Is(err, spoil.want) || strings.Contains(err.Error(), secretPrefix) {
			t.Errorf("%s: %v, want %v", what, err, spoil.want)
		}
	}
	for _, folder := range []string{"relative", ".."} {
		away := NewSystemd(inside.folder.path(""), "systemd", "", "", Surroundings{Environ: []string{"CREDENTIALS_DIRECTORY=" + folder}})
		if _, err := away.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", folder, err)
		}
	}
	climber := NewSystemd(inside.folder.path(""), "systemd", "../x", "", where)
	if _, err := climber.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a credential outside of its folder: %v", err)
	}
}

func TestCommandKeys(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	text, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	show := helper(t, "show", file)
	keys := NewCommand(folder, "vault", show, "", Surroundings{})
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPair(t, keys)
	wantSealed(t, folder, secretPrefix)
	for _, row := range []struct {
		command []string
		want    error
	}{
		{helper(t, "refuse"), ErrLocked},
		{helper(t, "show", "/nowhere"), ErrLocked},
		{helper(t, "copy"), ErrNoKey}, // prints nothing
		{helper(t, "flood"), ErrNoKey},
		{helper(t, "environ"), ErrNoKey}, // prints something else
		{[]string{"/nowhere/show"}, ErrNoKey},
		{[]string{"no-such-program"}, ErrNoKey},
		{nil, ErrNoKey},
	} {
		_, err := NewCommand(folder, "vault", row.command, "", Surroundings{}).Identity(t.Context())
		if !errors.Is(err, row.want) || strings.ContainsAny(err.Error(), "\x1b\x07\n") || strings.Contains(err.Error(), secretPrefix) {
			t.Errorf("%.60q: %v, want %v", row.command, err, row.want)
		}
	}
	// The command's complaint is told, unless it holds the key.
	if _, err := NewCommand(folder, "vault", helper(t, "refuse"), "", Surroundings{}).Identity(t.Context()); !strings.Contains(err.Error(), "ask again later") {
		t.Errorf("%v does not say what the command said", err)
	}
	if err := os.WriteFile(file, formatIdentity(newIdentity(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("another key: %v, want ErrNoKey", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errSilent)
	defer cancel()
	began := time.Now()
	if _, err := fromCommand(ctx, helper(t, "hang"), Surroundings{}); err == nil || time.Since(began) > patience {
		t.Errorf("a command that hangs: %v after %v", err, time.Since(began))
	}
}
