package main

import (
	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
)

func (p *program) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "make a key for the key sources systemd and command",
		Long: `Print a new key (an age identity, as age-keygen makes it) for whoever shall keep it: a
systemd credential, a password store. Its public half is told on standard error;
recipient in [key.NAME] takes it where login cannot get at the key itself. Letterlock
keeps nothing of it. To a terminal nothing is printed.

The other key sources make their keys themselves.`,
		Example: `  letterlock keygen | systemd-creds encrypt --name=letterlock-key - /etc/credstore.encrypted/letterlock-key
  letterlock keygen | pass insert --multiline letterlock`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.keygen() },
	}
}

func (p *program) keygen() error {
	if p.term.OutTTY {
		return cli.Faultf(cli.Usage, "letterlock keygen | systemd-creds encrypt --name=letterlock-key - FILE", "a key does not go to the terminal")
	}
	text, recipient, err := tokenstore.NewIdentity()
	if err != nil {
		return err
	}
	defer clear(text)
	p.term.Sayf("public half: %s", recipient)
	_, err = p.term.Out.Write(text)
	return err
}
