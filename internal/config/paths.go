package config

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
)

// Paths are where Letterlock keeps its things.
type Paths struct {
	Config string // the configuration file
	State  string // the folder of grants and what belongs to them
}

// SystemPaths are those of `--system`.
func SystemPaths() Paths {
	return Paths{Config: "/etc/letterlock/letterlock.toml", State: "/var/lib/letterlock"}
}

// UserPaths follows the XDG base directory specification. Without HOME, as under
// `env -i` or a bare cron, the user database is asked.
func UserPaths(getenv func(string) string) (Paths, error) {
	configHome, stateHome := getenv("XDG_CONFIG_HOME"), getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(configHome) || !filepath.IsAbs(stateHome) {
		home, err := homeFolder(getenv)
		if err != nil {
			return Paths{}, err
		}
		// The specification wants relative values ignored.
		if !filepath.IsAbs(configHome) {
			configHome = defaultConfigHome(getenv, home)
		}
		if !filepath.IsAbs(stateHome) {
			stateHome = defaultStateHome(getenv, home)
		}
	}
	return Paths{
		Config: filepath.Join(configHome, "letterlock", "config.toml"),
		State:  filepath.Join(stateHome, "letterlock"),
	}, nil
}

func homeFolder(getenv func(string) string) (string, error) {
	if home := getenv("HOME"); filepath.IsAbs(home) && !closed(home) {
		return home, nil
	}
	if me, err := user.Current(); err == nil && filepath.IsAbs(me.HomeDir) {
		return me.HomeDir, nil
	}
	return "", errors.New("there is no home folder: HOME is not set or closed to us, and the user database names none")
}

// closed says that we may not look into a folder. A daemon that becomes another user
// may keep root's HOME, as cron does in a container: its user's own is meant.
func closed(home string) bool {
	_, err := os.Stat(home + string(filepath.Separator) + ".")
	return errors.Is(err, fs.ErrPermission)
}
