//go:build lab && linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// greylist is a policy server as Postfix asks one: no at the first time, yes from then on.
func (o *outside) greylist() string {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		o.t.Fatal(err)
	}
	var served sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // Postfix ends it
				defer conn.Close()
				recipient := ""
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if value, ok := strings.CutPrefix(lines.Text(), "recipient="); ok {
						recipient = value
					}
					if lines.Text() != "" {
						continue
					}
					mu.Lock()
					action := "DUNNO"
					if strings.HasSuffix(recipient, "@grey.test") && !seen[recipient] {
						action = "450 4.7.1 Greylisted, come back later"
					}
					seen[recipient] = true
					mu.Unlock()
					fmt.Fprintf(conn, "action=%s\n\n", action)
				}
			}()
		}
	})
	o.t.Cleanup(func() {
		listener.Close()
		served.Wait()
	})
	return "inet:" + listener.Addr().String()
}

// testLocal: mail for this machine goes to a real Dovecot, by LMTP, or into Maildirs;
// reports on mail that left go to their sender there.
func (o *outside) testLocal(t *testing.T) {
	folder, err := os.MkdirTemp("", "lmtp-") // t.TempDir's is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "lmtp")
	o.dovecot = lab.RunDovecot(t, lab.DovecotOptions{CA: o.ca, Introspection: "https://127.0.0.1:1/", Extra: `
protocols = imap lmtp
service lmtp {
  unix_listener ` + socket + ` {
    mode = 0600
  }
}
`})
	inbox := func(name, subject string) bool {
		mails, err := o.dovecot.Inbox(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, mail := range mails {
			if strings.Contains(string(mail), subject) {
				return true
			}
		}
		return false
	}
	o.configure("local_domains = [\"out.example\"]\nlmtp = \"" + socket + "\"\n[account.here]\nway = \"lmtp\"\nmailbox = \"you@out.example\"\nlmtp = \"" + socket + "\"\n")
	config := filepath.Join(o.home, ".config/letterlock/config.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(text, "account = \"out\"\nreports = \"here\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := o.run("", "test", "here"); !strings.Contains(out, "ok") {
		t.Errorf("test here: %s", out)
	}
	out := o.run("", "test", "out")
	for _, want := range []string{"name mx.out.example", "reverse DNS of 8.20.0.1", "s-ed25519._domainkey.out.example"} {
		if !strings.Contains(out, want) {
			t.Errorf("test out: no %q in\n%s", want, out)
		}
	}
	said, subject := o.send("you@out.example", "root", "a@good.test")
	if strings.Count(said, "sent") < 2 || !inbox("you@out.example", subject) {
		t.Errorf("%s", said)
	}
	o.arrived(goodAddress, subject)
	o.send("nobody@good.test")
	for deadline := time.Now().Add(longest); !inbox("you@out.example", "Status: 5.1.1"); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the report is not in the sender's mailbox")
		}
	}

	mail := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mail, "out.example", "you"), 0o700); err != nil {
		t.Fatal(err)
	}
	o.configure("local_domains = [\"out.example\"]\nmaildir = \"" + mail + "/{domain}/{local}/Maildir\"\n")
	said, subject = o.send("you@out.example", "nosuch@out.example", "a@good.test")
	if !strings.Contains(said, "refused  nosuch@out.example") || strings.Count(said, "sent") != 2 {
		t.Errorf("%s", said)
	}
	o.arrived(goodAddress, subject)
	files, err := filepath.Glob(filepath.Join(mail, "out.example/you/Maildir/new/*"))
	if err != nil || len(files) != 1 || !strings.Contains(readAll(t, files)[0], subject) {
		t.Errorf("%v %v", files, err)
	}
}
