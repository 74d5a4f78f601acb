//go:build !windows

package config

import "path/filepath"

func defaultConfigHome(_ func(string) string, home string) string {
	return filepath.Join(home, ".config")
}

func defaultStateHome(_ func(string) string, home string) string {
	return filepath.Join(home, ".local", "state")
}
