//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkMailboxOwner keeps root from writing into a folder that somebody else governs:
// a link in there would make root write where it points to. Others may write where the
// system lets them.
func checkMailboxOwner(folder string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		folder = filepath.Dir(folder)
		info, err = os.Lstat(folder)
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 || !info.IsDir() {
		return fmt.Errorf("%s belongs to somebody else, and root does not write there: use lmtp, or run as its owner", folder)
	}
	return nil
}
