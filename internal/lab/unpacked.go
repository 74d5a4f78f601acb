package lab

import (
	"os"
	"path/filepath"
)

// unpackedFolder is where internal/lab/install has put the files of a package.
func unpackedFolder(name string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".lab", "unpacked", name)
	if _, err := os.Stat(dir); err != nil {
		return "", &Missing{Program: "the files of " + name, Package: name + ", unpacked"}
	}
	return dir, nil
}
