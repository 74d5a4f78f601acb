package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func quiet() *program {
	return &program{args: []string{"letterlock"}, term: &cli.Terminal{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}},
		getenv: func(string) string { return "" }, now: time.Now}
}

// The committed pages and completions are what the commands say. When this fails:
// go run ./cmd/letterlock gen-docs docs
func TestDocsHaveNotDrifted(t *testing.T) {
	files, err := quiet().docs()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s has drifted from the commands (%v): go run ./cmd/letterlock gen-docs docs", name, err)
		}
	}
	for _, folder := range []string{"man", "completion"} {
		entries, _ := os.ReadDir(filepath.Join("../../docs", folder))
		for _, entry := range entries {
			if strings.Contains(entry.Name(), "letterlockd") {
				continue // the daemon's own test looks at those
			}
			if _, ok := files[folder+"/"+entry.Name()]; !ok {
				t.Errorf("docs/%s/%s belongs to no command any more", folder, entry.Name())
			}
		}
	}
}

// Every command explains itself and shows an example, and every flag says what it is.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && !c.Hidden && c.Name() != "help" {
			if c.Short == "" || c.Example == "" || c.Long == "" && c.Name() != "version" {
				t.Errorf("%s lacks a description or an example", c.CommandPath())
			}
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(quiet().root(nil))
}

// What the design promises is there, flag by flag.
func TestStableSurface(t *testing.T) {
	root := quiet().root(nil)
	for name, flags := range map[string]string{
		"register": "client-id", "logout": "local", "accounts": "json", "report": "json", "version": "json", "setup": "via list",
		"login":  "account provider issuer tenant client-id client-secret-file redirect-uri flow send-only no-browser key imap pop3 smtp imap-security pop3-security smtp-security ca-file",
		"token":  "min-validity for json netrc sasl curl",
		"tunnel": "",
	} {
		c, _, err := root.Find([]string{name})
		if err != nil || c.Name() != name {
			t.Errorf("there is no command %s", name)
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if c.Flags().Lookup(flag) == nil {
				t.Errorf("%s has no --%s", name, flag)
			}
		}
	}
}
