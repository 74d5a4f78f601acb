package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// seated is a program with a person who types the given lines.
func seated(t *testing.T, typed string) (*program, *bytes.Buffer, string) {
	t.Helper()
	home := t.TempDir()
	var said bytes.Buffer
	p := &program{args: []string{"letterlock"}, now: time.Now,
		term:   &cli.Terminal{In: strings.NewReader(typed), Out: &bytes.Buffer{}, Err: &said, Interactive: true},
		getenv: func(name string) string { return map[string]string{"HOME": home}[name] }}
	return p, &said, filepath.Join(home, ".config/letterlock/config.toml")
}

func TestRegisterAsksAndKeeps(t *testing.T) {
	p, said, path := seated(t, " 1-a.apps.googleusercontent.com \nsecret-c4n4ry\n")
	if err := p.runCommand(t.Context(), []string{"register", "google"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), "client_id = \"1-a.apps.googleusercontent.com\"\nclient_secret = \"secret-c4n4ry\"\n") {
		t.Errorf("%v: %s", err, data)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: mode %v", err, info.Mode())
	}
	if strings.Contains(said.String(), "c4n4ry") || !strings.Contains(said.String(), "https://mail.google.com/") {
		t.Errorf("said:\n%s", said)
	}
}

func TestRegisterRefusesAndKeepsNothing(t *testing.T) {
	for _, typed := range []string{"you@gmail.com\n", "1-a.apps.googleusercontent.com\n\n", "\n", ""} {
		p, _, path := seated(t, typed)
		err := p.runCommand(t.Context(), []string{"register", "google"})
		var fault *cli.Fault
		if !errors.As(explainFault(err), &fault) || fault.Code == cli.Software || fault.Hint == "" {
			t.Errorf("%q: %v", typed, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q was kept", typed)
		}
	}
}

// Somebody else's sign-in is kept only if the person says so.
func TestOtherPerson(t *testing.T) {
	for typed, kept := range map[string]bool{"y\n": true, "yes\n": true, "n\n": false, "\n": false, "what\n": false} {
		p, said, _ := seated(t, typed)
		s := &signIn{p: p, name: "you@gmail.com", login: "you@gmail.com", providerName: "google"}
		err := s.otherPerson(t.Context(), "mallory\x1b[2J@gmail.com")
		if (err == nil) != kept {
			t.Errorf("%q: %v", typed, err)
		}
		if strings.Contains(said.String(), "\x1b[2J") {
			t.Errorf("an escape sequence came through: %q", said)
		}
	}
	// With nobody to ask a known provider's word counts.
	p, _, _ := seated(t, "")
	p.term.Interactive = false
	s := &signIn{p: p, name: "you@gmail.com", login: "you@gmail.com", providerName: "google"}
	var fault *cli.Fault
	if err := s.otherPerson(t.Context(), "mallory@gmail.com"); !errors.As(err, &fault) || fault.Code != cli.NoPerm {
		t.Errorf("err = %v", err)
	}
}

func TestTokenKeepsOffTheTerminal(t *testing.T) {
	p, _, _ := seated(t, "")
	p.term.OutTTY = true
	err := p.runCommand(t.Context(), []string{"token", "you@example.org"})
	var fault *cli.Fault
	if !errors.As(err, &fault) || fault.Code != cli.Usage || !strings.Contains(fault.Hint, "--show") {
		t.Errorf("err = %v", err)
	}
}

func TestOverlay(t *testing.T) {
	p, _, path := seated(t, "")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "[provider.work]\npreset = \"microsoft\"\ntenant = \"organizations\"\nsmtp = \"relay.work.example:25\"\n" +
		"[provider.own]\nissuer = \"https://login.example.org\"\nscopes = [\"mail\"]\nimap = \"mail.example.org\"\nimap_security = \"starttls\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	work, err := p.providerOf("work")
	if err != nil || work.Tenant != "organizations" || work.SMTP.Security != "starttls" || work.IMAP.Host != "outlook.office365.com" {
		t.Errorf("%v: %+v", err, work)
	}
	own, err := p.providerOf("own")
	if err != nil || !own.Discover || own.IMAP.Port != 143 || own.Resources[0].Scopes["full"][0] != "mail" || len(own.Resources[0].Scopes["send-only"]) != 0 {
		t.Errorf("%v: %+v", err, own)
	}
}
