// Package command is what the command lines of both programs share: counting arguments,
// answering unknown commands, and the manual pages and completion scripts, which are
// made from the commands and the description of the configuration so that neither can
// say what the program does not do.
//
// cobra's own generator of manual pages goes through Markdown and two modules of which
// nothing else here has need; its completions are used as they are.
package command

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// Exactly wants n arguments and says which when they are not there.
func Exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			words := strings.Fields(c.Use)
			return cli.Faultf(cli.Usage, "see "+c.CommandPath()+" --help", "%s needs %s", c.CommandPath(), strings.Join(words[1:n+1], " "))
		case len(args) > n:
			return cli.Faultf(cli.Usage, "see "+c.CommandPath()+" --help", "%s takes no argument %q", c.CommandPath(), cli.Line(args[n]))
		}
		return nil
	}
}

// Root makes a command that only has commands below it: it shows its help, and answers a
// name that there is not with the nearest one.
func Root(c *cobra.Command) *cobra.Command {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SuggestionsMinimumDistance = 2
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return cli.Wrap(cli.Usage, err, "see "+c.CommandPath()+" --help")
	})
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := c.CommandPath() + " --help lists the commands"
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + c.CommandPath() + " " + near[0] + "?"
		}
		return cli.Faultf(cli.Usage, hint, "there is no command %q", cli.Line(args[0]))
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}
