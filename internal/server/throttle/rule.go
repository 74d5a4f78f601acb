package throttle

import (
	"net/netip"
	"time"
)

// A Kind is what a rule counts by.
type Kind int

// The kinds of rules.
const (
	Network   Kind = iota // wrong secrets from one network
	Account               // wrong secrets for one account, wherever from
	Pair                  // wrong secrets for one account from a network that it is known from
	Strangers             // wrong secrets for accounts that nobody ever signed in to, all together
	Repeats               // all that failed from one network, repeats too
)

// A Rule is a limit: from Slow wrong secrets in Span on, attempts wait; from Stop on they
// are refused. The last span fades out over the present one.
type Rule struct {
	Name   string
	Kind   Kind
	V4, V6 int // bits of the network; 0: not for this family
	Span   time.Duration
	Slow   int
	Stop   int
}

// DefaultRules leave room for an office or a train behind one address, and for nobody
// who guesses. Those known from a network are measured by the two rules named for it.
func DefaultRules() []Rule {
	return []Rule{
		{"address", Network, 32, 64, 10 * time.Minute, 10, 30},
		{"network", Network, 24, 56, 10 * time.Minute, 40, 120},
		{"site", Network, 0, 48, 10 * time.Minute, 100, 300},
		{"account", Account, 0, 0, 10 * time.Minute, 10, 100},
		{"account, a day", Account, 0, 0, 24 * time.Hour, 100, 1000},
		{"account at a known network", Pair, 0, 0, 10 * time.Minute, 30, 300},
		{"unknown accounts", Strangers, 0, 0, 10 * time.Minute, 500, 5000},
		{"repeats", Repeats, 32, 64, 10 * time.Minute, 1000, 5000},
	}
}

// window is the number of the span that now is in, and how far it has gone.
type window struct {
	number uint32
	gone   float64
}

func (r Rule) window(now time.Time) window {
	span := max(r.Span, time.Second).Nanoseconds()
	at := now.UnixNano()
	return window{uint32(at / span), float64(at%span) / float64(span)}
}

// start is when a span began; instances agree on it.
func (r Rule) start(number uint32) time.Time {
	return time.Unix(0, int64(number)*max(r.Span, time.Second).Nanoseconds()).UTC()
}

// judges reports whether the rule holds for somebody, and so whether it counts their
// mistakes. Those of people who are known count against themselves alone: an office is
// not closed by its own people.
func (r Rule) judges(w who) bool {
	switch r.Kind {
	case Pair:
		return w.known
	case Strangers:
		return !w.familiar
	case Repeats:
		return true
	}
	return !w.known
}

// A key names one counter: the rule, the length of the network, and what is counted.
type key [18]byte

// key is false where the rule does not apply.
func (r Rule) key(index int, w who) (k key, ok bool) {
	k[0] = byte(index)
	switch r.Kind {
	case Network, Repeats:
		bits := r.V4
		if w.remote.Is6() {
			bits = r.V6
		}
		if w.exempt || bits == 0 {
			return k, false
		}
		prefix, err := w.remote.Prefix(bits)
		if err != nil {
			return k, false
		}
		k[1] = byte(bits)
		as16 := prefix.Addr().As16()
		copy(k[2:], as16[:])
	case Account:
		copy(k[2:], w.account[:])
		return k, w.named
	case Pair:
		copy(k[2:10], w.account[:])
		copy(k[10:], w.home[:])
		return k, w.named
	case Strangers:
	}
	return k, true
}

// A place is the network that a person is known from: the address in IPv4, the /64 in
// IPv6, as a keyed digest.
type place [8]byte

func (t *Throttle) place(remote netip.Addr) (p place) {
	if remote.Is6() {
		prefix, _ := remote.Prefix(64)
		remote = prefix.Addr()
	}
	as16 := [16]byte{}
	if remote.IsValid() {
		as16 = remote.As16()
	}
	d := t.digest("place", string(as16[:]))
	copy(p[:], d[:])
	return p
}
