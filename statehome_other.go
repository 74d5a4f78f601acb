//go:build !windows

package letterlock

import (
	"os"
	"os/user"
	"path/filepath"
)

// stateHome asks the user database when HOME is not set, as under cron.
func stateHome() (string, error) {
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) {
		me, err := user.Current()
		if err != nil {
			return "", err
		}
		home = me.HomeDir
	}
	return filepath.Join(home, ".local", "state"), nil
}
