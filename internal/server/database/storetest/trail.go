package storetest

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (c *checker) events() {
	ctx, s := c.Context(), c.s
	// Seven events, of which three share an instant; ids as the store makes them.
	for i, seconds := range []int{5, 1, 3, 3, 3, 2, 4} {
		kind := []string{"signin.ok", "signin.refused", "credential.made"}[i%3]
		c.must(s.AddEvent(ctx, identity.Event{At: At(seconds), Kind: kind, Person: identity.PersonID(fmt.Sprint("p", i%2)), Detail: fmt.Sprint(i)}))
	}
	read := func(filter identity.EventFilter) (details string) {
		seen := 0
		for {
			page := got(s.Events(ctx, filter))(c)
			for _, e := range page {
				if e.ID == "" {
					c.Error("an event without id")
				}
				details += e.Detail
				filter.Before, filter.BeforeID = e.At, e.ID
			}
			if seen += len(page); len(page) < filter.Limit || seen > 20 {
				return details
			}
		}
	}
	for limit := 1; limit < 9; limit++ {
		all := read(identity.EventFilter{Limit: limit})
		if len(all) != 7 || all[:2] != "06" || all[5:] != "51" || strings.Trim(all[2:5], "234") != "" {
			c.Errorf("pages of %d: %s, want all seven, the newest first", limit, all)
		}
	}
	c.same("one person's", sorted(read(identity.EventFilter{Person: "p1", Limit: 2})), "135")
	c.same("sign-ins", sorted(read(identity.EventFilter{Kind: "signin.", Limit: 2})), "01346")
	c.same("a pattern", read(identity.EventFilter{Kind: "signin_", Limit: 2}), "")
	c.same("both", sorted(read(identity.EventFilter{Kind: "signin.ok", Person: "p0", Limit: 2})), "06")
	c.same("unlimited", len(got(s.Events(ctx, identity.EventFilter{}))(c)), 7)
}

func sorted(text string) string {
	all := ""
	for _, r := range "0123456789" {
		all += strings.Repeat(string(r), strings.Count(text, string(r)))
	}
	return all
}

func (c *checker) bans() {
	ctx, s := c.Context(), c.s
	ban := func(network string, allow bool, reason string) identity.Ban {
		return identity.Ban{Network: netip.MustParsePrefix(network), Allow: allow, Reason: reason, Made: At(1)}
	}
	c.must(s.PutBan(ctx, ban("2001:db8::/32", false, "storm")))
	c.must(s.PutBan(ctx, ban("192.0.2.77/24", false, "storm"))) // host bits mean the same network
	c.must(s.PutBan(ctx, ban("192.0.2.0/24", true, "office")))
	c.same("Bans", got(s.Bans(ctx))(c), []identity.Ban{ban("192.0.2.0/24", true, "office"), ban("2001:db8::/32", false, "storm")})
	c.must(s.DeleteBan(ctx, netip.MustParsePrefix("192.0.2.1/24")))
	c.same("Bans", got(s.Bans(ctx))(c), []identity.Ban{ban("2001:db8::/32", false, "storm")})
	c.want("no network", s.PutBan(ctx, identity.Ban{}), identity.ErrInvalid)
}

func (c *checker) counters() {
	ctx, s := c.Context(), c.s
	var group sync.WaitGroup
	var highest atomic.Int64
	for range 8 {
		group.Go(func() {
			for range 5 {
				n, err := s.Count(ctx, "net/192.0.2.0", At(0), 2)
				if err != nil {
					c.Error(err)
				}
				for seen := highest.Load(); int64(n) > seen && !highest.CompareAndSwap(seen, int64(n)); seen = highest.Load() {
				}
			}
		})
	}
	group.Wait()
	if highest.Load() != 80 {
		c.Errorf("the highest count is %d, want 80", highest.Load())
	}
	c.same("another window", got(s.Count(ctx, "net/192.0.2.0", At(60), 1))(c), 1)
	c.same("taken back", got(s.Count(ctx, "net/192.0.2.0", At(0), -1))(c), 79)
	keys := []string{"never", "net/192.0.2.0"}
	for i := range 450 { // more than one query takes
		keys = append(keys, fmt.Sprint("many", i))
	}
	got(s.Count(ctx, "many449", At(0), 3))(c)
	c.same("Counts", got(s.Counts(ctx, keys, At(0)))(c), map[string]int{"net/192.0.2.0": 79, "many449": 3})
	c.must(s.SweepCounts(ctx, At(60)))
	c.same("swept", got(s.Counts(ctx, keys, At(0)))(c), map[string]int{})
	c.same("not swept", got(s.Counts(ctx, keys, At(60)))(c), map[string]int{"net/192.0.2.0": 1})
	c.same("no keys", got(s.Counts(ctx, nil, At(0)))(c), map[string]int{})
}

func (c *checker) onces() {
	ctx, s := c.Context(), c.s
	soon := Now().Add(time.Minute)
	c.must(s.PutOnce(ctx, digest("o"), "invitation", []byte("data"), soon))
	c.want("again", s.PutOnce(ctx, digest("o"), "invitation", []byte("other"), soon), identity.ErrExists)
	c.must(s.PutOnce(ctx, digest("o"), "totp", nil, soon))
	c.same("read", string(got(s.ReadOnce(ctx, digest("o"), "invitation", Now()))(c)), "data")
	_, err := s.ReadOnce(ctx, digest("o"), "invitation", soon)
	c.want("reading an expired one", err, identity.ErrNotFound)
	_, err = s.TakeOnce(ctx, digest("o"), "other kind", Now())
	c.want("another kind", err, identity.ErrNotFound)
	_, err = s.TakeOnce(ctx, digest("o"), "invitation", soon)
	c.want("an expired one", err, identity.ErrNotFound)
	var firsts atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			data, err := s.TakeOnce(ctx, digest("o"), "invitation", Now())
			switch {
			case err == nil && string(data) == "data":
				firsts.Add(1)
			default:
				c.want("TakeOnce after the first", err, identity.ErrNotFound)
			}
		})
	}
	group.Wait()
	if firsts.Load() != 1 {
		c.Errorf("%d took it, want 1", firsts.Load())
	}
	c.same("the other kind", len(got(s.TakeOnce(ctx, digest("o"), "totp", Now()))(c)), 0)

	c.must(s.PutOnce(ctx, digest("old"), "k", []byte("old"), Now()))
	c.must(s.PutOnce(ctx, digest("old"), "k", []byte("new"), soon)) // the old one had expired
	c.same("the new one", string(got(s.TakeOnce(ctx, digest("old"), "k", Now()))(c)), "new")
	c.want("too much", s.PutOnce(ctx, digest("big"), "k", make([]byte, 1<<20), soon), identity.ErrInvalid)
}

// badText: what comes from a peer must not look like an outage on one of the engines.
func (c *checker) badText() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	for _, bad := range []string{"a\x00b@example.org", "a\xff@example.org"} {
		_, err := s.PersonByAddress(ctx, bad)
		c.want("PersonByAddress", err, identity.ErrNotFound)
		_, err = s.Address(ctx, bad)
		c.want("Address", err, identity.ErrNotFound)
		_, _, err = s.CredentialBySelector(ctx, bad)
		c.want("CredentialBySelector", err, identity.ErrNotFound)
		c.want("AddEvent", s.AddEvent(ctx, identity.Event{At: At(1), Kind: "x", Detail: bad}), identity.ErrInvalid)
		_, err = s.Count(ctx, bad, At(0), 1)
		c.want("Count", err, identity.ErrInvalid)
	}
	long := strings.Repeat("long ", 20_000)
	c.must(s.AddEvent(ctx, identity.Event{At: At(1), Kind: "x", Detail: long}))
	if found := got(s.Events(ctx, identity.EventFilter{}))(c); len(found) != 1 || found[0].Detail != long {
		c.Error("a long detail did not come back whole")
	}
}
