// Letterlockd lets people sign in to mail with the identity they have, gives their mail
// programs app passwords and tokens, and answers Postfix and Dovecot about them.
//
// This package is the wiring: one file per command, which turns flags and configuration
// into arguments of the rooms under internal/server and their errors into an exit code.
// Only main ends the process.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func main() {
	cli.Harden()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{
		args:   os.Args,
		term:   cli.Attach(os.Stdin, os.Stdout, os.Stderr, os.Getenv),
		getenv: os.Getenv,
		now:    time.Now,
		random: rand.Reader,
	}
	code := p.run(ctx)
	stop()
	os.Exit(int(code))
}
