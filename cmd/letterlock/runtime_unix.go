//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
)

// makeRuntimeFolder makes the folder of the system's sockets while that can be done:
// as root, before the rights are given up. Under systemd its socket units make it.
func (p *program) makeRuntimeFolder() error {
	if !p.system || os.Geteuid() != 0 {
		return nil
	}
	folder := filepath.Dir(intake.SocketPath)
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	who, err := user.Lookup(systemUser)
	if err != nil {
		return nil // becomeSystem says what is to be done
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	// Everybody may enter, only the service may make sockets.
	err = errors.Join(uidErr, gidErr, os.Mkdir(folder, 0o755))
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody was quicker
	}
	if err == nil {
		err = errors.Join(os.Chown(folder, uid, gid), os.Chmod(folder, 0o755))
	}
	if err != nil {
		return cli.Wrap(cli.CannotWrite, err, "make "+folder+" for user "+systemUser+" by hand")
	}
	return nil
}
