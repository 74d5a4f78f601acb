//go:build lab

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A load is people who go on working while things break: by IMAP, and by whole messages.
type load struct {
	c    *cluster
	stop context.CancelFunc
	all  sync.WaitGroup

	mu     sync.Mutex
	passed map[string]int
}

// startLoad starts it with an app password that the first instance knows by then.
func (c *cluster) startLoad(password string) *load {
	c.t.Helper()
	c.want("load: SMTP", c.submit(ann, password, ann, ann, bob), "250")
	_, got := c.imap(ann, password)
	c.want("load: IMAP", got, "a OK")
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{c: c, stop: cancel, passed: map[string]int{}}
	for name, work := range map[string]func() string{
		"IMAP": func() string {
			conn, got := c.imap(ann, password)
			conn.say("b LOGOUT")
			conn.end()
			return strings.TrimPrefix(got, "a ")
		},
		"SMTP": func() string { return c.submit(ann, password, ann, ann, bob) },
		"SASL": func() string { return c.askFirst(ann, password, "192.0.2.77") },
	} {
		want := map[string]string{"IMAP": "OK", "SMTP": "250", "SASL": "OK"}[name]
		l.all.Go(func() {
			for ctx.Err() == nil {
				got := work()
				if !strings.HasPrefix(got, want) {
					l.stop() // one is enough
					c.t.Errorf("known, by %s: %q, want %s", name, got, want)
					return
				}
				l.mu.Lock()
				l.passed[name]++
				l.mu.Unlock()
				<-time.After(20 * time.Millisecond) // the lab keeps the last lines of a log only
			}
		})
	}
	c.t.Cleanup(func() { cancel(); l.all.Wait() }) // nobody speaks of a test that has ended
	return l
}

// goesOn waits until each kind has been answered some more times.
func (l *load) goesOn() {
	l.c.t.Helper()
	l.mu.Lock()
	before := map[string]int{}
	for _, name := range []string{"IMAP", "SMTP", "SASL"} {
		before[name] = l.passed[name]
	}
	l.mu.Unlock()
	for deadline := time.Now().Add(testPatience); time.Now().Before(deadline); {
		more := true
		l.mu.Lock()
		for name, n := range before {
			more = more && l.passed[name] >= n+3
		}
		l.mu.Unlock()
		if more {
			return
		}
		if l.c.t.Failed() {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	l.c.t.Errorf("the load does not go on: %v", before)
}

// end ends the load.
func (l *load) end() {
	l.stop()
	l.all.Wait()
	l.c.t.Logf("answered: %v", l.passed)
}

// stranger wants "later", in every protocol's words, for an app password that is good and
// was never shown to this instance: nobody can judge it.
func (c *cluster) stranger(when, password string) {
	c.t.Helper()
	c.want(when+": SMTP, not known", c.submit(bob, password, bob, bob, ann), "454")
	_, got := c.imap(bob, password)
	c.want(when+": IMAP, not known", got, "a NO [UNAVAILABLE]")
	c.want(when+": one that nobody ever had", c.submit(bob, "000000"+password[6:], bob, bob, ann), "454")
}

// since waits for a line of the first instance's log behind a mark.
func (c *cluster) since(mark int, text string) {
	c.t.Helper()
	c.until("the log", text, func() string {
		lines := c.process.Log()
		for _, line := range lines[min(mark, len(lines)):] {
			if strings.Contains(line, text) {
				return text
			}
		}
		<-time.After(10 * time.Millisecond)
		return ""
	})
}

// testKilledByUnit: the daemon dies while its unit holds the sockets. Postfix waits, and
// nobody hears of it.
func (c *cluster) testKilledByUnit() {
	laptop := c.make(ann, "unit")
	c.want("before", c.submit(ann, laptop, ann, ann, bob), "250")
	seen := len(c.postfix.Log())
	c.kill()
	answers := make(chan string, 5)
	for range cap(answers) {
		go func() { answers <- c.submit(ann, laptop, ann, ann, bob) }()
	}
	// They have come as far as Postfix before there is anybody to ask.
	c.until("Postfix", "5 connections", func() string {
		lines := c.postfix.Log()
		n := strings.Count(strings.Join(lines[min(seen, len(lines)):], "\n"), "]: connect from")
		<-time.After(10 * time.Millisecond)
		return fmt.Sprintf("%d connections", min(n, cap(answers))) // the log may tell of one before late
	})
	select {
	case got := <-answers:
		c.t.Errorf("answered while the daemon was dead: %q", got)
	default:
	}
	c.serveByUnit()
	for range cap(answers) {
		c.want("while it was restarted", <-answers, "250")
	}
}

// testProviderAway: the identity provider is away. The page says so, and mail goes on.
func (c *cluster) testProviderAway() {
	laptop := c.make(ann, "provider")
	if page := c.page("/signin/campus"); !strings.Contains(page, "campus could not tell us just now") || !strings.Contains(page, "Mail programs that are set up already go on working") {
		c.t.Errorf("the page says\n%s", page)
	}
	c.want("SMTP", c.submit(ann, laptop, ann, ann, bob), "250")
	_, got := c.imap(ann, laptop)
	c.want("IMAP", got, "a OK")
}

// testCutOff: the first instance loses the database, and the second does not. Meanwhile
// somebody revokes; once the first is back it never says yes to that again.
func (c *cluster) testCutOff() {
	laptop, phone, unused := c.make(ann, "cut"), c.make(ann, "cut-phone"), c.make(bob, "cut-unused")
	for range 2 { // also after the last change, for what is older than that is not used
		c.want("known", c.askFirst(ann, phone, "192.0.2.77"), "OK")
	}
	load := c.startLoad(laptop)
	load.goesOn()
	c.wire.Close()
	c.wire.Cut()
	mark := len(c.process.Log())
	c.since(0, "database away")
	c.stranger("cut off", unused)
	c.second.run("credential", "revoke", ann, "cut-phone")
	c.until("the second", "FAIL", func() string { return c.askSecond(ann, phone, "192.0.2.77") })
	load.goesOn()
	if err := c.wire.Open(); err != nil {
		c.t.Fatal(err)
	}
	c.since(mark, "database back")
	for range 20 {
		if got := c.askFirst(ann, phone, "192.0.2.77"); got != "FAIL" {
			c.t.Fatalf("revoked meanwhile, and back: %q", got)
		}
	}
	c.want("SMTP", c.submit(bob, unused, bob, bob, ann), "250")
	load.goesOn()
	load.end()
}

// revoked revokes one of ann's and waits until the first instance is through with it: what
// it was told before then is not used any more, and what is in use is asked for again. Each
// second the door asks whether anything was taken away, and so does who looks for events;
// whichever comes last has everybody unknown once more, and neither says when.
func (c *cluster) revoked(name, password string) {
	c.t.Helper()
	mark := len(c.process.Log())
	c.run("credential", "revoke", ann, name)
	p := takePace(c.t)
	c.until("revoked", "FAIL", func() string { return c.askFirst(ann, password, "192.0.2.77") })
	c.since(mark, "rights were taken away")
	p.pass(2 * time.Second)
}

// testStopped: PostgreSQL is stopped for a while, and hangs for a while.
func (c *cluster) testStopped() {
	laptop, gone, unused := c.make(ann, "stopped"), c.make(ann, "stopped-gone"), c.make(bob, "stopped-unused")
	c.want("known", c.askFirst(ann, gone, "192.0.2.77"), "OK")
	c.revoked("stopped-gone", gone)
	load := c.startLoad(laptop)
	load.goesOn()
	for _, outage := range []struct {
		what  string
		long  bool
		begin func()
		end   func(context.Context) error
	}{
		{"stopped", false, c.primary.Halt, c.primary.Resume},
		{"hanging", true, c.primary.Hang, func(context.Context) error { c.primary.Continue(); return nil }},
		{"killed", true, c.primary.Kill, c.primary.Resume},
	} {
		if outage.long && !everyOutage {
			continue
		}
		mark := len(c.process.Log())
		outage.begin()
		c.since(mark, "database away")
		load.goesOn()
		c.stranger(outage.what, unused)
		if got := c.askFirst(ann, gone, "192.0.2.77"); got == "OK" {
			c.t.Errorf("%s: what was revoked before is good again", outage.what)
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
		if err := outage.end(ctx); err != nil {
			c.t.Fatal(err)
		}
		cancel()
		c.since(mark, "database back")
		load.goesOn()
		c.want(outage.what+": what was revoked before", c.askFirst(ann, gone, "192.0.2.77"), "FAIL")
	}
	load.end()
	c.want("SMTP, not known so far", c.submit(bob, unused, bob, bob, ann), "250")
}

// testFailover: the primary dies and the standby takes over, which never heard of the last
// revocation. Whoever saw it goes on saying no.
func (c *cluster) testFailover() {
	ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
	defer cancel()
	laptop, phone := c.make(ann, "failover"), c.make(ann, "failover-phone")
	c.want("known", c.askFirst(ann, phone, "192.0.2.77"), "OK")
	c.until("the standby", "2", func() string {
		n, err := c.standby.SQL(ctx, "mail", "SELECT count(*) FROM credential WHERE name LIKE 'failover%'")
		return fmt.Sprint(n, errors.Join(err))
	})
	for _, text := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		if _, err := c.standby.SQL(ctx, "mail", text); err != nil {
			c.t.Fatal(err)
		}
	}
	c.until("the standby", "0", func() string {
		n, err := c.primary.SQL(ctx, "mail", "SELECT count(*) FROM pg_stat_replication")
		return fmt.Sprint(n, errors.Join(err))
	})
	c.revoked("failover-phone", phone)
	load := c.startLoad(laptop)
	load.goesOn()
	mark := len(c.process.Log())
	c.primary.Kill()
	c.since(mark, "database away")
	load.goesOn()
	if err := c.standby.Promote(ctx); err != nil {
		c.t.Fatal(err)
	}
	c.since(mark, "database back")
	load.goesOn()
	if n, err := c.standby.SQL(ctx, "mail", "SELECT revoked FROM credential WHERE name = 'failover-phone'"); err != nil || n != "0" {
		c.t.Fatalf("the new primary knows of the revocation (%s, %v): this proves nothing", n, err)
	}
	for range 20 {
		if got := c.askFirst(ann, phone, "192.0.2.77"); got != "FAIL" {
			c.t.Fatalf("revoked, and good again after a failover: %q", got)
		}
	}
	load.end()
	// It writes again, and a revocation is felt.
	idle := c.idle(ann, laptop)
	c.run("credential", "revoke", ann, "failover")
	c.ends("IDLE after the failover", idle)
	c.until("revoked after the failover", "535", func() string { return c.submit(ann, laptop, ann, ann, bob) })
}

// TestDiskFull: the disk under SQLite is full. Who is known signs in; a revocation that
// cannot be kept is not acknowledged; and all of it works once there is space again.
func TestDiskFull(t *testing.T) {
	s := &site{t: t, folder: t.TempDir()}
	if err := syscall.Mount("tmpfs", s.folder, "tmpfs", 0, "size=3m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(s.folder, syscall.MNT_DETACH) })
	s.binary = buildDaemon(t)
	s.conf = filepath.Join(s.folder, "letterlockd.toml")
	port := freePorts(t, 1)[0]
	s.write("letterlockd.toml", fmt.Sprintf("domains = [\"try.test\"]\n[database]\nurl = \"sqlite:%s/letterlockd.db\"\n[postfix]\nsasl = \"127.0.0.1:%d\"\n", s.folder, port), 0o644)
	s.run("person", "add", ann)
	laptop, phone := s.make(ann, "laptop"), s.make(ann, "phone")
	s.serve()
	asks := func(password string) string {
		return ask("tcp", fmt.Sprintf("127.0.0.1:%d", port), ann, password, "192.0.2.77")
	}
	s.want("before", asks(laptop), "OK")
	s.fill()
	for range 5 {
		s.want("full", asks(laptop), "OK")
	}
	if out, err := s.try("credential", "revoke", ann, "phone"); err == nil {
		t.Errorf("a revocation was acknowledged that is not on disk: %s", out)
	}
	s.want("full, read for the first time", asks(phone), "OK")
	if err := os.Remove(filepath.Join(s.folder, "ballast")); err != nil {
		t.Fatal(err)
	}
	s.run("credential", "revoke", ann, "phone")
	s.until("revoked", "FAIL", func() string { return asks(phone) })
	s.want("after", asks(laptop), "OK")
}

// fill leaves no byte on the disk of the site.
func (s *site) fill() {
	s.t.Helper()
	file, err := os.Create(filepath.Join(s.folder, "ballast"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	for _, size := range []int{4096, 512, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatal(err)
	}
}
