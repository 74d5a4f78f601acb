package tokenstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func newPipe(t testing.TB, encrypt, decrypt string) (*PipeKeys, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "keys")
	return NewPipe(folder, helper(t, encrypt), helper(t, decrypt), Surroundings{}), folder
}

func TestPipeKeys(t *testing.T) {
	keys, folder := newPipe(t, "encrypt", "decrypt")
	if _, err := keys.Recipient(); !errors.Is(err, ErrNoKey) {
		t.Errorf("Recipient before Create: %v, want ErrNoKey", err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Identity before Create: %v, want ErrNoKey", err)
	}
	for range 2 {
		if err := keys.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantPair(t, keys)
	wantSealed(t, folder, secretPrefix)
	// Killed between its files: the public half is made anew from the private one.
	before, err := keys.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, pipePublic)); err != nil {
		t.Fatal(err)
	}
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := keys.Recipient(); err != nil || after.(*age.X25519Recipient).String() != before.(*age.X25519Recipient).String() {
		t.Errorf("Recipient = %v, %v, want %v", after, err, before)
	}
}

// wantPair fails unless the two halves of keys belong together.
func wantPair(t testing.TB, keys Keys) {
	t.Helper()
	recipient, err := keys.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := keys.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if identity.(*age.X25519Identity).Recipient().String() != recipient.(*age.X25519Recipient).String() {
		t.Error("the private half is not that of the public one")
	}
}

func TestPipeRefusesAtCreate(t *testing.T) {
	table := []struct{ encrypt, decrypt, problem string }{
		{"copy", "copy", "does not encrypt"},
		{"encrypt", "copy", "no"},
		{"encrypt", "refuse", "ask again later"},
		{"refuse", "decrypt", "ask again later"},
		{"encrypt", "flood", "wrote more than"},
		{"flood", "decrypt", "wrote more than"},
		{"encrypt", "leak", "status 2"},
	}
	for _, row := range table {
		keys, folder := newPipe(t, row.encrypt, row.decrypt)
		err := keys.Create(t.Context())
		if err == nil || !strings.Contains(err.Error(), row.problem) {
			t.Errorf("%s, %s: %v, want %q", row.encrypt, row.decrypt, err, row.problem)
			continue
		}
		if strings.ContainsAny(err.Error(), "\x1b\x07\n") || strings.Contains(err.Error(), secretPrefix) {
			t.Errorf("%s, %s: the error is not fit to print: %q", row.encrypt, row.decrypt, err)
		}
		if got := files(t, folder); len(got) != 1 {
			t.Errorf("%s, %s: left %q, want the lock alone", row.encrypt, row.decrypt, got)
		}
	}
}

func TestPipeFaultsLater(t *testing.T) {
	keys, folder := newPipe(t, "encrypt", "decrypt")
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := []struct {
		decrypt []string
		want    error
	}{
		{helper(t, "refuse"), ErrLocked},
		{helper(t, "copy"), ErrNoKey},
		{helper(t, "flood"), ErrNoKey},
		{[]string{"/nowhere/decrypt"}, ErrNoKey},
		{[]string{"no-such-program"}, ErrNoKey},
		{nil, ErrNoKey},
	}
	for _, row := range table {
		broken := NewPipe(folder, nil, row.decrypt, Surroundings{})
		if _, err := broken.Identity(t.Context()); !errors.Is(err, row.want) {
			t.Errorf("%.40q: %v, want %v", row.decrypt, err, row.want)
		}
	}
	other, _ := newPipe(t, "encrypt", "decrypt")
	if err := other.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	swapped, err := other.folder.read(pipePrivate)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.folder.write(pipePrivate, swapped); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("the private half of another store: %v, want ErrNoKey", err)
	}
}

func TestProgramThatHangsIsEnded(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errSilent)
	defer cancel()
	began := time.Now()
	_, _, err := program{argv: helper(t, "hang")}.run(ctx)
	if !errors.Is(err, errSilent) || time.Since(began) > personLimit/2 {
		t.Errorf("run = %v after %v, want errSilent at once", err, time.Since(began))
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	keys, _ := newPipe(t, "encrypt", "hang")
	if _, err := keys.open(stopped, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrLocked) || errors.Is(err, ErrNoKey) {
		t.Errorf("open with an ended context: %v, want Canceled alone", err)
	}
}

func TestReadableFindsEncodedKeys(t *testing.T) {
	identity := newIdentity(t)
	plain := string(formatIdentity(identity))
	for what, text := range map[string]string{
		"as it is": plain, "lower case": strings.ToLower(plain),
		"base64": base64Of(plain), "base64, one byte on": base64Of("x" + plain), "base64, two bytes on": base64Of("xx" + plain),
		"base64 in lines": strings.Join(strings.SplitAfter(base64Of(plain), "A"), "\r\n"),
	} {
		if !readable([]byte(text), identity) {
			t.Errorf("%s: the key is not seen", what)
		}
	}
	if readable([]byte(base64Of(string(formatIdentity(newIdentity(t))))), identity) {
		t.Error("another key is taken for this one")
	}
}
