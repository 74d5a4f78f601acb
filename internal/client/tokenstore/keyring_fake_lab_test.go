//go:build lab && linux

package tokenstore

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/godbus/dbus/v5"
)

// A fakeKeyring is a Secret Service with one locked item, for what gnome-keyring
// shows only on a desktop: dialogues that are answered, refused, or left alone. It
// knows no cipher but plain, as some small keyrings.
type fakeKeyring struct {
	conn     *dbus.Conn
	secret   []byte
	answer   string // of the person: "yes", "no", "nothing"
	unlocked atomic.Bool
	shown    context.Context // ends with the first dialogue
	show     context.CancelFunc
}

const (
	fakeItem   = dbus.ObjectPath("/org/freedesktop/secrets/collection/c/1")
	fakePrompt = dbus.ObjectPath("/org/freedesktop/secrets/prompt/p1")
)

func (b *bus) fakeKeyring(secret []byte, answer string) *fakeKeyring {
	b.t.Helper()
	fake := &fakeKeyring{conn: b.dial(), secret: secret, answer: answer}
	fake.shown, fake.show = context.WithCancel(b.t.Context())
	for path, name := range map[dbus.ObjectPath]string{secretsPath: "Service", fakeItem: "Item", fakePrompt: "Prompt"} {
		if err := fake.conn.Export(fake, path, secretsInterface+name); err != nil {
			b.t.Fatal(err)
		}
	}
	if reply, err := fake.conn.RequestName(secretsName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		b.t.Fatal(reply, err)
	}
	return fake
}

func (f *fakeKeyring) OpenSession(algorithm string, _ dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	if algorithm != cipherPlain {
		return dbus.MakeVariant(""), noObject, dbus.NewError("org.freedesktop.DBus.Error.NotSupported", nil)
	}
	return dbus.MakeVariant(""), "/session", nil
}

func (f *fakeKeyring) SearchItems(map[string]string) (unlocked, locked []dbus.ObjectPath, _ *dbus.Error) {
	return []dbus.ObjectPath{}, []dbus.ObjectPath{fakeItem}, nil
}

func (f *fakeKeyring) Unlock([]dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	return []dbus.ObjectPath{}, fakePrompt, nil
}

// Prompt is the dialogue. Signals of another prompt come first and mean nothing.
func (f *fakeKeyring) Prompt(string) *dbus.Error {
	defer f.show()
	completed := func(path dbus.ObjectPath, dismissed bool) {
		_ = f.conn.Emit(path, secretsInterface+"Prompt.Completed", dismissed, dbus.MakeVariant([]dbus.ObjectPath{}))
	}
	completed("/org/freedesktop/secrets/prompt/another", true)
	switch f.answer {
	case "yes":
		f.unlocked.Store(true)
		completed(fakePrompt, false)
	case "yes, but":
		completed(fakePrompt, false)
	case "no":
		completed(fakePrompt, true)
	}
	return nil
}

func (f *fakeKeyring) GetSecret(session dbus.ObjectPath) (wireSecret, *dbus.Error) {
	if !f.unlocked.Load() {
		return wireSecret{Session: session}, dbus.NewError(secretsInterface+"Error.IsLocked", nil)
	}
	return wireSecret{session, []byte{}, f.secret, "text/plain"}, nil
}

func TestKeyringDialogue(t *testing.T) {
	identity := newIdentity(t)
	folder := keyFolder(filepath.Join(t.TempDir(), "keys"))
	if err := folder.create(t.Context(), "keyring", func() error { return folder.publish(keyringPublic, identity) }); err != nil {
		t.Fatal(err)
	}
	table := []struct {
		answer string
		secret []byte
		want   error
	}{
		{"yes", formatIdentity(identity), nil},
		{"yes", formatIdentity(newIdentity(t)), ErrNoKey},
		{"yes", []byte("not a key"), ErrNoKey},
		{"yes, but", formatIdentity(identity), ErrLocked},
		{"no", formatIdentity(identity), ErrLocked},
		{"nothing", formatIdentity(identity), ErrLocked},
	}
	for _, row := range table {
		b := newBus(t)
		fake := b.fakeKeyring(row.secret, row.answer)
		ctx, cancel := context.WithCancelCause(t.Context())
		if row.answer == "nothing" { // the time is up when the dialogue is there
			stop := context.AfterFunc(fake.shown, func() { cancel(errSilent) })
			defer stop()
		}
		got, err := NewKeyring(string(folder), b.withPerson()).Identity(ctx)
		cancel(nil)
		if !errors.Is(err, row.want) {
			t.Errorf("answer %q: %v, want %v", row.answer, err, row.want)
		}
		if row.want == nil && (err != nil || got.(*age.X25519Identity).String() != identity.String()) {
			t.Errorf("answer %q: %v", row.answer, err)
		}
		if _, err := NewKeyring(string(folder), b.alone()).Identity(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("answer %q, but nobody there: %v, want ErrLocked", row.answer, err)
		}
	}
}
