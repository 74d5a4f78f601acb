package main

import (
	"os"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// firstHour finds a place for the database when there is no configuration: the system's
// folder for who may write there, else one of the person's own.
func (p *program) firstHour(conf *config.Daemon) error {
	if conf.Path != "" {
		return nil
	}
	folder := filepath.Dir(conf.Web.MasterKeyFile)
	if os.Geteuid() != 0 && !writable(folder) {
		folder = p.stateFolder()
		if folder == "" {
			return cli.Faultf(cli.Config, "write "+config.DaemonPath+", or set HOME", "there is no configuration, and no folder for the database")
		}
		conf.Database.URL = "sqlite:" + filepath.Join(folder, "letterlockd.db")
		conf.Web.MasterKeyFile = filepath.Join(folder, "master.key")
	}
	if err := atomicfile.PrivateFolder(folder); err != nil {
		return cli.Wrap(cli.CannotWrite, err, "there is no configuration, so the database is there; "+config.DaemonPath+" can name another place")
	}
	return nil
}

func (p *program) stateFolder() string {
	if state := p.getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "letterlockd")
	}
	if home := p.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "letterlockd")
	}
	return ""
}

// writable asks by doing: rights on folders have too many sources to be computed.
func writable(folder string) bool {
	file, err := os.CreateTemp(folder, ".probe-")
	if err != nil {
		return false
	}
	_ = file.Close()
	return os.Remove(file.Name()) == nil
}
