package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
)

func (p *program) configCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "config", Short: "check the configuration, and print that of the mail servers and of DNS",
		Long:    "Check and explain letterlockd.toml, and print what Postfix, Dovecot, DNS and web mail need.",
		Example: "  letterlockd config check",
	})
	c.AddCommand(p.configCheckCommand(), p.configDescribeCommand(), p.configPostfixCommand(), p.configDovecotCommand(), p.configDNSCommand())
	c.AddCommand(p.webConfigCommands()...)
	return c
}

func (p *program) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "tell all faults of the file", Long: "Read the file and tell all its faults with their lines; nothing is started.",
		Example: "  letterlockd config check --config new.toml",
		Args:    command.Exactly(0),
		RunE: func(*cobra.Command, []string) error {
			conf, err := p.config()
			if err != nil {
				return err
			}
			if conf.Path == "" {
				p.term.Sayf("there is no %s: the defaults hold", p.file)
				return nil
			}
			p.term.Sayf("%s is good", conf.Path)
			return nil
		},
	}
}

func (p *program) configDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe", Short: "print an annotated file", Long: "Print a file in which every setting is explained and commented out.",
		Example: "  letterlockd config describe > /etc/letterlock/letterlockd.toml",
		Args:    command.Exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(p.term.Out, config.DaemonSample())
			return err
		},
	}
}
