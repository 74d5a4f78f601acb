//go:build unix

package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A configuration can name a program that decrypts the key: one that belongs to
// somebody else would be their program, run by us.
func TestOwnerOfTheFile(t *testing.T) {
	me := os.Geteuid()
	for _, c := range []struct {
		uid  int
		good bool
	}{{me, true}, {0, true}, {me + 12345, false}} {
		info := ownedFile{uid: uint32(c.uid)}
		if fault := (&Config{}).checkMode(info); (fault == "") != c.good {
			t.Errorf("uid %d: %q", c.uid, fault)
		}
	}
	if me != 0 {
		return
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
		t.Errorf("err = %v", err)
	}
}

type ownedFile struct{ uid uint32 }

func (o ownedFile) Name() string       { return "config.toml" }
func (o ownedFile) Size() int64        { return 0 }
func (o ownedFile) Mode() os.FileMode  { return 0o600 }
func (o ownedFile) ModTime() time.Time { return time.Time{} }
func (o ownedFile) IsDir() bool        { return false }
func (o ownedFile) Sys() any           { return &syscall.Stat_t{Uid: o.uid} }
