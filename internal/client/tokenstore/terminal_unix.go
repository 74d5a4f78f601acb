//go:build unix

package tokenstore

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// findTerminal names the terminal a person sits at. Without a controlling terminal
// nobody sits there, whatever GPG_TTY says (it gets into user services). GPG_TTY is
// the name that gpg-agent was set up with; otherwise it is the one of our standard
// files, as tty(1) finds it. A mail program may have all three on pipes and still
// sit in a terminal, so the controlling one's own name is tried last.
func findTerminal(environ []string) string {
	control, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return ""
	}
	defer control.Close()
	if name := (Surroundings{Environ: environ}).getenv("GPG_TTY"); strings.HasPrefix(name, "/dev/") && isDevice(name) {
		return name
	}
	for _, file := range []*os.File{os.Stdin, os.Stderr, os.Stdout} {
		if name := deviceName(file); name != "" {
			return name
		}
	}
	return controllingTerminal()
}

func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// deviceName looks for the terminal that file is open on among all terminals.
func deviceName(file *os.File) string {
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return ""
	}
	want := deviceNumber(info)
	for _, pattern := range []string{"/dev/pts/[0-9]*", "/dev/tty[a-zA-Z0-9]*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return ""
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && deviceNumber(info) == want {
				return name
			}
		}
	}
	return ""
}

func deviceNumber(info os.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Rdev)
	}
	return 0
}
