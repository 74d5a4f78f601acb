//go:build lab

package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// interactive are the programs that a person sits in front of: they run in a
// terminal, and keys are typed when the screen shows what they answer to.
func interactive() []client {
	oauthbearer := []string{"OAUTHBEARER"}
	return []client{
		{program: "mutt", via: "token", methods: oauthbearer, run: runMutt},
		{program: "mutt", via: "token", startTLS: true, methods: oauthbearer, run: runMutt},
		{program: "mutt", via: "tunnel", methods: oauthbearer, run: readWithMutt},
		{program: "neomutt", via: "token", methods: oauthbearer, run: runMutt},
		{program: "neomutt", via: "token", startTLS: true, methods: oauthbearer, run: runMutt},
		{program: "neomutt", via: "tunnel", methods: oauthbearer, run: readWithMutt},
		{program: "aerc", via: "token", methods: oauthbearer, run: runAerc},
		{program: "aerc", via: "token", startTLS: true, methods: oauthbearer, run: runAerc},
		{program: "alpine", via: "tunnel", methods: oauthbearer, run: runAlpine},
		{program: "alpine", via: "tunnel", startTLS: true, methods: oauthbearer, run: runAlpine},
	}
}

// A keyboard is a program in a terminal.
type keyboard struct {
	*testing.T
	ctx      context.Context
	terminal *pty.Terminal
}

func (d *desk) sitAt(program string, args ...string) *keyboard {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	d.Cleanup(cancel)
	cmd := d.command(ctx, program, args...)
	terminal, err := pty.Start(cmd)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(terminal.Stop)
	start := time.Now()
	d.Cleanup(func() { d.Logf("%s took %v", program, time.Since(start).Round(time.Millisecond)) })
	return &keyboard{d.T, ctx, terminal}
}

// see waits until the screen shows a text.
func (k *keyboard) see(text string) {
	k.Helper()
	if err := k.terminal.Expect(k.ctx, text); err != nil {
		k.Fatal(err)
	}
}

func (k *keyboard) press(keys string) {
	k.Helper()
	if err := k.terminal.Type(keys); err != nil {
		k.Fatal(err)
	}
}

// insist presses a key until the screen shows what it does.
func (k *keyboard) insist(key, text string) {
	k.Helper()
	for {
		k.press(key)
		ctx, cancel := context.WithTimeout(k.ctx, 20*time.Second)
		err := k.terminal.Expect(ctx, text)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() == nil || k.ctx.Err() != nil {
			k.Fatal(err)
		}
	}
}

// leave waits for the program's end.
func (k *keyboard) leave() {
	k.Helper()
	if err := k.terminal.Wait(k.ctx); err != nil {
		k.Fatal(err)
	}
}

const killLine = "\x15"

func runMutt(d *desk) {
	d.program(d.text(), d.programName(), "-s", d.subject(), d.sentTo)
	d.sent()
	readWithMutt(d)
}

// readWithMutt copies the message into a file.
func readWithMutt(d *desk) {
	k := d.sitAt(d.programName())
	k.see("letter for")
	k.press("C")
	k.see("Copy to mailbox")
	k.press(killLine + d.path("~/fetched") + "\r")
	k.see("reate") // only what changes is drawn, and the C may be there already
	k.press("y")
	k.press("q")
	k.leave()
	d.fetchedFile(d.path("~/fetched"))
}

func runAerc(d *desk) {
	editor := d.write("bin/editor", "#!/bin/sh\ncat text > \"$1\"\n")
	if err := os.Chmod(editor, 0o700); err != nil {
		d.Fatal(err)
	}
	d.write("text", d.text())
	d.env = append(d.env, "SSL_CERT_FILE="+d.site.ca.File, "EDITOR="+editor) // the first as the comment says
	k := d.sitAt("aerc")
	k.see("letter for")
	k.press(":pipe -b tee " + d.path("~/fetched") + "\r")
	d.awaitFile(k.ctx, "~/fetched", "..and two\n")
	k.press(":compose -H 'To: " + d.sentTo + "' -H 'Subject: " + d.subject() + "'\r")
	k.see("Send")
	k.press("y")
	d.sent()
	// It may still wait for the server's goodbye; that much is known to have arrived.
	k.press(":quit -f\r")
	k.leave()
	d.fetchedFile(d.path("~/fetched"))
}

// awaitFile waits until a file has come to its end. Nothing tells when another
// program has written, short of the file itself.
func (d *desk) awaitFile(ctx context.Context, name, end string) {
	d.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(d.path(name))
		if err == nil && strings.HasSuffix(strings.ReplaceAll(string(data), "\r\n", "\n"), end) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.Fatalf("%s does not come: %v: %q", name, err, data)
		}
	}
}

func runAlpine(d *desk) {
	k := d.sitAt("alpine", "-i")
	k.see("GREETING TEXT")
	k.press("E")
	k.see("letter for")
	k.press("S")
	k.see("SAVE")
	k.press(d.path("~/fetched") + "\r")
	k.see("reate")
	k.insist("Y", "Message 1 of 1 DEL") // it forgets what is typed while it draws
	k.press("Q")
	k.see("Really quit")
	k.insist("Y", "xpunge")
	k.insist("N", "finished")
	k.leave()
	d.fetchedFile(d.path("~/fetched"))
}
