package tally

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A book is a fake audit trail.
type book struct {
	mu     sync.Mutex
	away   error
	events map[string]identity.Event
	asked  int
}

func (b *book) AddNewEvents(_ context.Context, events []identity.Event) ([]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return nil, b.away
	}
	added := make([]bool, len(events))
	for i, e := range events {
		_, there := b.events[e.ID]
		if added[i] = !there; added[i] {
			b.events[e.ID] = e
		}
	}
	return added, nil
}

func (b *book) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.away != nil {
		return identity.Person{}, b.away
	}
	if name, ok := strings.CutSuffix(address, "@example.org"); ok && !strings.HasPrefix(name, "nobody") && !strings.Contains(name, "+") {
		return identity.Person{ID: identity.PersonID(name), Address: address}, nil
	}
	return identity.Person{}, identity.ErrNotFound
}

// lines are the events, by time, each as "person detail from".
func (b *book) lines() (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []identity.Event
	for _, e := range b.events {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b identity.Event) int { return a.At.Compare(b.At) })
	for _, e := range all {
		if e.Kind != Kind {
			lines = append(lines, "kind "+e.Kind)
		}
		from := "?"
		if e.From.IsValid() {
			from = e.From.String()
		}
		lines = append(lines, fmt.Sprintf("%s | %s | %s", e.Person, e.Detail, from))
	}
	return lines
}

type desk struct {
	*Tally
	t     *testing.T
	store *book
	now   time.Time
}

func newDesk(t *testing.T, store *book, change func(*Options)) *desk {
	d := &desk{t: t, store: store, now: time.Date(2026, 11, 22, 3, 10, 0, 0, time.UTC)}
	o := Options{Store: store, Now: func() time.Time { return d.now }}
	if change != nil {
		change(&o)
	}
	d.Tally = New(o)
	return d
}

func (d *desk) refuse(person, user, from, reason string) {
	d.now = d.now.Add(time.Millisecond)
	d.Refused(Refusal{Person: identity.PersonID(person), User: user, From: netip.MustParseAddr(from), Protocol: identity.IMAP, Reason: reason})
}

func (d *desk) flush() {
	d.t.Helper()
	if err := d.write(d.t.Context(), false); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) want(when string, want ...string) {
	d.t.Helper()
	if got := d.store.lines(); !slices.Equal(got, want) {
		d.t.Errorf("%s:\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A thousand guesses are two lines: one at once, one when the hour is over.
func TestOneLineForMany(t *testing.T) {
	d := newDesk(t, &book{events: map[string]identity.Event{}}, nil)
	for n := range 1000 {
		d.refuse("", "Ann@Example.org", fmt.Sprintf("192.0.2.%d", n%200), "unknown secret")
		if n == 0 || n == 500 {
			d.flush()
		}
	}
	d.refuse("bob", "ann@example.org", "2001:db8::1", "secret of somebody else")
	d.refuse("", "ann+laptop@example.org", "198.51.100.7", "unknown secret")
	d.refuse("", "nobody@example.org", "192.0.2.1", "unknown secret")
	d.refuse("", "no address", "192.0.2.1", "user name not understood")
	d.flush()
	first := []string{"ann | IMAP: unknown secret | 192.0.2.0", "bob | IMAP: secret of somebody else | 2001:db8::1", "ann | IMAP: unknown secret | 198.51.100.7"}
	d.want("within the hour", first...)
	d.now = d.now.Add(time.Hour)
	d.flush()
	d.flush()
	d.want("after it", first[0], "ann | IMAP: unknown secret, 999 more from 192.0.2.0/24 within the hour | ?", first[1], first[2])
	if len(d.counts)+len(d.heads)+d.names+len(d.spare) != 0 {
		t.Errorf("%d counts, %d heads, %d names, %d spare ones stay behind", len(d.counts), len(d.heads), d.names, len(d.spare))
	}
	asked := d.store.asked
	d.flush()
	if d.store.asked != asked {
		t.Error("somebody is looked up again")
	}
}

// Two instances write the first line once; each tells what it has seen besides.
func TestTwoInstances(t *testing.T) {
	store := &book{events: map[string]identity.Event{}}
	one, two := newDesk(t, store, nil), newDesk(t, store, nil)
	for _, d := range []*desk{one, two} {
		for range 5 {
			d.refuse("ann", "", "192.0.2.1", "expired")
		}
	}
	one.flush()
	two.flush()
	one.want("both", "ann | IMAP: expired | 192.0.2.1")
	one.now, two.now = one.now.Add(time.Hour), two.now.Add(time.Hour)
	one.flush()
	two.flush()
	lines := store.lines()
	slices.Sort(lines)
	want := []string{"ann | IMAP: expired | 192.0.2.1", "ann | IMAP: expired, 4 more from 192.0.2.0/24 within the hour | 192.0.2.1",
		"ann | IMAP: expired, 5 more from 192.0.2.0/24 within the hour | 192.0.2.1"}
	if !slices.Equal(lines, want) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

// While the database is away nothing is lost and nothing waits; once it is back, one line
// comes of it, also where the commit was done and never confirmed.
func TestStoreAway(t *testing.T) {
	store := &book{events: map[string]identity.Event{}}
	d := newDesk(t, store, nil)
	d.refuse("ann", "", "192.0.2.1", "expired")
	store.away = errors.New("away")
	if err := d.write(t.Context(), false); err == nil {
		t.Fatal("written into nothing")
	}
	for hour, number := range d.lines {
		if number != 0 {
			t.Errorf("%d lines of hour %d are counted and not written", number, hour)
		}
	}
	d.refuse("ann", "", "192.0.2.1", "expired")
	store.away = nil
	d.flush()
	d.want("back", "ann | IMAP: expired | 192.0.2.1")
	for k := range d.counts {
		d.counts[k].told = false // its confirmation was lost
	}
	d.flush()
	d.want("once more", "ann | IMAP: expired | 192.0.2.1")
}

// A spray fills neither the trail nor memory, and hides nobody's refusals.
func TestSprayIsBounded(t *testing.T) {
	store := &book{events: map[string]identity.Event{}}
	d := newDesk(t, store, func(o *Options) { o.Entries, o.PerHead, o.PerHour, o.LookUps = 200, 5, 150, 1000 })
	for n := range 5000 {
		d.refuse("", fmt.Sprintf("nobody%d@example.org", n), "192.0.2.1", "unknown secret")
		if n%50 == 0 {
			d.flush()
		}
	}
	for n := range 3000 { // one person from everywhere
		d.refuse("ann", "", netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}).String(), "wrong secret")
	}
	d.refuse("", "cora@example.org", "192.0.2.1", "unknown secret")
	d.flush()
	nobodies := 0
	for _, c := range d.counts {
		if c.nobody {
			nobodies++
		}
	}
	if len(d.counts) > 200 || nobodies == 0 || len(d.spare) != nobodies {
		t.Errorf("%d counts are kept, %d of nobody's, of which %d can make room", len(d.counts), nobodies, len(d.spare))
	}
	ann, cora := 0, 0
	for _, text := range store.lines() {
		switch {
		case strings.HasPrefix(text, "ann |"):
			ann++
		case strings.HasPrefix(text, "cora |"):
			cora++
		default:
			t.Errorf("a line of nobody: %s", text)
		}
	}
	if ann != 6 || cora != 1 {
		t.Errorf("%d lines of ann and %d of cora", ann, cora)
	}
	for n := range 1000 {
		d.refuse(fmt.Sprintf("p%d", n), "", "192.0.2.1", "wrong secret")
		if n%100 == 0 {
			d.flush()
		}
	}
	d.flush()
	if lines := len(store.lines()); lines != 150 || len(d.heads) > 400 {
		t.Errorf("%d lines in an hour, %d heads", lines, len(d.heads))
	}
}

// What was counted is written when everything stops.
func TestRunWritesTheRest(t *testing.T) {
	store := &book{events: map[string]identity.Event{}}
	d := newDesk(t, store, func(o *Options) { o.Every = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.refuse("ann", "", "192.0.2.1", "expired")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	d.want("at the end", "ann | IMAP: expired | 192.0.2.1")
}
