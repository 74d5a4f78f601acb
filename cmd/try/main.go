// Try runs the story of Letterlock on this computer: the real letterlockd, mail servers,
// and the real letterlock with a folder of its own, all on loopback. It needs only Go, no
// root, installs nothing, and leaves nothing behind.
//
//	your browser --> 127.0.0.1:8080 --> letterlockd --> a stand-in of GitHub
//	letterlock --------- tokens ------->   |  ^         temporary folder
//	     |                        sessions |  | who is it, who may send
//	     +--> IMAP, SMTP <---------- end --+--+         Dovecot and Postfix when installed, else built in
//	your browser --> 127.0.0.1:8081 --> its gateway --> Roundcube, when that is installed too
//
// The person signs in once and revokes once; the second right, which only sends (line
// 4), and the app password (line 5) are asked for and clicked by the program, which also
// opens the web mail (line 6, with Roundcube only).
//
// `make try` waits for a person to click; -once clicks by itself and fails when any
// line fails. No line is printed that was not tested just before. It is never
// installed, and the only program that links both wings.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/login"
)

func main() {
	once := flag.Bool("once", false, "click by itself, then end")
	program := flag.String("letterlock", "bin/letterlock", "the letterlock `program` to run")
	server := flag.String("letterlockd", "bin/letterlockd", "the letterlockd `program` to run")
	servers := flag.String("servers", "auto", "mail servers: auto, builtin, or dovecot")
	port := flag.Int("port", 8080, "`port` of the first page, and one less than that of web mail; others are taken when they are busy")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, Options{
		Once: *once, Letterlock: *program, Letterlockd: *server, Servers: *servers, Port: *port,
		Out: os.Stdout, Terminal: term.IsTerminal(int(os.Stdout.Fd())), Open: openBrowser,
	})
	stop()
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "\ntry: stopped; everything is cleaned up")
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "\ntry: %s\n", cli.Line(err.Error()))
		os.Exit(1)
	}
}

// openBrowser opens the person's browser on a desktop, and nothing elsewhere: over
// ssh a text browser would take the terminal away.
func openBrowser(ctx context.Context, url string) error {
	desk := login.Desktop{GOOS: runtime.GOOS, Getenv: os.Getenv, LookPath: exec.LookPath, Stat: os.Stat}
	around := login.Look(desk)
	if around.SSH || !around.Display {
		return errors.New("no desktop")
	}
	return login.OpenBrowser(ctx, url, desk)
}
