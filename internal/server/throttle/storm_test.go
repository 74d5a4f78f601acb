package throttle

import (
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type storm struct {
	name          string
	guesses       int
	network       netip.Prefix
	step          *big.Int
	account       string
	through, free int
}

func storms(t *testing.T) (all []storm) {
	t.Helper()
	text, err := os.ReadFile("testdata/storms.txt")
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		network, step, _ := strings.Cut(f[2], "+")
		size := new(big.Int)
		if power, ok := strings.CutPrefix(step, "2^"); ok {
			size.Lsh(big.NewInt(1), uint(number(power)))
		} else {
			size.SetInt64(int64(number(step)))
		}
		all = append(all, storm{f[0], number(f[1]), netip.MustParsePrefix(network), size, f[3], number(f[4]), number(f[5])})
	}
	return all
}

// from is the address of a guess: inside the network, round and round.
func (s storm) from(n int) netip.Addr {
	raw := s.network.Addr().AsSlice()
	room := new(big.Int).Lsh(big.NewInt(1), uint(len(raw)*8-s.network.Bits()))
	offset := new(big.Int).Mul(s.step, big.NewInt(int64(n)))
	at := new(big.Int).Add(new(big.Int).SetBytes(raw), offset.Mod(offset, room))
	addr, _ := netip.AddrFromSlice(at.FillBytes(raw))
	return addr
}

// TestStorms: in every storm of the table few guesses are let through, and the owner
// signs in from where they have before, undisturbed from first to last.
func TestStorms(t *testing.T) {
	const home4, home6 = "192.0.2.77", "2001:db8:ff:7:1:2:3:4"
	for _, s := range storms(t) {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(90 * time.Second) // not at the edge of a span
				throttle := New(Options{})
				try(t, throttle, home4, "ann@example.org", -1)
				try(t, throttle, home6, "ann@example.org", -1)
				through, unhindered := 0, 0
				for n := range s.guesses {
					from, account := s.from(n), s.account
					if strings.Contains(account, "%d") {
						account = fmt.Sprintf(account, n)
					}
					if from.String() == home4 {
						continue // that one is asked below
					}
					switch d := try(t, throttle, from.String(), account, n); {
					case free(d):
						unhindered++
						fallthrough
					case !d.Refuse:
						through++
					}
					if n%97 == 0 {
						for _, home := range []string{home4, "2001:db8:ff:7:ffff::1"} {
							if d := try(t, throttle, home, "ann@example.org", -1); !free(d) {
								t.Fatalf("guess %d: the owner at %s gets %+v", n, home, d)
							}
						}
					}
				}
				if through > s.through || unhindered > s.free {
					t.Errorf("%d let through, at most %d; %d at once, at most %d", through, s.through, unhindered, s.free)
				}
				if through < 10 {
					t.Errorf("only %d let through: that is no limit but a wall", through)
				}
			})
		})
	}
}

// TestOffice: an office behind one address, with forgotten telephones and one machine
// that guesses. Those who work there go on; somebody new has to wait for the end of it.
func TestOffice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const office = "198.51.100.1"
		throttle := New(Options{})
		for n := range 50 {
			try(t, throttle, office, fmt.Sprintf("worker%d@example.org", n), -1)
		}
		// Fifty telephones with yesterday's password, every five minutes, all day.
		for range 12 * 24 {
			for n := range 50 {
				if d := try(t, throttle, office, fmt.Sprintf("worker%d@example.org", n), n); d.Refuse {
					t.Fatalf("a telephone is refused: %+v", d)
				}
			}
			pass(5 * time.Minute)
		}
		if d := try(t, throttle, office, "new@example.org", -1); !free(d) {
			t.Errorf("somebody new among forgotten telephones: %+v", d)
		}
		for n := range 1000 {
			try(t, throttle, office, fmt.Sprintf("guess%d@example.org", n), n)
		}
		for n := range 50 {
			if d := try(t, throttle, office, fmt.Sprintf("worker%d@example.org", n), -1); !free(d) {
				t.Fatalf("worker %d beside a guessing machine: %+v", n, d)
			}
		}
		if d := try(t, throttle, office, "newer@example.org", -1); !d.Refuse {
			t.Errorf("somebody new beside a guessing machine: %+v", d)
		}
		pass(20 * time.Minute)
		if d := try(t, throttle, office, "newer@example.org", -1); !free(d) {
			t.Errorf("somebody new when it is over: %+v", d)
		}
	})
}
