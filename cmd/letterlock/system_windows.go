package main

import "github.com/letterlock-mail/letterlock/internal/cli"

// becomeSystem refuses: the system folders are Unix's.
func (p *program) becomeSystem() error {
	if p.system {
		return cli.Faultf(cli.Usage, "leave it out", "--system is not for Windows")
	}
	return nil
}
