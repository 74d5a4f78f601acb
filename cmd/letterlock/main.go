// Letterlock signs you in to your mail provider once, and from then on hands every
// mail program a fresh token.
//
// This package is the wiring: one file per command, which turns flags and
// configuration into arguments of the rooms under internal/ and their errors into an
// exit code. Only main ends the process.
package main

import (
	"os"
	"runtime"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func main() {
	runtime.MemProfileRate = 0 // nobody reads one, and its first sample costs start-up time
	cli.Harden()
	p := &program{
		args:    os.Args,
		term:    cli.Attach(os.Stdin, os.Stdout, os.Stderr, os.Getenv),
		getenv:  os.Getenv,
		environ: os.Environ(),
		now:     time.Now,
	}
	os.Exit(int(p.run(&interrupts{})))
}
