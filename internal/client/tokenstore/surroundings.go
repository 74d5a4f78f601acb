package tokenstore

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Surroundings are what a key source must know of the process it runs in: what its
// helper programs inherit, and whether a person can be asked for a passphrase.
type Surroundings struct {
	// Environ is what os.Environ returns. Helper programs inherit it, completed by
	// what cron and "env -i" leave out.
	Environ []string
	// Terminal is the path of the terminal a person sits at (/dev/pts/3, not
	// /dev/tty, which means another one to gpg-agent), "" when there is none.
	Terminal string
	// Display says that a graphical session is there to show a dialogue.
	Display bool
}

// FindSurroundings looks at the environment and at this process' terminal.
func FindSurroundings(environ []string) Surroundings {
	s := Surroundings{Environ: environ, Terminal: findTerminal(environ)}
	switch runtime.GOOS {
	case "windows", "darwin":
		s.Display = s.getenv("SSH_CONNECTION") == ""
	default:
		s.Display = s.getenv("DISPLAY") != "" || s.getenv("WAYLAND_DISPLAY") != ""
	}
	return s
}

const (
	personLimit = 60 * time.Second
	// aloneLimit leaves a second for killing what did not answer, so that nobody
	// waits longer than five seconds for a key that nobody can unlock.
	aloneLimit = 4 * time.Second
	killLimit  = 500 * time.Millisecond
)

// person says whether somebody can be asked.
func (s Surroundings) person() bool { return s.Terminal != "" || s.Display }

// patience is how long a key may take.
func (s Surroundings) patience() time.Duration {
	if s.person() {
		return personLimit
	}
	return aloneLimit
}

func (s Surroundings) getenv(key string) string {
	value := ""
	for _, entry := range s.Environ {
		if rest, ok := strings.CutPrefix(entry, key+"="); ok {
			value = rest // the last one counts, as for os/exec
		}
	}
	return value
}

// complete is the environment for helper programs. Under "env -i" there is no HOME
// for gpg to find its keys in and no PATH to find gpg's own helpers with.
func (s Surroundings) complete() []string {
	environ := slices.Clone(s.Environ)
	if runtime.GOOS == "windows" {
		return environ
	}
	if s.getenv("HOME") == "" {
		if me, err := user.Current(); err == nil && me.HomeDir != "" {
			environ = append(environ, "HOME="+me.HomeDir)
		}
	}
	environ = append(environ, "PATH="+s.searchPath())
	if s.Terminal != "" {
		// gpg-agent shows its dialogue there. Without TERM the curses dialogue gives up
		// at once; every terminal of today understands a VT100's few commands.
		environ = append(environ, "GPG_TTY="+s.Terminal)
		if s.getenv("TERM") == "" {
			environ = append(environ, "TERM=vt100")
		}
	}
	return environ
}

func (s Surroundings) searchPath() string {
	if path := s.getenv("PATH"); path != "" {
		return path
	}
	return "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
}

// find is exec.LookPath in the given environment. It never runs a program of the
// current folder unless the name has a slash in it.
func (s Surroundings) find(program string) (string, error) {
	if filepath.Base(program) != program || runtime.GOOS == "windows" {
		return exec.LookPath(program)
	}
	for _, folder := range filepath.SplitList(s.searchPath()) {
		if !filepath.IsAbs(folder) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", program, os.ErrNotExist)
}
