package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// completeAccounts completes account names for the shell. It stays silent when the
// configuration cannot be read: this is no place to complain.
func (p *program) completeAccounts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	conf, err := p.config()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	// Some shells insert the word as it is: a name that has to be quoted is not offered.
	names := slices.DeleteFunc(sortedNames(conf.Accounts), func(name string) bool { return shellWord(name) != name })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeWords completes a flag that takes one of a few words.
func completeWords(c *cobra.Command, flag string, words ...string) {
	// The error says only that the flag does not exist, which every test would show.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}
