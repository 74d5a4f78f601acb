//go:build unix

package database_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The unit's UMask is 0077; the mail servers read the view file by its group.
func TestViewFileModeWhateverTheUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := t.TempDir()
	o := patient()
	o.ViewFile = filepath.Join(dir, "mail.db")
	open(t, filepath.Join(dir, "letterlock.db"), o)
	if info, err := os.Stat(o.ViewFile); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
