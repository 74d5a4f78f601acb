package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"letterlockd": func() {
		p := &program{args: os.Args, term: cli.Attach(os.Stdin, os.Stdout, os.Stderr, os.Getenv), getenv: os.Getenv, now: time.Now, random: rand.Reader}
		if len(os.Args) > 1 && os.Args[1] != "--config" {
			p.args = append([]string{os.Args[0], "--config", "letterlockd.toml"}, os.Args[1:]...)
		}
		os.Exit(int(p.run(context.Background())))
	}})
}

// Each script is a story; WORK in its files is its folder.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			files, err := filepath.Glob(filepath.Join(env.WorkDir, "*.toml"))
			if err != nil {
				return err
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				data = bytes.ReplaceAll(data, []byte("WORK"), []byte(filepath.ToSlash(env.WorkDir)))
				if err := os.WriteFile(file, data, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func quiet() *program {
	return &program{args: []string{"letterlockd"}, term: &cli.Terminal{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, getenv: func(string) string { return "" }, now: time.Now}
}

// Every command explains itself and shows an example.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && !c.Hidden && c.Name() != "help" && (c.Short == "" || c.Example == "" || c.Long == "" && c.Name() != "version") {
			t.Errorf("%s lacks a description or an example", c.CommandPath())
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(quiet().root())
}

// The committed pages and completions are what the commands say. When this fails:
// make generate
func TestDocsHaveNotDrifted(t *testing.T) {
	files, err := quiet().docs()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s has drifted from the commands (%v): make generate", name, err)
		}
	}
	for _, folder := range []string{"man", "completion"} {
		entries, err := os.ReadDir(filepath.Join("../../docs", folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if _, ok := files[folder+"/"+entry.Name()]; !ok && strings.Contains(entry.Name(), "letterlockd") {
				t.Errorf("docs/%s/%s belongs to no command any more", folder, entry.Name())
			}
		}
	}
}
