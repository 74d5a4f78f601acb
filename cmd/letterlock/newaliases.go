package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
)

func (p *program) newAliasesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "newaliases",
		Short: "check the alias file",
		Long: `Read the alias file, say what is wrong with it, and which of its targets this sendmail
does not serve. There is no database to rebuild: sendmail reads the file itself.`,
		Example: `  letterlock newaliases`,
		Args:    exactly(0),
		RunE:    func(*cobra.Command, []string) error { return p.newAliases() },
	}
}

func (p *program) newAliases() error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	path := aliasPath(conf)
	aliases, err := sendmail.LoadAliases(path)
	if err != nil {
		return cli.Wrap(cli.DataError, err, "correct that line")
	}
	for _, name := range sortedNames(aliases.Unusable) {
		for _, target := range aliases.Unusable[name] {
			p.term.Sayf("%s: %s leads to %s, which is not served here", path, cli.Line(name), cli.Line(target))
		}
	}
	targets := 0
	for _, to := range aliases.Entries {
		targets += len(to)
	}
	_, err = fmt.Fprintf(p.term.Out, "%s: %d aliases, %d addresses\n", path, len(aliases.Entries), targets)
	return err
}
