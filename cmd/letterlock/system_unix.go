//go:build unix

package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// becomeSystem gives up root for the system's own user, so that files made by an
// administrator's command belong to the services that use them. Others than root work
// with the rights they have.
func (p *program) becomeSystem() error {
	if !p.system || os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup(systemUser)
	if err != nil {
		return cli.Wrap(cli.Config, fmt.Errorf("there is no user %s to run as", systemUser), "make it: adduser --system --group --home /var/lib/letterlock "+systemUser)
	}
	if err := dropTo(who); err != nil {
		return err
	}
	p.environ = systemEnviron(p.environ, who.HomeDir)
	return nil
}

func dropTo(who *user.User) error {
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	if uidErr != nil || gidErr != nil {
		return cli.Faultf(cli.Config, "look at getent passwd "+who.Username, "user %s has no usable ids", who.Username)
	}
	// Groups first: afterwards the right to change them is gone.
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{gid}) },
		func() error { return syscall.Setgid(gid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return cli.Wrap(cli.NoPerm, fmt.Errorf("become user %s: %w", who.Username, err), "run it as that user")
		}
	}
	return nil
}

// systemEnviron is what programs that we start get to see: not what leads into the
// administrator's home, where they would have no rights, or find the wrong keys.
func systemEnviron(environ []string, home string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == "HOME" || name == "TMPDIR" || name == "GNUPGHOME" || name == "DBUS_SESSION_BUS_ADDRESS" || strings.HasPrefix(name, "XDG_")
	})
	return append(kept, "HOME="+home)
}
