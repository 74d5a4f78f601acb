package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func mustWrite(t testing.TB, path, content string) {
	t.Helper()
	if err := Write(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantContent fails unless the file is there, private and whole, with nothing beside it.
func wantContent(t testing.TB, path, want string) {
	t.Helper()
	got, err := Read(path, 1<<20)
	if err != nil || string(got) != want {
		t.Errorf("Read = %.40q, %v, want %.40q", got, err, want)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), TempPattern(path))); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %q, %v", left, err)
	}
}

func TestWriteReadRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"", "one", "two", strings.Repeat("x", 100_000), "short again"} {
		mustWrite(t, path, content)
		wantContent(t, path, content)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if _, err := Read(path, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read after Remove: %v", err)
	}
}

func TestReservation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	mustWrite(t, path, "old")
	r, err := Reserve(path, 1000, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(r.file.Name()); err != nil || info.Size() != 1000 || info.Mode() != 0o600 {
		t.Errorf("the room is %v, %v", info, err)
	}
	if match, err := filepath.Match(TempPattern(path), filepath.Base(r.file.Name())); err != nil || !match {
		t.Errorf("TempPattern %q does not find %q", TempPattern(path), r.file.Name())
	}
	r.Abort()
	r.Abort()
	wantContent(t, path, "old")
	for _, size := range []int{0, 1, 999, 1000, 1001, 50_000} {
		r, err := Reserve(path, 1000, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		content := strings.Repeat("n", size)
		if err := r.Commit([]byte(content)); err != nil {
			t.Fatal(err)
		}
		// A deferred Abort, and another writer that got the same temporary name.
		if err := os.WriteFile(r.file.Name(), []byte("another's"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Abort()
		if err := os.Remove(r.file.Name()); err != nil {
			t.Errorf("Abort after Commit touched a file: %v", err)
		}
		wantContent(t, path, content)
		if err := r.Commit([]byte("twice")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("second Commit: %v, want ErrClosed", err)
		}
		wantContent(t, path, content)
	}
}

func TestCommitThatCannotRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	r, err := Reserve(path, 10, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit([]byte("x")); err == nil || errors.Is(err, ErrUnsynced) {
		t.Errorf("Commit over a folder: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), TempPattern(path))); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := Reserve(filepath.Join(path, "no", "such"), 10, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Reserve in a missing folder: %v", err)
	}
}

func TestFillerDoesNotCompress(t *testing.T) {
	data := filler(32 << 10)
	seen := map[string]bool{}
	for block := range slices.Chunk(data, 16) {
		if seen[string(block)] {
			t.Fatalf("the filler repeats %x", block)
		}
		seen[string(block)] = true
	}
}

func TestReadLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	mustWrite(t, path, "12345")
	if got, err := Read(path, 5); err != nil || string(got) != "12345" {
		t.Errorf("Read of 5 with limit 5 = %q, %v", got, err)
	}
	if _, err := Read(path, 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Read of 5 with limit 4: %v, want ErrTooLarge", err)
	}
	// A file that grows after its size was looked at.
	if _, err := readLimited(strings.NewReader("12345"), path, 1, 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a growing file: %v, want ErrTooLarge", err)
	}
	big := strings.Repeat("x", 5000)
	if got, err := readLimited(bytes.NewReader([]byte(big)), path, 1, 5000); err != nil || string(got) != big {
		t.Errorf("a growing file within the limit: %d bytes, %v", len(got), err)
	}
}
