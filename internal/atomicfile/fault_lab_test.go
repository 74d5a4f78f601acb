//go:build lab && linux

package atomicfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The order of DESIGN section 4, seen from the kernel: file synced, then renamed,
// then folder synced.
func TestSyncOrder(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	trace := run(t, "strace", "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,openat", "-s", "200",
		self, "helper:once", path)
	var order []string
	for line := range strings.Lines(trace) {
		switch {
		case !strings.Contains(line, folder):
		case strings.Contains(line, "fsync(") && strings.Contains(line, "/.file.tmp-"):
			order = append(order, "sync file")
		case strings.Contains(line, "rename"):
			order = append(order, "rename")
		case strings.Contains(line, "fsync(") && strings.Contains(line, "<"+folder+">"):
			order = append(order, "sync folder")
		}
	}
	if got := strings.Join(order, ", "); got != "sync file, rename, sync folder" {
		t.Errorf("order: %s\n%s", got, trace)
	}
	wantContent(t, path, "new")
}

// mountSmall mounts a file system of 64 KiB and takes it away at the end.
func mountSmall(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "letterlock-test", folder)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return folder
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(mountSmall(t), "file")
	mustWrite(t, path, "old")
	if _, err := Reserve(path, 100_000, 0o600); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Reserve on a full disk: %v", err)
	}
	wantContent(t, path, "old")
	r, err := Reserve(path, 20_000, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody takes all the room that is left; ours is still ours.
	hog, err := os.Create(filepath.Join(filepath.Dir(path), "hog"))
	if err != nil {
		t.Fatal(err)
	}
	defer hog.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = hog.Write(block)
	}
	content := strings.Repeat("n", 20_000)
	if err := r.Commit([]byte(content)); err != nil {
		t.Fatalf("Commit into reserved room on a full disk: %v", err)
	}
	wantContent(t, path, content)
	if err := Write(path, []byte(strings.Repeat("m", 40_000)), 0o600); err == nil || errors.Is(err, ErrUnsynced) {
		t.Errorf("Write without room: %v", err)
	}
	wantContent(t, path, content)
}

func TestReadOnlyDisk(t *testing.T) {
	folder := mountSmall(t)
	path := filepath.Join(folder, "file")
	mustWrite(t, path, "old")
	run(t, "mount", "-o", "remount,ro", folder)
	_, reserveErr := Reserve(path, 10, 0o600)
	for _, err := range []error{reserveErr, Write(path, nil, 0o600), Remove(path), PrivateFolder(filepath.Join(folder, "new"))} {
		if err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("on a read-only disk: %v", err)
		}
	}
	if _, err := Acquire(t.Context(), path+".lock"); err == nil {
		t.Error("a lock file was made on a read-only disk")
	}
	wantContent(t, path, "old")
}

func TestOtherOwner(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "private")
	path := filepath.Join(folder, "file")
	if err := PrivateFolder(folder); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, "x")
	if err := errors.Join(os.Chown(path, 12345, -1), os.Chown(folder, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path, 10)
	wantPrivacy(t, err, "belongs to uid 12345", "chown 0")
	wantPrivacy(t, PrivateFolder(folder), "belongs to uid 12345", "chown 0")
}
