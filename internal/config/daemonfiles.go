package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// wrongFiles tells which of the files that a configuration names are there and are none. A
// FIFO would be waited for at the start, or at a later look, and nobody would know why; one
// that is away or may not be looked at is for its reader to tell.
func wrongFiles(data []byte) []Fault {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil // told already
	}
	d := decoder{data: data}
	d.wrongFiles(nil, tree)
	return d.sorted()
}

func (d *decoder) wrongFiles(path []string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range sortedKeys(value) {
			d.wrongFiles(append(slices.Clone(path), name), value[name])
		}
	case []any:
		for _, one := range value {
			d.wrongFiles(path, one)
		}
	case string:
		d.wrongFile(path, value)
	}
}

func (d *decoder) wrongFile(path []string, value string) {
	place, named := fileOf(path, value)
	if !named {
		return
	}
	info, err := os.Stat(place)
	if err != nil || info.Mode().IsRegular() {
		return
	}
	d.fault(path, "%s%s: %s is %s and no regular file", path[len(path)-1], inSection(path[:len(path)-1]), place, kindOf(info.Mode()))
}

// fileOf is the file that a setting names, if it names one.
func fileOf(path []string, value string) (string, bool) {
	name := path[len(path)-1]
	switch {
	case strings.HasSuffix(name, "_file"), name == "certificate", name == "key", name == "deny":
		return value, filepath.IsAbs(value)
	case name == "url" && path[0] == "database":
		place, lite := strings.CutPrefix(value, "sqlite:")
		return place, lite
	}
	return "", false
}

func kindOf(mode fs.FileMode) string {
	for _, one := range []struct {
		bit  fs.FileMode
		name string
	}{{fs.ModeNamedPipe, "a FIFO"}, {fs.ModeDir, "a folder"}, {fs.ModeSocket, "a socket"}, {fs.ModeDevice, "a device"}} {
		if mode&one.bit != 0 {
			return one.name
		}
	}
	return fmt.Sprintf("something else (%s)", mode.Type())
}
