package login

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeBrowser is this test program as a browser: it writes its arguments to a file,
// fails, or stays until the connection it makes is closed.
func fakeBrowser(mode string, args []string) {
	switch mode {
	case "fake-browser-record":
		os.Stdout.WriteString("noise\n")
		if os.WriteFile(args[0], []byte(strings.Join(args[1:], "\n")), 0o600) != nil {
			os.Exit(1)
		}
	case "fake-browser-fail":
		os.Exit(3)
	case "fake-browser-stay":
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, conn)
	}
	os.Exit(0)
}

const goodURL = "https://login.test/authorize?client_id=x&scope=a+b&state=%22%27%24%28id%29"

func desktop(env map[string]string, programs ...string) Desktop {
	return Desktop{
		GOOS:   "linux",
		Getenv: func(name string) string { return env[name] },
		LookPath: func(name string) (string, error) {
			if slices.Contains(programs, name) || filepath.IsAbs(name) {
				return name, nil
			}
			return "", fs.ErrNotExist
		},
		Stat:  func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist },
		grace: patience, // a fake browser that fails may take its time to
	}
}

func TestOpenBrowser(t *testing.T) {
	noLeaks(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "argv")
	record := self + " fake-browser-record " + file
	tests := []struct{ name, browser, want string }{
		{"address at the end", record + " -new-window", "-new-window\n" + goodURL},
		{"address in its place", record + " --app=%s x", "--app=" + goodURL + "\nx"},
		{"the first that works", self + " fake-browser-fail:missing::" + record, goodURL},
		{"text browsers are passed over", "/usr/bin/lynx:w3m %s:-x:" + record, goodURL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_ = os.Remove(file)
			if err := OpenBrowser(t.Context(), goodURL, desktop(map[string]string{"BROWSER": test.browser})); err != nil {
				t.Fatal(err)
			}
			got, _ := os.ReadFile(file)
			if string(got) != test.want {
				t.Errorf("argv %q, want %q", got, test.want)
			}
		})
	}
}

func TestOpenBrowserFails(t *testing.T) {
	noLeaks(t)
	self, _ := os.Executable()
	for _, browser := range []string{"", "missing", self + " fake-browser-fail"} {
		if err := OpenBrowser(t.Context(), goodURL, desktop(map[string]string{"BROWSER": browser, "DISPLAY": ":0"})); err == nil {
			t.Errorf("%q: no error", browser)
		}
	}
}

// A browser that stays is not waited for, outlives ctx, and is reaped in the end.
func TestOpenBrowserStays(t *testing.T) {
	noLeaks(t)
	self, _ := os.Executable()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	browser := self + " fake-browser-stay " + strings.ReplaceAll(listener.Addr().String(), ":", "%s")
	// The colon of the address would end the entry; %s stands in for it.
	desk := desktop(map[string]string{"BROWSER": browser})
	ctx, cancel := context.WithCancel(t.Context())
	argv := desk.browsers(":")[0]
	if err := launch(ctx, argv[0], argv[1:], time.Millisecond); err != nil {
		t.Fatal(err)
	}
	cancel()
	conn, err := listener.Accept() // it lives
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the browser ended with ctx: %v", err)
	}
	conn.Close() // now it ends; noLeaks sees that it was reaped
}

func TestBrowsersBySystem(t *testing.T) {
	tests := []struct {
		goos string
		env  map[string]string
		want string
	}{
		{"linux", map[string]string{"DISPLAY": ":0"}, "xdg-open URL"},
		{"freebsd", map[string]string{"WAYLAND_DISPLAY": "w"}, "xdg-open URL"},
		{"linux", nil, ""},
		{"linux", map[string]string{"WSL_DISTRO_NAME": "Debian"}, "wslview URL | rundll32.exe url.dll,FileProtocolHandler URL | xdg-open URL"},
		{"darwin", nil, "open URL"},
		{"windows", nil, "rundll32 url.dll,FileProtocolHandler URL"},
		{"windows", map[string]string{"BROWSER": `C:\b.exe -x;d`}, `C:\b.exe -x URL | d URL | rundll32 url.dll,FileProtocolHandler URL`},
		{"linux", map[string]string{"BROWSER": "a:b %s -c", "DISPLAY": ":0"}, "a URL | b URL -c | xdg-open URL"},
	}
	for _, test := range tests {
		desk := desktop(test.env)
		desk.GOOS = test.goos
		var all []string
		for _, argv := range desk.browsers("URL") {
			all = append(all, strings.Join(argv, " "))
		}
		if got := strings.Join(all, " | "); got != test.want {
			t.Errorf("%s %v: %s, want %s", test.goos, test.env, got, test.want)
		}
	}
}

func TestOpenBrowserRefusesAddresses(t *testing.T) {
	for _, address := range []string{
		"", "-h", "--version", "http://login.test/", "ftp://login.test/", "file:///etc/passwd", "javascript:alert(1)",
		"https://", "https:login.test", "//login.test/", "https://login.test/\n", "https://login.test/\x00", "https://login.test/ -x",
		"https://login.test/\x1b]0;", "https://login.test/`id`", `https://login.test/"x`, "https://login.test/<x>", "https://login.test/ü",
		"https://login.test/\u202e", "https://me:pw@login.test/", " https://login.test/", "http://127.0.0.1.evil.test/", `https://login.test\x`,
		"https://login.test/" + strings.Repeat("a", 9000), "HTTPS+x://a/",
	} {
		desk := desktop(map[string]string{"BROWSER": "/does/not/exist"})
		desk.LookPath = func(string) (string, error) {
			t.Errorf("%q got as far as a program", address)
			return "", fs.ErrNotExist
		}
		if err := OpenBrowser(t.Context(), address, desk); err == nil {
			t.Errorf("%q: no error", address)
		}
	}
	for _, address := range []string{goodURL, "http://127.0.0.1:8080/x", "http://localhost/", "http://[::1]:1/", "HTTPS://login.test/"} {
		if err := checkURL(address); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}
