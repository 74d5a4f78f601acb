package command

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// GenDocs is the hidden command that writes what docs makes below a folder.
func GenDocs(docs func() (map[string][]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use: "gen-docs FOLDER", Short: "write manual pages and completion scripts", Hidden: true,
		Args: Exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := docs()
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
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
