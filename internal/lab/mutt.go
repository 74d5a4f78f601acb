package lab

import (
	"os"
	"path/filepath"
)

// MuttOAuth2 finds Debian's mutt_oauth2.py, where the package or the install
// script put it.
func MuttOAuth2() (string, error) {
	places := []string{"/usr/share/doc/mutt/examples/mutt_oauth2.py"}
	if root, err := moduleRoot(); err == nil {
		places = append(places, filepath.Join(root, ".lab", "mutt_oauth2.py"))
	}
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &Missing{Program: "mutt_oauth2.py", Package: "mutt"}
}
