//go:build lab

package main

import (
	"fmt"
	"math/big"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A storm is guesses from a network, as the throttle's own table has them, with what is
// let through at most within one span of time.
type storm struct {
	name    string
	network string // IPv4 or IPv6
	step    uint   // the power of two between two guessers
	account string // %d is the number of the guess
	guesses int32
	through int32
}

// The rows of internal/server/throttle/testdata/storms.txt that a daemon can be sent
// within seconds.
func storms() []storm {
	all := []storm{
		{"one host at one account", "203.0.113.5/32", 0, "ann@try.test", 150, 30},
		{"one host, every account once", "203.0.114.5/32", 0, "user%d@try.test", 150, 30},
		{"one /64, a new address for each", "2001:db8:1:1::/64", 0, "ann@try.test", 150, 30},
	}
	if everyOutage {
		all = append(all, storm{"a /24 through all its hosts", "203.0.115.0/24", 0, "ann@try.test", 400, 120},
			storm{"one /56, a new /64 for each", "2001:db8:2::/56", 64, "user%d@try.test", 400, 120})
	}
	return all
}

func (s storm) guesser(n int64) string {
	network := netip.MustParsePrefix(s.network)
	raw := network.Addr().AsSlice()
	room := new(big.Int).Lsh(big.NewInt(1), uint(len(raw)*8-network.Bits()))
	offset := new(big.Int).Lsh(big.NewInt(n), s.step)
	address, _ := netip.AddrFromSlice(new(big.Int).Add(new(big.Int).SetBytes(raw), offset.Mod(offset, room)).FillBytes(raw))
	return address.String()
}

// TestStormsAtTheDaemon: guessers in IPv4 and IPv6, all at once, at the daemon as people
// run it. Few of them are heard, and the owner signs in from first to last as if nothing
// were: at once or not, but with yes.
func TestStormsAtTheDaemon(t *testing.T) {
	s := &site{t: t, folder: t.TempDir(), binary: buildDaemon(t)}
	s.conf = filepath.Join(s.folder, "letterlockd.toml")
	port := freePorts(t, 1)[0]
	s.write("letterlockd.toml", fmt.Sprintf("domains = [\"try.test\"]\n[database]\nurl = \"sqlite:%s/letterlockd.db\"\n[postfix]\nsasl = \"127.0.0.1:%d\"\n", s.folder, port), 0o644)
	s.run("person", "add", ann)
	password := s.make(ann, "laptop")
	s.serve()
	asks := func(user, password, from string) string {
		return ask("tcp", fmt.Sprintf("127.0.0.1:%d", port), user, password, from)
	}
	homes := []string{"192.0.2.77", "2001:db8:ff:7:1:2:3:4"}
	for _, home := range homes {
		s.want("the owner before", asks(ann, password, home), "OK")
	}
	const atOnce = 24
	span := throttleSpan()
	var all sync.WaitGroup
	var blowing atomic.Int32
	for number, storm := range storms() {
		var heard, next atomic.Int32
		var one sync.WaitGroup
		blowing.Add(1)
		for range atOnce {
			one.Go(func() {
				for n := next.Add(1); n <= storm.guesses; n = next.Add(1) {
					account := storm.account
					if account != ann {
						account = fmt.Sprintf(account, n)
					}
					// No two guesses are the same: one that was wrong before counts no more.
					if asks(account, fmt.Sprintf("guess-%d-%d", number, n), storm.guesser(int64(n))) == "FAIL" {
						heard.Add(1)
					}
				}
			})
		}
		all.Go(func() {
			one.Wait()
			blowing.Add(-1)
			// A span may end meanwhile, and what is on its way is heard out.
			if most := 2*storm.through + atOnce; heard.Load() > most || heard.Load() == 0 {
				t.Errorf("%s: %d of %d guesses were heard, want some and at most %d", storm.name, heard.Load(), storm.guesses, most)
			}
			t.Logf("%s: %d of %d heard", storm.name, heard.Load(), storm.guesses)
		})
	}
	signed := 0
	for first := true; first || blowing.Load() > 0; first = false {
		for _, home := range homes {
			if got := asks(ann, password, home); got != "OK" {
				t.Fatalf("the owner at %s, after %d sign-ins: %s", home, signed, got)
			}
			signed++
		}
		<-time.After(10 * time.Millisecond)
	}
	all.Wait()
	t.Logf("the owner signed in %d times", signed)
	// What was guessed fades from the end of a span on: then it takes some more.
	for round := 0; ; round++ {
		got := asks(ann, password, "203.0.113.5")
		if got == "later" || span == throttleSpan() {
			s.want("a guesser with the right one", got, "later")
			return
		}
		span = throttleSpan()
		for n := range 60 {
			all.Go(func() { asks(ann, fmt.Sprintf("late-%d-%d", round, n), "203.0.113.5") })
		}
		all.Wait()
	}
}
