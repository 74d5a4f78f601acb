package throttle

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A List is networks that somebody else collected.
type List struct {
	Name    string
	Allow   bool // never throttled instead of always refused
	Entries int  // as written; ranges that touch are one inside
	Faults  []Fault
	ranges  []span
}

// A Fault is a line of a list that was left out.
type Fault struct {
	Line int
	What string
}

type span struct{ from, to [16]byte }

// The limits of a list.
const (
	maxList    = 32 << 20
	maxEntries = 1_000_000
	maxLine    = 4096
	maxFaults  = 20
	// A list with a wider network than these is broken or hostile.
	widest4, widest6 = 8, 19
)

// ErrList means that a text is no list: too many lines are not understood.
var ErrList = errors.New("not a list of networks")

// ParseList reads a list: an address, a network or a range a line, anything behind a
// blank, a comma or a comment sign is left out. A line that is not understood is a fault
// and left out; when more than one in ten is, the whole is no list, and what an error
// page or a changed format would refuse is not found out the hard way.
func ParseList(name string, r io.Reader) (*List, error) {
	list := &List{Name: name}
	limited := &io.LimitedReader{R: r, N: maxList + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	faults := 0
	for n := 1; lines.Scan(); n++ {
		text := entryOf(lines.Text())
		if text == "" {
			continue
		}
		s, err := parseSpan(text)
		if err != nil {
			if faults++; len(list.Faults) < maxFaults {
				list.Faults = append(list.Faults, Fault{n, err.Error()})
			}
			continue
		}
		if list.Entries++; list.Entries > maxEntries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrList, maxEntries)
		}
		list.ranges = append(list.ranges, s)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrList, maxLine)
	case err != nil:
		return nil, fmt.Errorf("read list: %w", err)
	case limited.N == 0:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrList, maxList)
	case faults*10 > list.Entries:
		return nil, fmt.Errorf("%w: %d lines are not understood, first line %d: %s", ErrList, faults, list.Faults[0].Line, list.Faults[0].What)
	}
	list.ranges = merge(list.ranges)
	return list, nil
}

// entryOf is the part of a line that says which network.
func entryOf(line string) string {
	line = strings.TrimPrefix(line, "\ufeff")
	line = strings.TrimSpace(line)
	if i := strings.IndexAny(line, " \t,;#"); i >= 0 {
		line = line[:i]
	}
	return line
}

var (
	errEntry = errors.New("neither an address nor a network")
	errWide  = errors.New("a network wider than any list should hold")
)

func parseSpan(text string) (span, error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		return parseRange(from, to)
	}
	if !strings.Contains(text, "/") {
		return parseRange(text, text)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return span{}, errEntry
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return span{}, errWide
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if prefix.Addr().Is4() && prefix.Bits() < widest4 || prefix.Addr().Is6() && prefix.Bits() < widest6 {
		return span{}, errWide
	}
	return spanOf(prefix.Masked()), nil
}

func parseRange(first, last string) (span, error) {
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || from.Zone() != "" || to.Zone() != "" {
		return span{}, errEntry
	}
	from, to = from.Unmap(), to.Unmap()
	if from.BitLen() != to.BitLen() || to.Less(from) {
		return span{}, errEntry
	}
	s := span{from.As16(), to.As16()}
	// IPv4 is the last 32 bits; of IPv6 the first 64 are what counts here.
	at, most := 8, uint64(1)<<(32-widest4)
	if from.Is6() {
		at, most = 0, 1<<(64-widest6)
	}
	if binary.BigEndian.Uint64(s.to[at:])-binary.BigEndian.Uint64(s.from[at:]) > most {
		return span{}, errWide
	}
	return s, nil
}

func spanOf(prefix netip.Prefix) span {
	s := span{prefix.Addr().As16(), prefix.Addr().As16()}
	bits := prefix.Bits()
	if prefix.Addr().Is4() {
		bits += 96
	}
	for i := bits; i < 128; i++ {
		s.to[i/8] |= 0x80 >> (i % 8)
	}
	return s
}

// merge sorts, and joins what overlaps.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.from[:], b.from[:]) })
	out := spans[:0]
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && bytes.Compare(s.from[:], out[last].to[:]) <= 0 {
			if bytes.Compare(s.to[:], out[last].to[:]) > 0 {
				out[last].to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return slices.Clip(out)
}

// Contains reports whether an address is on the list.
func (l *List) Contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	at := a.WithZone("").As16()
	i, found := slices.BinarySearchFunc(l.ranges, at, func(s span, at [16]byte) int { return bytes.Compare(s.from[:], at[:]) })
	if found {
		return true
	}
	return i > 0 && bytes.Compare(at[:], l.ranges[i-1].to[:]) <= 0
}

// bans are an administrator's own entries, by the lengths that occur.
type bans struct {
	lengths []int
	entries map[netip.Prefix]identity.Ban
}

func newBans(all []identity.Ban) *bans {
	b := &bans{entries: map[netip.Prefix]identity.Ban{}}
	for _, ban := range all {
		network := ban.Network
		if !network.IsValid() {
			continue
		}
		if network.Addr().Is4In6() && network.Bits() >= 96 {
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
		}
		network = network.Masked()
		if old, ok := b.entries[network]; ok && old.Allow {
			continue // who is both is allowed: that entry was made to repair something
		}
		b.entries[network] = ban
		if !slices.Contains(b.lengths, network.Bits()) {
			b.lengths = append(b.lengths, network.Bits())
		}
	}
	slices.Sort(b.lengths)
	slices.Reverse(b.lengths) // the narrowest first: an exception beats its surroundings
	return b
}

func (b *bans) find(a netip.Addr, now time.Time) (identity.Ban, bool) {
	for _, bits := range b.lengths {
		network, err := a.Prefix(bits)
		if err != nil {
			continue // longer than this family
		}
		if ban, ok := b.entries[network]; ok && (ban.Until.IsZero() || now.Before(ban.Until)) {
			return ban, true
		}
	}
	return identity.Ban{}, false
}

// listed asks the administrator's own entries, then the lists, those that allow first.
func (t *Throttle) listed(a netip.Addr, now time.Time) (refuse, allow bool, reason string) {
	if !a.IsValid() {
		return false, false, ""
	}
	if ban, ok := t.bans.Load().find(a, now); ok {
		return !ban.Allow, ban.Allow, "own list"
	}
	lists := *t.lists.Load()
	for _, allows := range []bool{true, false} {
		for _, l := range lists {
			if l.Allow == allows && l.Contains(a) {
				return !allows, allows, "list " + l.Name
			}
		}
	}
	return false, false, ""
}

// Refuses reports whether the lists and bans refuse an address. It counts nothing and makes
// nothing: for who asks at each request of a browser that is signed in.
func (t *Throttle) Refuses(remote netip.Addr) bool {
	refuse, _, _ := t.listed(normal(remote), t.o.Now())
	return refuse
}

// A Rehearsal is what a list would have done to those who signed in.
type Rehearsal struct {
	Good    int // good sign-ins looked at
	Refused int // of them from networks on the list
	People  map[identity.PersonID]int
	First   identity.Event // one of them, for the eyes
}

// GoodSignIn is the kind of audit event that a rehearsal looks at.
const GoodSignIn = "signin.ok"

// Rehearse shows how many good sign-ins of the audit trail a list would have refused.
// A list that refuses people who got in is not one to switch on.
func Rehearse(l *List, trail iter.Seq[identity.Event]) Rehearsal {
	r := Rehearsal{People: map[identity.PersonID]int{}}
	for e := range trail {
		if e.Kind != GoodSignIn {
			continue
		}
		r.Good++
		if !l.Contains(normal(e.From)) {
			continue
		}
		if r.Refused == 0 {
			r.First = e
		}
		r.Refused++
		r.People[e.Person]++
	}
	return r
}
