package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func (p *program) genDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "gen-docs FOLDER", Short: "write manual pages and completion scripts", Hidden: true,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := p.docs()
			if err != nil {
				return err
			}
			for _, name := range sortedNames(files) {
				path := filepath.Join(args[0], filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return cli.Wrap(cli.CannotWrite, err, "")
				}
				if err := os.WriteFile(path, files[name], 0o644); err != nil {
					return cli.Wrap(cli.CannotWrite, err, "")
				}
			}
			return nil
		},
	}
}

// docs makes everything that is generated from the commands and the description of
// the configuration, by path below docs/.
func (p *program) docs() (map[string][]byte, error) {
	root := p.root(nil)
	root.InitDefaultHelpFlag()
	root.InitDefaultCompletionCmd()
	files := map[string][]byte{"man/letterlock.1": []byte(commandPage(root)), "man/letterlock.toml.5": []byte(configPage())}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" && c.Name() != "help" {
			c.InitDefaultHelpFlag()
			files["man/"+strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = []byte(commandPage(c))
		}
	}
	for name, generate := range map[string]func(*bytes.Buffer) error{
		"completion/letterlock.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"completion/_letterlock":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"completion/letterlock.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := generate(&b); err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		files[name] = b.Bytes()
	}
	return files, nil
}
