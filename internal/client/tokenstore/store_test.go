package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// newStore returns a store with a file key in a private temporary folder.
func newStore(t testing.TB) (*Store, *FileKeys, string) {
	t.Helper()
	state := t.TempDir()
	store, err := Open(filepath.Join(state, "grants"))
	if err != nil {
		t.Fatal(err)
	}
	keys := NewFile(filepath.Join(state, "keys"))
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store, keys, filepath.Join(state, "grants")
}

func write(t testing.TB, store *Store, name string, keys Keys, plain string) {
	t.Helper()
	if err := store.Write(name, keys, []byte(plain)); err != nil {
		t.Fatal(err)
	}
}

// wantGrant fails unless name's grant is plain.
func wantGrant(t testing.TB, store *Store, name string, keys Keys, plain string) {
	t.Helper()
	got, err := store.Read(t.Context(), name, keys)
	if err != nil || string(got) != plain {
		t.Errorf("Read(%q) = %q, %v, want %q", name, got, err, plain)
	}
}

func files(t testing.TB, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestWriteReadRemove(t *testing.T) {
	store, keys, folder := newStore(t)
	names := []string{"you@example.org", "You@example.org", "../up", ".dot", "nul\x00\n", "ümlaut", "b"}
	for _, name := range names {
		write(t, store, name, keys, "grant of "+name)
	}
	for _, name := range names {
		wantGrant(t, store, name, keys, "grant of "+name)
	}
	slices.Sort(names)
	if got, err := store.Names(); err != nil || !slices.Equal(got, names) {
		t.Errorf("Names = %q, %v, want %q", got, err, names)
	}
	write(t, store, "b", keys, "second")
	wantGrant(t, store, "b", keys, "second")
	if err := store.SetMark("b", Mark{}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // removing what is gone is no error
		if err := store.Remove("b"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Read(t.Context(), "b", keys); !errors.Is(err, ErrNotFound) {
		t.Errorf("Read after Remove: %v, want ErrNotFound", err)
	}
	if mark, err := store.ReadMark("b"); mark != nil || err != nil {
		t.Errorf("ReadMark after Remove = %v, %v", mark, err)
	}
	for _, file := range files(t, folder) {
		info, err := os.Lstat(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%q has mode %v, want 0600", file, info.Mode())
		}
	}
}

func TestUnusableNames(t *testing.T) {
	store, keys, _ := newStore(t)
	for _, name := range []string{"", strings.Repeat("a", 201), strings.Repeat("A", 67)} {
		_, readErr := store.Read(t.Context(), name, keys)
		_, lockErr := store.Lock(t.Context(), name)
		_, markErr := store.ReadMark(name)
		for _, err := range []error{store.Write(name, keys, nil), readErr, lockErr, markErr, store.Remove(name)} {
			if !errors.Is(err, ErrName) {
				t.Errorf("name of %d bytes: %v, want ErrName", len(name), err)
			}
		}
	}
	write(t, store, strings.Repeat("a", 200), keys, "x")
	wantGrant(t, store, strings.Repeat("a", 200), keys, "x")
}

func TestReadFaults(t *testing.T) {
	store, keys, folder := newStore(t)
	write(t, store, "a", keys, "plain")
	path := filepath.Join(folder, "a.age")
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) func() error {
		return func() error { return os.WriteFile(path, data, 0o600) }
	}
	table := []struct {
		name  string
		spoil func() error
		want  error
	}{
		{"empty", put(nil), ErrDamaged},
		{"cut off", put(sealed[:len(sealed)-1]), ErrDamaged},
		{"garbage", put([]byte("not an age file")), ErrDamaged},
		{"a gigabyte", func() error { return os.Truncate(path, 1<<30) }, ErrDamaged},
		{"loose", func() error { return os.Chmod(path, 0o644) }, atomicfile.ErrNotPrivate},
		{"a link", func() error {
			return errors.Join(os.WriteFile(path+".real", sealed, 0o600), os.Remove(path), os.Symlink(path+".real", path))
		}, atomicfile.ErrNotPrivate},
		{"a folder", func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, atomicfile.ErrNotPrivate},
	}
	for _, row := range table {
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, sealed, 0o600), row.spoil()); err != nil {
			t.Fatal(err)
		}
		plain, err := store.Read(t.Context(), "a", keys)
		if !errors.Is(err, row.want) || plain != nil {
			t.Errorf("%s: Read = %q, %v, want %v", row.name, plain, err, row.want)
		}
	}
}

func TestRenamedGrant(t *testing.T) {
	store, keys, folder := newStore(t)
	write(t, store, "mine", keys, "plain")
	if err := os.Rename(filepath.Join(folder, "mine.age"), filepath.Join(folder, "theirs.age")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Read(t.Context(), "theirs", keys); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"mine"`) {
		t.Errorf("Read = %v, want ErrDamaged that names mine", err)
	}
}

func TestLooseStore(t *testing.T) {
	for _, mode := range []os.FileMode{0o755, 0o750, 0o701, 0o720} {
		folder := filepath.Join(t.TempDir(), "grants")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, mode)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(folder)
		var privacy *atomicfile.PrivacyError
		if !errors.Is(err, atomicfile.ErrNotPrivate) || !errors.As(err, &privacy) || !strings.Contains(privacy.Remedy, "chmod 700") {
			t.Errorf("Open of a folder with mode %o: %v, %+v", mode, err, privacy)
		}
	}
}

func TestNamesIgnoresWhatIsNoGrant(t *testing.T) {
	store, keys, folder := newStore(t)
	write(t, store, "a", keys, "x")
	for _, file := range []string{".a.age.tmp-123", "a.lock", "a.refresh", "A.age", "%61.age", ".age", "%.age", "b.age~", "b"} {
		if err := os.WriteFile(filepath.Join(folder, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "c.age"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, err := store.Names(); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("Names = %q, %v, want a alone", names, err)
	}
}

func TestLockSweepsOldLeftoversOfItsAccountOnly(t *testing.T) {
	store, _, folder := newStore(t)
	old := time.Now().Add(-time.Hour)
	place := func(file string, changed time.Time) {
		path := filepath.Join(folder, file)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, changed, changed)); err != nil {
			t.Fatal(err)
		}
	}
	place(".a.age.tmp-1", old)
	place(".a.refresh.tmp-22", old)
	keep := []string{".a.age.tmp-333", ".a.age.tmp-b.age.tmp-1", ".b.age.tmp-1", ".future.age.tmp-1", "a.age", "a.age.tmp-1", "a.lock"}
	for _, file := range keep {
		place(file, old)
	}
	place(".a.age.tmp-333", time.Now())
	unlock, err := store.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if got := files(t, folder); !slices.Equal(got, keep) {
		t.Errorf("left: %q, want %q", got, keep)
	}
}

func TestReserve(t *testing.T) {
	store, keys, folder := newStore(t)
	write(t, store, "a", keys, "old")
	room, err := store.Reserve("a", keys)
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := filepath.Glob(filepath.Join(folder, ".a.age.tmp-*"))
	if err != nil || len(temporary) != 1 {
		t.Fatalf("temporary files: %q, %v", temporary, err)
	}
	if info, err := os.Lstat(temporary[0]); err != nil || info.Size() < generousGrant || info.Mode() != 0o600 {
		t.Errorf("the room is %+v, %v", info, err)
	}
	room.Abort()
	wantGrant(t, store, "a", keys, "old")
	for _, size := range []int{0, 10, generousGrant, plainLimit} {
		room, err := store.Reserve("a", keys)
		if err != nil {
			t.Fatal(err)
		}
		plain := strings.Repeat("n", size)
		if err := room.Commit([]byte(plain)); err != nil {
			t.Fatal(err)
		}
		room.Abort()
		wantGrant(t, store, "a", keys, plain)
	}
	room, err = store.Reserve("a", keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := room.Commit(make([]byte, plainLimit+1)); err == nil {
		t.Error("Commit takes a grant that could not be read again")
	}
	wantGrant(t, store, "a", keys, strings.Repeat("n", plainLimit))
	if got := files(t, folder); !slices.Equal(got, []string{"a.age"}) {
		t.Errorf("left: %q", got)
	}
}

func TestReserveNeedsTheKeyFirst(t *testing.T) {
	store, _, folder := newStore(t)
	if _, err := store.Reserve("a", NewFile(filepath.Join(t.TempDir(), "keys"))); !errors.Is(err, ErrNoKey) {
		t.Errorf("Reserve without a key: %v, want ErrNoKey", err)
	}
	if got := files(t, folder); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestLock(t *testing.T) {
	store, _, _ := newStore(t)
	unlock, err := store.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := store.Lock(t.Context(), "b")
	if err != nil {
		t.Fatalf("the lock of a keeps b out: %v", err)
	}
	other()
	impatient := *store
	impatient.Wait = time.Millisecond
	if _, err := impatient.Lock(t.Context(), "a"); !errors.Is(err, ErrBusy) {
		t.Errorf("a held lock: %v, want ErrBusy", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Lock(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v, want Canceled", err)
	}
	taken := make(chan error)
	go func() {
		again, err := store.Lock(t.Context(), "a")
		if err == nil {
			again()
		}
		taken <- err
	}()
	unlock()
	if err := <-taken; err != nil {
		t.Errorf("the waiter got %v", err)
	}
}

func TestMark(t *testing.T) {
	store, _, folder := newStore(t)
	if mark, err := store.ReadMark("a"); mark != nil || err != nil {
		t.Errorf("ReadMark = %v, %v, want nothing", mark, err)
	}
	want := Mark{Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), PID: 7, Resource: "mail", Serial: 9}
	if err := store.SetMark("a", want); err != nil {
		t.Fatal(err)
	}
	if mark, err := store.ReadMark("a"); err != nil || *mark != want {
		t.Errorf("ReadMark = %+v, %v, want %+v", mark, err, want)
	}
	for _, text := range []string{"", "{", strings.Repeat(" ", markLimit+1)} {
		if err := os.WriteFile(filepath.Join(folder, "a.refresh"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if mark, err := store.ReadMark("a"); !errors.Is(err, ErrDamaged) {
			t.Errorf("ReadMark of %.5q = %v, %v, want ErrDamaged", text, mark, err)
		}
	}
	for range 2 {
		if err := store.ClearMark("a"); err != nil {
			t.Fatal(err)
		}
	}
	if mark, err := store.ReadMark("a"); mark != nil || err != nil {
		t.Errorf("ReadMark after ClearMark = %v, %v", mark, err)
	}
}

func TestFailure(t *testing.T) {
	store, _, folder := newStore(t)
	if record, err := store.ReadFailure("a"); record != nil || err != nil {
		t.Errorf("ReadFailure = %q, %v, want nothing", record, err)
	}
	if err := store.SetFailure("a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := store.SetFailure("a", make([]byte, failureLimit+1)); err == nil {
		t.Error("a record over the limit was kept")
	}
	if record, err := store.ReadFailure("a"); string(record) != "x" || err != nil {
		t.Errorf("ReadFailure = %q, %v", record, err)
	}
	if err := store.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(folder, "a.failed")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

// wantSealed fails when any file under folders holds one of the secrets.
func wantSealed(t testing.TB, folder string, secrets ...string) {
	t.Helper()
	walk := func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
		return err
	}
	if err := filepath.WalkDir(folder, walk); err != nil {
		t.Fatal(err)
	}
}

func TestCopiedGrantsWithoutFileKeyGiveNothing(t *testing.T) {
	const canary = "c4n4ry-refresh-token"
	store, keys, folder := newStore(t)
	write(t, store, "a", keys, canary)
	wantSealed(t, folder, canary)
	copied := filepath.Join(t.TempDir(), "grants")
	if err := errors.Join(os.CopyFS(copied, os.DirFS(folder)), os.Chmod(copied, 0o700), os.Chmod(filepath.Join(copied, "a.age"), 0o600)); err != nil {
		t.Fatal(err)
	}
	stolen, err := Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	none := NewFile(filepath.Join(t.TempDir(), "keys"))
	if plain, err := stolen.Read(t.Context(), "a", none); !errors.Is(err, ErrNoKey) || plain != nil {
		t.Errorf("Read without a key = %q, %v, want ErrNoKey", plain, err)
	}
	if err := none.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if plain, err := stolen.Read(t.Context(), "a", none); !errors.Is(err, ErrNoKey) || plain != nil {
		t.Errorf("Read with another key = %q, %v, want ErrNoKey", plain, err)
	}
}

func BenchmarkRead(b *testing.B) {
	store, keys, _ := newStore(b)
	for _, size := range []int{2400, 16 << 10} {
		write(b, store, "a", keys, strings.Repeat("x", size))
		b.Run(fmt.Sprintf("file/%d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := store.Read(b.Context(), "a", keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReserveCommit(b *testing.B) {
	store, keys, _ := newStore(b)
	plain := make([]byte, 2400)
	for b.Loop() {
		room, err := store.Reserve("a", keys)
		if err != nil {
			b.Fatal(err)
		}
		if err := room.Commit(plain); err != nil {
			b.Fatal(err)
		}
	}
}
