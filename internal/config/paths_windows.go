package config

import "path/filepath"

func defaultConfigHome(getenv func(string) string, home string) string {
	if folder := getenv("APPDATA"); filepath.IsAbs(folder) {
		return folder
	}
	return filepath.Join(home, "AppData", "Roaming")
}

func defaultStateHome(getenv func(string) string, home string) string {
	if folder := getenv("LOCALAPPDATA"); filepath.IsAbs(folder) {
		return folder
	}
	return filepath.Join(home, "AppData", "Local")
}
