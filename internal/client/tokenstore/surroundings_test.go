package tokenstore

import (
	"encoding/base64"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestEmptyEnvironmentIsCompleted(t *testing.T) {
	out, _, err := program{argv: helper(t, "environ")}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(out), "\n")
	if !slices.Contains(got, "HOME="+me.HomeDir) || !strings.Contains(string(out), "PATH=/usr/local/bin:/usr/bin:/bin") {
		t.Errorf("a helper under an empty environment gets %q", got)
	}
	if strings.Contains(string(out), "GPG_TTY") {
		t.Errorf("GPG_TTY without a terminal: %q", got)
	}
}

func TestEnvironmentIsKept(t *testing.T) {
	where := Surroundings{Environ: []string{"HOME=/h", "PATH=/p", "GPG_TTY=/dev/pts/old", "X=1", "X=2"}, Terminal: "/dev/pts/7"}
	got := Surroundings{Environ: where.complete()}
	for key, want := range map[string]string{"HOME": "/h", "PATH": "/p", "GPG_TTY": "/dev/pts/7", "TERM": "vt100", "X": "2", "XX": ""} {
		if got.getenv(key) != want {
			t.Errorf("%s=%q, want %q", key, got.getenv(key), want)
		}
	}
}

func TestFindProgram(t *testing.T) {
	folder := t.TempDir()
	for file, mode := range map[string]os.FileMode{"tool": 0o700, "text": 0o600} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
	where := Surroundings{Environ: []string{"PATH=/nowhere:" + folder}}
	if got, err := where.find("tool"); err != nil || got != filepath.Join(folder, "tool") {
		t.Errorf("find(tool) = %q, %v", got, err)
	}
	if got, err := where.find("text"); err == nil {
		t.Errorf("find(text) = %q, which cannot be run", got)
	}
	// A relative or empty entry would run what somebody put into a shared folder.
	for _, path := range []string{"PATH=.", "PATH=:/nowhere", "PATH=sub/.."} {
		where.Environ = []string{path}
		if got, err := where.find("tool"); err == nil {
			t.Errorf("%s: find(tool) = %q", path, got)
		}
	}
}

func TestDisplay(t *testing.T) {
	for _, row := range []struct {
		environ []string
		want    bool
	}{
		{nil, false},
		{[]string{"DISPLAY="}, false},
		{[]string{"DISPLAY=:0"}, true},
		{[]string{"WAYLAND_DISPLAY=wayland-0"}, true},
	} {
		if got := FindSurroundings(row.environ).Display; got != row.want {
			t.Errorf("Display with %q = %v", row.environ, got)
		}
	}
	if (Surroundings{}).patience() >= personLimit || (Surroundings{Terminal: "/dev/pts/0"}).patience() != personLimit {
		t.Error("patience does not depend on a person")
	}
	if (Surroundings{}).patience()+killLimit >= 5*time.Second {
		t.Error("with nobody there it takes over five seconds")
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"plain\n":                         "plain",
		"\x1b]0;title\x07 two\nlines":     "?]0;title? two lines",
		"age-secret-key-1abc":             "(not shown: it holds a key)",
		strings.Repeat("x", 5000) + "end": "… " + strings.Repeat("x", 297) + "end",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%.30q) = %q, want %q", in, got, want)
		}
	}
}
