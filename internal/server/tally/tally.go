// Package tally writes the refusals of mail servers into the audit trail, for the page
// where people see what was tried in their name. A guesser makes thousands of them and a
// forgotten telephone one a minute, so they are not lines of their own: what comes to one
// person from one network, by one protocol and for one reason, within one hour of the
// clock, is one line at once and at most one more at the end of the hour, which says how
// often.
//
//	mailauth -> Tally.Refused   counts; never waits, never asks the database
//	              Run           writes; of names nobody has, nothing
//
// All of it is bounded: what is kept, the lines a person gets in an hour, and the lines
// an hour of everybody together. It throttles nothing: package throttle does.
package tally

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Store is where the lines go. Lines whose ids are there already are not added again.
type Store interface {
	AddNewEvents(ctx context.Context, events []identity.Event) (added []bool, err error)
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
}

// Kind is the kind of the events.
const Kind = "signin.refused"

// Options are filled before New; zero values get the default in brackets.
type Options struct {
	Store Store
	Now   func() time.Time
	Log   *slog.Logger

	Every    time.Duration // how often lines are written (2 s)
	PerHead  int           // first lines of one person within an hour (24)
	PerHour  int           // lines of everybody within an hour (2,000)
	Entries  int           // kinds of refusals counted at once (8,192)
	LookUps  int           // names asked for each time (100)
	Instance string        // what tells the lines of several instances apart (random)
}

func (o *Options) fill() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	if o.Instance == "" {
		o.Instance = rand.Text()
	}
	for _, one := range []struct {
		value    *int
		standard int
	}{{&o.PerHead, 24}, {&o.PerHour, 2000}, {&o.Entries, 8192}, {&o.LookUps, 100}} {
		if *one.value <= 0 {
			*one.value = one.standard
		}
	}
}

// A Refusal is one sign-in that was refused.
type Refusal struct {
	Person   identity.PersonID // whose secret it was; empty: nobody's
	User     string            // the name that was given
	From     netip.Addr
	Protocol identity.Protocol
	Reason   string // words of ours
}

// A Tally counts. Its methods may be called from everywhere at once.
type Tally struct {
	o Options

	mu     sync.Mutex
	counts map[key]*count
	names  int              // keys among them that have a name and no person
	spare  []key            // names among them that are nobody's, those longest known first
	heads  map[head]int     // first lines of one person in one hour
	lines  map[int64]int    // of everybody, by the hour
	lost   map[int64]uint64 // refusals that no line tells of, likewise
}

// A key is what refusals have in common that are told together.
type key struct {
	person   identity.PersonID
	user     string       // canonical, where the person is not known yet
	network  netip.Prefix // zero: many
	protocol identity.Protocol
	reason   string
	hour     int64
}

type head struct {
	person identity.PersonID
	user   string
	hour   int64
}

type count struct {
	first, last time.Time
	from        netip.Addr // of the first; zero once there are several
	address     netip.Addr // of the first
	person      identity.PersonID
	number      int
	told        bool // the first line is written
	elsewhere   bool // by another instance
	nobody      bool // no such person
}

// New makes a Tally; Run writes what it counts.
func New(o Options) *Tally {
	o.fill()
	return &Tally{o: o, counts: map[key]*count{}, heads: map[head]int{}, lines: map[int64]int{}, lost: map[int64]uint64{}}
}

// Refused counts a refusal.
func (t *Tally) Refused(r Refusal) {
	now := t.o.Now()
	k := key{person: r.Person, network: networkOf(r.From), protocol: r.Protocol, reason: r.Reason, hour: now.Unix() / 3600}
	if k.person == "" {
		user, err := identity.CanonicalAddress(strings.TrimSpace(r.User))
		if err != nil {
			return // no name that anybody here could have
		}
		k.user = user
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[k]
	if c == nil {
		if k, c = t.open(k, r, now); c == nil {
			t.lost[k.hour]++
			return
		}
	}
	c.number++
	c.last = now
	if c.from != r.From {
		c.from = netip.Addr{}
	}
}

// open makes room for a new kind of refusal; nil when there is none. A person who is tried
// from everywhere gets one count for all further networks and reasons.
func (t *Tally) open(k key, r Refusal, now time.Time) (key, *count) {
	h := head{k.person, k.user, k.hour}
	if t.heads[h] >= t.o.PerHead {
		k.network, k.reason = netip.Prefix{}, ""
		if c := t.counts[k]; c != nil {
			return k, c
		}
	}
	if len(t.counts) >= t.o.Entries || k.person == "" && t.names >= t.o.Entries/2 {
		if !t.evict() {
			return k, nil
		}
	}
	c := &count{first: now, from: r.From, address: r.From, person: k.person}
	t.counts[k] = c
	t.heads[h]++
	if k.person == "" {
		t.names++
	}
	return k, c
}

// evict forgets a name that is nobody's: a spray of such must hide no person's. It looks
// through nothing, since in a spray it is called at each guess.
func (t *Tally) evict() bool {
	for len(t.spare) > 0 {
		k := t.spare[0]
		t.spare = t.spare[1:]
		if c := t.counts[k]; c != nil && c.nobody {
			t.forget(k)
			return true
		}
	}
	return false
}

func (t *Tally) forget(k key) {
	if c := t.counts[k]; c != nil && !c.told {
		delete(t.heads, head{k.person, k.user, k.hour})
	}
	delete(t.counts, k)
	if k.person == "" {
		t.names--
	}
}

// networkOf is what an attacker moves in freely: a /24, a /56.
func networkOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	if !from.IsValid() {
		return netip.Prefix{}
	}
	bits := 24
	if from.Is6() {
		bits = 56
	}
	network, _ := from.Prefix(bits)
	return network
}

// Run writes lines until ctx ends, and then what is left.
func (t *Tally) Run(ctx context.Context) error {
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := t.write(last, true); err != nil {
				t.o.Log.Warn("refusals are not noted", "error", err)
			}
			return nil
		}
		err := t.write(ctx, false)
		if err != nil && !away && ctx.Err() == nil {
			t.o.Log.Warn("refusals are not noted yet", "error", err)
		}
		away = err != nil
	}
}

// A line is one that waits to be written.
type line struct {
	k       key
	c       count
	summary bool
}

// atOnce is how many lines are one transaction. One for each line made a storm of guesses a
// storm of commits, and sign-ins waited for the disk where there is one core.
const atOnce = 100

// write writes what waits, and forgets the hours that are over.
func (t *Tally) write(ctx context.Context, end bool) error {
	hour := t.o.Now().Unix() / 3600
	var some []line
	for _, l := range t.due(hour, end) {
		if l.c.person == "" {
			person, err := t.whose(ctx, l.k.user)
			if err != nil {
				return errors.Join(err, t.tell(ctx, some))
			}
			t.found(l.k, person)
			if l.c.person = person; person == "" {
				continue
			}
		}
		if t.admit(l) {
			some = append(some, l)
		}
		if len(some) == atOnce {
			if err := t.tell(ctx, some); err != nil {
				return err
			}
			some = nil
		}
	}
	if err := t.tell(ctx, some); err != nil {
		return err
	}
	t.close(hour)
	return nil
}

// due are the lines to write now: of what is new, and of what is over. Of names that are
// to be looked up first it takes some, and the others the next time.
func (t *Tally) due(hour int64, end bool) (lines []line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := 0
	for k, c := range t.counts {
		over := end || k.hour < hour
		if c.person == "" && !c.nobody {
			if asked++; asked > t.o.LookUps {
				continue
			}
		}
		switch {
		case c.nobody && over:
			t.forget(k)
		case c.nobody:
		case !c.told:
			lines = append(lines, line{k, *c, false})
		case over && c.more() > 0:
			lines = append(lines, line{k, *c, true})
		case over:
			t.forget(k)
		}
	}
	return lines
}

// more is how many there were beside the one that the first line tells of.
func (c *count) more() int {
	if c.elsewhere {
		return c.number
	}
	return c.number - 1
}

// whose finds the person behind a name, with or without a label.
func (t *Tally) whose(ctx context.Context, user string) (identity.PersonID, error) {
	local, domain, _ := strings.Cut(user, "@")
	names := []string{user}
	if base, _, labelled := strings.Cut(local, "+"); labelled && base != "" {
		names = append(names, base+"@"+domain)
	}
	for _, name := range names {
		person, err := t.o.Store.PersonByAddress(ctx, name)
		if err == nil || !errors.Is(err, identity.ErrNotFound) {
			return person.ID, err
		}
	}
	return "", nil
}

func (t *Tally) found(k key, person identity.PersonID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[k]
	if c == nil {
		return
	}
	c.person = person
	if person == "" && !c.nobody {
		c.nobody = true
		t.spare = append(t.spare, k)
	}
}

// admit counts a line among those of its hour; when there are too many, it is lost.
func (t *Tally) admit(l line) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines[l.k.hour] >= t.o.PerHour {
		t.lost[l.k.hour] += uint64(l.c.number)
		t.forget(l.k)
		return false
	}
	t.lines[l.k.hour]++
	return true
}

// tell writes lines.
func (t *Tally) tell(ctx context.Context, lines []line) error {
	if len(lines) == 0 {
		return nil
	}
	events := make([]identity.Event, len(lines))
	for i, l := range lines {
		events[i] = t.event(l)
	}
	added, err := t.o.Store.AddNewEvents(ctx, events)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, l := range lines {
		elsewhere := err != nil || !added[i]
		if elsewhere {
			t.lines[l.k.hour]-- // not one of ours
		}
		c := t.counts[l.k]
		switch {
		case err != nil || c == nil:
		case l.summary:
			t.forget(l.k)
		default:
			c.told, c.elsewhere = true, elsewhere
		}
	}
	return err
}

// event is a line as it is written. The id follows from what it tells of, so that of several
// instances one writes the first line, and that a line whose commit was never confirmed does
// not come twice.
func (t *Tally) event(l line) identity.Event {
	e := identity.Event{At: l.c.first, Kind: Kind, Person: l.c.person, From: l.c.address, Detail: l.words()}
	which := ""
	if l.summary {
		e.At, e.From, which = l.c.last, l.c.from, t.o.Instance+" "+l.k.user
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%d\x00%s", l.c.person, l.k.network, l.k.protocol, l.k.reason, l.k.hour, which))
	e.ID = "refused-" + hex.EncodeToString(sum[:16])
	return e
}

// words are what the page shows.
func (l line) words() string {
	text := strings.ToUpper(string(l.k.protocol)) + ": " + l.k.reason
	if l.k.reason == "" {
		text = strings.ToUpper(string(l.k.protocol)) + ": many reasons or networks"
	}
	if !l.summary {
		return text
	}
	where := ""
	if l.k.network.IsValid() {
		where = " from " + l.k.network.String()
	}
	return fmt.Sprintf("%s, %d more%s within the hour", text, l.c.more(), where)
}

// close forgets hours that are over, and says what no line tells of.
func (t *Tally) close(hour int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spare = slices.DeleteFunc(t.spare, func(k key) bool { return k.hour < hour })
	for h := range t.heads {
		if h.hour < hour {
			delete(t.heads, h)
		}
	}
	for h := range t.lines {
		if h < hour-1 {
			delete(t.lines, h)
		}
	}
	for h, number := range t.lost {
		if h < hour {
			t.o.Log.Warn("more refusals than are noted one by one", "number", number, "hour", time.Unix(h*3600, 0).UTC())
			delete(t.lost, h)
		}
	}
}
