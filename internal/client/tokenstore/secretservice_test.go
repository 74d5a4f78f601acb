package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBusSockets(t *testing.T) {
	table := []struct {
		environ []string
		want    []string
	}{
		{[]string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/tmp/dbus-x,guid=0123", "XDG_RUNTIME_DIR=/r"}, []string{"/tmp/dbus-x"}},
		{[]string{"DBUS_SESSION_BUS_ADDRESS=unix:guid=1,abstract=/tmp/y%20z"}, []string{"@/tmp/y z"}},
		{[]string{"DBUS_SESSION_BUS_ADDRESS=tcp:host=evil,port=1;unix:path=/a;unixexec:path=/bin/sh;unix:path=/b"}, []string{"/a", "/b"}},
		{[]string{"DBUS_SESSION_BUS_ADDRESS=autolaunch:"}, nil},
		{[]string{"DBUS_SESSION_BUS_ADDRESS=unix:path=%zz"}, nil},
		{[]string{"XDG_RUNTIME_DIR=/r"}, []string{"/r/bus"}},
	}
	for _, row := range table {
		if got := busSockets(Surroundings{Environ: row.environ}); !slices.Equal(got, row.want) {
			t.Errorf("busSockets(%q) = %q, want %q", row.environ, got, row.want)
		}
	}
	if got := busSockets(Surroundings{}); len(got) != 1 || !strings.HasPrefix(got[0], "/run/user/") {
		t.Errorf("busSockets under env -i = %q", got)
	}
}

// newKeyringFolder makes a folder that looks as if Create had run.
func newKeyringFolder(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "keys")
	if err := keyFolder(folder).create(t.Context(), "keyring", func() error {
		return keyFolder(folder).publish(keyringPublic, newIdentity(t))
	}); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestKeyringWithoutBus(t *testing.T) {
	empty := NewKeyring(filepath.Join(t.TempDir(), "keys"), Surroundings{})
	if _, err := empty.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Identity before Create: %v, want ErrNoKey", err)
	}
	where := Surroundings{Environ: []string{"XDG_RUNTIME_DIR=" + t.TempDir()}}
	keys := NewKeyring(newKeyringFolder(t), where)
	if _, err := keys.Recipient(); err != nil {
		t.Errorf("Recipient needs a bus: %v", err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "no D-Bus session bus") {
		t.Errorf("Identity: %v, want ErrLocked that says why", err)
	}
	if err := NewKeyring(filepath.Join(t.TempDir(), "keys"), where).Create(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("Create: %v, want ErrLocked", err)
	}
	if found := Detect(t.Context(), where); found[0].Source != "keyring" || found[0].Usable || found[0].Reason == "" {
		t.Errorf("Detect = %+v", found)
	}
}

func TestSilentBusIsGivenUp(t *testing.T) {
	runtime := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(runtime, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // connections are taken by the kernel and never answered
	keys := NewKeyring(newKeyringFolder(t), Surroundings{Environ: []string{"XDG_RUNTIME_DIR=" + runtime}})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errSilent)
	defer cancel()
	began := time.Now()
	if _, err := keys.Identity(ctx); !errors.Is(err, ErrLocked) || time.Since(began) > personLimit/2 {
		t.Errorf("Identity = %v after %v, want ErrLocked at once", err, time.Since(began))
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := keys.Identity(stopped); !errors.Is(err, context.Canceled) && errors.Is(err, ErrLocked) {
		t.Errorf("Identity with an ended context: %v", err)
	}
}

func TestExchange(t *testing.T) {
	ours, err := newExchange()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newExchange()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ours.sharedKey(theirs.public())
	if err != nil {
		t.Fatal(err)
	}
	same, err := theirs.sharedKey(ours.public())
	if err != nil || !bytes.Equal(key, same) || len(key) != 16 {
		t.Fatalf("keys %x and %x, %v", key, same, err)
	}
	for size := range 40 {
		plain := bytes.Repeat([]byte("k"), size)
		iv, sealed, err := encryptSecret(key, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decryptSecret(key, iv, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes come back as %q, %v", size, got, err)
		}
	}
	small := func(n int64) []byte { return big.NewInt(n).Bytes() }
	last := new(big.Int).Sub(ours.prime, big.NewInt(1))
	for _, half := range [][]byte{nil, small(0), small(1), last.Bytes(), ours.prime.Bytes(), make([]byte, 129)} {
		if _, err := ours.sharedKey(half); err == nil {
			t.Errorf("sharedKey takes %x", half)
		}
	}
}

func FuzzDecryptSecret(f *testing.F) {
	key := []byte("0123456789abcdef")
	iv, sealed, err := encryptSecret(key, []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(iv, sealed)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, iv, sealed []byte) {
		plain, err := decryptSecret(key, iv, sealed)
		if err == nil && (len(plain) >= len(sealed) || len(sealed)-len(plain) > 16) {
			t.Errorf("%d bytes decrypt to %d", len(sealed), len(plain))
		}
	})
}
