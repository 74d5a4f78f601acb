//go:build lab && linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// forward hands connections at one address on to another, until the test ends: the mail
// servers of the lab take what ports are free, and PACC knows one port each.
func forward(t *testing.T, from string, port int) {
	t.Helper()
	listener, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				client.Close()
				continue
			}
			pump := func(to, from net.Conn) { _, _ = io.Copy(to, from); to.Close(); from.Close() }
			all.Go(func() { pump(server, client) })
			all.Go(func() { pump(client, server) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
}

// published is a real name server with the lines that config dns printed and that keep
// lets through, and the name server that this island asks from now on.
func (c *foundSite) published(t *testing.T, keep func(line string) bool) {
	t.Helper()
	// What was there before letterlockd.
	zone := "mail.try.test. 60 IN A 127.0.0.1\n"
	for line := range strings.Lines(c.run("config", "dns")) {
		if keep(line) {
			zone += line
		}
	}
	server := lab.RunNSD(t, lab.NSDOptions{Addr: "127.0.0.54:53", Zones: map[string]string{"try.test": zone}})
	before, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(server.Addr)
	// The island has a resolv.conf of its own mounted there: it is written in place.
	t.Cleanup(func() {
		if err := os.WriteFile("/etc/resolv.conf", before, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile("/etc/resolv.conf", []byte("nameserver "+host+"\noptions timeout:5 attempts:2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// testPublished: what config dns prints, and nothing else, leads a program from the
// address to everything; and so does each kind of record alone.
func (c *foundSite) testPublished(t *testing.T) {
	forward(t, "127.0.0.1:993", c.dovecot.IMAPS)
	forward(t, "127.0.0.1:465", c.postfix.Subs)
	// The pages tell of the usual ports now.
	c.kill()
	conf, err := os.ReadFile(c.conf)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(conf), "[portal]\n")
	c.write("letterlockd.toml", head+"[portal]\nname = \"Try\"\nimap = \"mail.try.test:993\"\nsubmission = \"mail.try.test:465\"\n", 0o644)
	c.serve()
	c.made, c.ended = 0, 0

	t.Run("all of it", func(t *testing.T) {
		c.published(t, func(string) bool { return true })
		h := c.person(t)
		h.life(h.byBrowser(), "its people sign in at "+c.home, "https://ua-auto-config.try.test/.well-known/user-agent-configuration.json")
	})
	for _, one := range []struct {
		source, proof, kept string
		issuer              string // where the issuer comes from
	}{
		{"pacc", "certificate", "ua-auto-config.", "pacc"},
		{"autoconfig", "certificate", "autoconfig.", "autoconfig"},
		{"srv", "dns", "._tcp.", "sasl-challenge"},
	} {
		t.Run("only "+one.source, func(t *testing.T) {
			c.published(t, func(line string) bool {
				return strings.HasPrefix(strings.TrimPrefix(line, "_"), one.kept) || strings.Contains(line, one.kept) && one.source == "srv"
			})
			c.found(t, one.source, one.proof, one.issuer)
		})
	}
}

// found is what discover says about everything that the domain has.
func (c *foundSite) found(t *testing.T, source, proof, issuer string) {
	t.Helper()
	var found struct {
		Issuer struct {
			URL, Source string
		}
		Servers map[string]struct {
			Host, Source, Proof, Doubt string
			Port                       int
		}
		Tried []struct{ Source, Place, Error string }
	}
	said := c.person(t).run("discover", "ann@try.test", "--json")
	if err := json.Unmarshal([]byte(said), &found); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	imap, smtp := found.Servers["imap"], found.Servers["smtp"]
	if len(found.Servers) != 2 || imap.Host != "mail.try.test" || imap.Port != 993 || smtp.Host != "mail.try.test" || smtp.Port != 465 ||
		imap.Source != source || smtp.Source != source || imap.Proof != proof || smtp.Proof != proof || imap.Doubt+smtp.Doubt != "" ||
		found.Issuer.URL != c.home || found.Issuer.Source != issuer {
		t.Errorf("found by %s:\n%s", source, said)
	}
}
