package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os/exec"
	"path"
	"strings"
	"time"
)

// A Desktop is what Look and OpenBrowser need of the computer, as functions of os
// and exec that a test replaces.
type Desktop struct {
	GOOS     string // runtime.GOOS
	Getenv   func(string) string
	LookPath func(string) (string, error)
	Stat     func(string) (fs.FileInfo, error)

	grace time.Duration // launchGrace unless a test sets it
}

// Look reads the surroundings off the environment. Terminal and Last are the
// caller's to fill.
func Look(desk Desktop) Surroundings {
	return Surroundings{
		SSH:        desk.anySet("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT"),
		Display:    desk.hasDisplay(),
		BrowserSet: len(desk.browserVariable()) > 0,
		Container:  desk.inContainer(),
	}
}

func (d Desktop) anySet(names ...string) bool {
	for _, name := range names {
		if d.Getenv(name) != "" {
			return true
		}
	}
	return false
}

func (d Desktop) hasDisplay() bool {
	switch d.GOOS {
	case "darwin", "windows":
		return true
	}
	return d.anySet("DISPLAY", "WAYLAND_DISPLAY") || d.inWSL()
}

// inWSL: Windows' browser is at hand, and reaches this loopback.
func (d Desktop) inWSL() bool { return d.anySet("WSL_DISTRO_NAME", "WSL_INTEROP") }

func (d Desktop) inContainer() bool {
	if d.anySet("container", "KUBERNETES_SERVICE_HOST", "CODESPACES", "REMOTE_CONTAINERS") {
		return true
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := d.Stat(mark); err == nil {
			return true
		}
	}
	return false
}

// launchGrace is how long a browser's failure is waited for. A starter such as
// xdg-open ends at once, a browser itself stays.
const launchGrace = 2 * time.Second

// OpenBrowser starts the person's browser at address: what $BROWSER names, else the
// system's way. No shell is involved. It returns when the starter has ended well or
// has not ended within two seconds; the browser lives on when ctx ends.
func OpenBrowser(ctx context.Context, address string, desk Desktop) error {
	if err := checkURL(address); err != nil {
		return err
	}
	tried := errors.New("no browser was found; set BROWSER to one")
	for _, argv := range desk.browsers(address) {
		name, err := desk.LookPath(argv[0])
		if err != nil {
			continue
		}
		err = launch(ctx, name, argv[1:], cmp.Or(desk.grace, launchGrace))
		if err == nil || ctx.Err() != nil {
			return err
		}
		tried = err
	}
	return tried
}

// launch starts a program without a terminal, in a group of its own so that an
// interrupt of ours does not reach it, and reaps it whenever it ends. The reaping
// goroutine ends with the browser and not before: a zombie would be the alternative.
func launch(ctx context.Context, name string, args []string, grace time.Duration) error {
	cmd := exec.Command(name, args...) // nil files: standard streams are the null device
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start browser: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("start browser: %s: %w", path.Base(name), err)
		}
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// browsers returns the command lines to try, in order.
func (d Desktop) browsers(address string) [][]string {
	var all [][]string
	for _, words := range d.browserVariable() {
		all = append(all, withAddress(words, address))
	}
	switch {
	case d.GOOS == "windows":
		return append(all, []string{"rundll32", "url.dll,FileProtocolHandler", address})
	case d.GOOS == "darwin":
		return append(all, []string{"open", address})
	case d.inWSL():
		all = append(all, []string{"wslview", address},
			[]string{"rundll32.exe", "url.dll,FileProtocolHandler", address})
	case !d.hasDisplay():
		return all
	}
	return append(all, []string{"xdg-open", address})
}

// browserVariable reads $BROWSER: commands separated by colons, %s for the address.
func (d Desktop) browserVariable() [][]string {
	separator := ":"
	if d.GOOS == "windows" {
		separator = ";" // a drive letter has a colon
	}
	var all [][]string
	for entry := range strings.SplitSeq(d.Getenv("BROWSER"), separator) {
		words := strings.Fields(entry)
		if len(words) == 0 || strings.HasPrefix(words[0], "-") || needsTerminal(words[0]) {
			continue
		}
		all = append(all, words)
	}
	return all
}

// needsTerminal names the text browsers: ours is in use, and a sign-in page without
// scripts leads nowhere.
func needsTerminal(program string) bool {
	switch path.Base(program) {
	case "lynx", "w3m", "links", "links2", "elinks", "www-browser":
		return true
	}
	return false
}

func withAddress(words []string, address string) []string {
	var argv []string
	found := false
	for _, word := range words {
		found = found || strings.Contains(word, "%s")
		argv = append(argv, strings.ReplaceAll(word, "%s", address))
	}
	if !found {
		argv = append(argv, address)
	}
	return argv
}

// checkURL refuses what is no web address to show or open: https, or http for this
// computer, in the characters of RFC 3986 and no others, so that no program and no
// terminal takes a part of it for something else.
func checkURL(address string) error {
	const limit = 8 << 10
	if len(address) > limit {
		return errors.New("the address to open is too long")
	}
	for _, r := range address {
		if !urlRune(r) {
			return errors.New("the address to open holds characters that no address has")
		}
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.User != nil {
		return errors.New("the address to open is not valid")
	}
	if parsed.Scheme == "https" || parsed.Scheme == "http" && isLocal(parsed.Hostname()) {
		return nil
	}
	return errors.New("the address to open is not https")
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func urlRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return true
	}
	return strings.ContainsRune("-._~:/?#[]@!$&'()*+,;=%", r)
}
