package main

import (
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// carrier takes mail away by the accounts' rights to send.
func (p *program) carrier() (queue.Carrier, func(), error) {
	return nil, nil, cli.Faultf(cli.Software, "", "not written yet")
}
