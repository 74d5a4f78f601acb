package letterlock

import (
	"os"
	"path/filepath"
)

func stateHome() (string, error) {
	if folder := os.Getenv("LOCALAPPDATA"); filepath.IsAbs(folder) {
		return folder, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, "AppData", "Local"), err
}
