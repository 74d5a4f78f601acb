package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// programs builds both.
func programs(t *testing.T) (letterlock, letterlockd string) {
	t.Helper()
	folder, suffix := t.TempDir(), ""
	if runtime.GOOS == "windows" {
		suffix = ".exe"
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", folder+string(filepath.Separator), "../letterlock", "../letterlockd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return filepath.Join(folder, "letterlock"+suffix), filepath.Join(folder, "letterlockd"+suffix)
}

func noBrowser(context.Context, string) error { return errors.New("no browser in tests") }

// TestRuns runs the story with the programs just built, in each way it can go.
func TestRuns(t *testing.T) {
	var o Options
	o.Letterlock, o.Letterlockd = programs(t)
	o.Servers = "builtin"
	t.Run("once", func(t *testing.T) { once(t, o) })
	t.Run("person", func(t *testing.T) { person(t, o) })
	t.Run("interrupted", func(t *testing.T) { interrupted(t, o) })
}

func once(t *testing.T, o Options) {
	temp := t.TempDir()
	var out bytes.Buffer
	o.Once, o.Out, o.Open, o.Temp = true, &out, noBrowser, temp
	err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	want := regexp.MustCompile(`\A1 Sign in      http://127\.0\.0\.1:\d+  signed in as you@try\.test
2 Token        mutt's command prints llat_…  valid (5\d|60) min, on disk only encrypted
3 IMAP, SMTP   XOAUTH2 ok, OAUTHBEARER ok \(built-in servers\)
4 Cron mail    sendmail: delivered; the same right reading mail: REFUSED
5 App password made in the portal: SMTP 235; sending as other@: REFUSED 553
7 Revoke       click Revoke at http://127\.0\.0\.1:\d+  IMAP session ended after \d+\.\d\d s, next login REFUSED
Passwords stored: none\. App passwords: 1, as Argon2id\.
Your own mail:  letterlock register google && letterlock login you@gmail\.com
\z`)
	if !want.MatchString(out.String()) {
		t.Errorf("the story was:\n%s", out.String())
	}
	wantEmpty(t, temp)
}

// wantEmpty: nothing is left behind.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// person waits as `make try` does, with the test for a person, who first takes the wrong
// right away.
func person(t *testing.T, o Options) {
	temp := t.TempDir()
	clicked := make(chan error, 4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened, rights := 0, []string{"Send mail as you", "Read"}
	open := func(ctx context.Context, url string) error {
		opened++
		if opened == 1 {
			clicked <- click(ctx, url)
			return nil
		}
		surfer, err := portalSurfer(ctx, url)
		if err == nil {
			err = surfer.revoke(ctx, rights[opened-2])
		}
		clicked <- err
		if err != nil {
			t.Errorf("revocation %d: %v", opened-1, err)
			cancel()
		}
		return nil
	}
	var out bytes.Buffer
	o.Out, o.Terminal, o.Open, o.Temp = &out, true, open, temp
	if err := Run(ctx, o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for range opened {
		if err := <-clicked; err != nil {
			t.Error(err)
		}
	}
	if opened != 3 {
		t.Errorf("the person's browser was opened %d times, want for the sign-in and for two revocations", opened)
	}
	for _, line := range []string{"1 Sign in ", "7 Revoke "} {
		if !strings.Contains(out.String(), "(waiting)\r\x1b[K"+line) {
			t.Errorf("the waiting line of %s was not written over:\n%q", line, out.String())
		}
	}
	wantEmpty(t, temp)
}

// interrupted: whoever gives up before signing in leaves nothing behind either.
func interrupted(t *testing.T, o Options) {
	temp := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(context.Context, string) error { cancel(); return nil }
	var out bytes.Buffer
	o.Out, o.Open, o.Temp = &out, open, temp
	err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if strings.Contains(out.String(), "signed in") || !strings.Contains(out.String(), "(waiting)\n") {
		t.Errorf("printed:\n%s", out.String())
	}
	wantEmpty(t, temp)
}

// TestFailures: a line that is not proven is not printed, and the run fails.
func TestFailures(t *testing.T) {
	_, server := programs(t)
	for name, c := range map[string]struct{ script, want, printed string }{
		"login fails":            {`echo no such flag >&2; exit 64`, "no such flag", ""},
		"login says nothing":     {`exit 0`, "letterlock login", ""},
		"the address is refused": {`case $1 in login) echo "$4/authorize?x=1"; exec sleep 600;; esac`, "click: page /authorize answered 400", ""},
		"login lies":             {`case $1 in login) echo "$4/device"; echo "$4/authorize?x=1";; esac`, "click: page", ""},
	} {
		t.Run(name, func(t *testing.T) {
			temp, program := t.TempDir(), filepath.Join(t.TempDir(), "letterlock")
			if runtime.GOOS == "windows" {
				return // a shell script stands for the program
			}
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			err := Run(ctx, Options{Once: true, Letterlock: program, Letterlockd: server, Servers: "builtin", Out: &out, Open: noBrowser, Temp: temp})
			if err == nil || !strings.Contains(err.Error(), c.want) || out.String() != c.printed {
				t.Errorf("got %v and printed %q", err, out.String())
			}
			wantEmpty(t, temp)
		})
	}
}

// TestWrong: one sign differs, behind the selector.
func TestWrong(t *testing.T) {
	for password, want := range map[string]string{"sel-abc-def": "sel-bbc-def", "sel-xyz": "sel-ayz"} {
		if got := wrong(password); got != want {
			t.Errorf("%s: %s, want %s", password, got, want)
		}
	}
}

// TestOnlyHashed: the password nowhere, its hash somewhere.
func TestOnlyHashed(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"hashed": {"x$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA", true}, "nothing": {"", false},
		"open": {"$argon2id$v=19$ sel-secret", false}, "another hash": {"$2y$10$x", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "letterlockd.db"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := onlyHashed(dir, "sel-secret"); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneToken(t *testing.T) {
	good := "llat_" + strings.Repeat("a", 43)
	if token, err := oneToken(good + "\n"); err != nil || token != good {
		t.Errorf("a good line: %q %v", token, err)
	}
	for _, out := range []string{"", "\n", good + "\n\n", good + "\n" + good + "\n", " " + good, "llrt_" + strings.Repeat("a", 43), good + "b", "eyJhbGciOiJub25lIn0.e30."} {
		if _, err := oneToken(out); err == nil {
			t.Errorf("%q passed for one line with a token", out)
		}
	}
}

func TestMuttCommand(t *testing.T) {
	got, err := muttCommand("set x\nset imap_oauth_refresh_command=\"/opt/letterlock token you@try.test --for imap\"\nset y\n")
	if err != nil || strings.Join(got, "|") != "token|you@try.test|--for|imap" {
		t.Errorf("%q %v", got, err)
	}
	for _, config := range []string{"", `set imap_oauth_refresh_command="cat token"`, `set imap_oauth_refresh_command="letterlock token a@b; rm x"`, `set imap_oauth_refresh_command="letterlock token $(x)"`} {
		if got, err := muttCommand(config); err == nil {
			t.Errorf("%s: %q", config, got)
		}
	}
}

// TestProven: every server by every mechanism, every step good, or no line.
func TestProven(t *testing.T) {
	check := func(protocol, mechanism, outcome string) string {
		return `{"protocol":"` + protocol + `","mechanism":"` + mechanism + `","steps":[{"step":"sign in","outcome":"` + outcome + `"}]}`
	}
	all := func(last string) string {
		return check("imap", "XOAUTH2", "ok") + "," + check("imap", "OAUTHBEARER", "ok") + "," + check("smtp", "XOAUTH2", "ok") + last
	}
	for name, c := range map[string]struct {
		report string
		good   bool
	}{
		"all good":       {`{"ownership":"same","checks":[` + all(","+check("smtp", "OAUTHBEARER", "ok")) + `]}`, true},
		"one missing":    {`{"ownership":"same","checks":[` + all("") + `]}`, false},
		"one failed":     {`{"ownership":"same","checks":[` + all(","+check("smtp", "OAUTHBEARER", "failed")) + `]}`, false},
		"one skipped":    {`{"ownership":"same","checks":[` + all(","+check("smtp", "OAUTHBEARER", "skipped")) + `]}`, false},
		"nothing tried":  {`{"ownership":"same","checks":[` + all(`,{"protocol":"smtp","mechanism":"OAUTHBEARER","steps":[]}`) + `]}`, false},
		"owner unknown":  {`{"ownership":"unknown","checks":[` + all(","+check("smtp", "OAUTHBEARER", "ok")) + `]}`, false},
		"another format": {`[]`, false},
		"nothing":        {``, false},
	} {
		if _, err := proven(c.report); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyEncrypted(t *testing.T) {
	token := "llat_" + strings.Repeat("ab1", 15)[:43]
	random := strings.TrimPrefix(token, "llat_")
	age := "age-encryption.org/v1\n-> X25519 x\n"
	for name, c := range map[string]struct {
		files map[string]string
		good  bool
	}{
		"encrypted":          {map[string]string{"a/grant.age": age, "config.toml": "[x]"}, true},
		"nothing kept":       {map[string]string{"config.toml": "[x]"}, false},
		"open":               {map[string]string{"grant.age": age, "deep/er/log": "got " + token}, false},
		"without its prefix": {map[string]string{"grant.age": age, "log": random}, false},
		"in base64":          {map[string]string{"grant.age": age, "log": base64.StdEncoding.EncodeToString([]byte(random))}, false},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(dir, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := onlyEncrypted(dir, token); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
