package credential

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestRights: whatever rights a credential has and whatever is presented, the answer is
// yes exactly when each condition holds by itself, the first time and from the cache,
// and no more than one hash is computed.
func TestRights(t *testing.T) {
	protocols := []identity.Protocol{identity.IMAP, identity.POP3, identity.SMTP, identity.Sieve}
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("192.0.2.200/32")}
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.200"), netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("2001:db8:0:1::1"), {}}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(r *rapid.T) {
		now := start
		store := newFakeStore()
		ann := identity.Person{ID: "ann", Address: "ann@example.org"}
		if rapid.IntRange(0, 9).Draw(r, "disabled") == 0 {
			ann.Disabled = start
		}
		store.people["ann"] = ann
		var row identity.Credential
		password, _ := store.appPassword(t, "ann", func(c *identity.Credential) {
			c.Protocols = rapid.SliceOfNDistinct(rapid.SampledFrom(protocols), 0, 4, rapid.ID).Draw(r, "protocols")
			c.Networks = rapid.SliceOfNDistinct(rapid.SampledFrom(networks), 0, 4, rapid.ID).Draw(r, "networks")
			if hours := rapid.IntRange(0, 4).Draw(r, "expires"); hours > 0 {
				c.Expires = start.Add(time.Duration(hours) * time.Hour)
			}
			if rapid.IntRange(0, 9).Draw(r, "revoked") == 0 {
				c.Revoked = start
			}
			row = *c
		})
		d := New(Options{Store: store, Now: func() time.Time { return now }, Poll: time.Minute})
		hashes := count(d)
		d.poll(t.Context())
		for range rapid.IntRange(1, 12).Draw(r, "attempts") {
			p := present(rapid.SampledFrom([]string{"ann@example.org", "Ann+Phone@example.org", "ann+x@example.org", "bob@example.org"}).Draw(r, "user"), password)
			p.Protocol = rapid.SampledFrom(protocols).Draw(r, "protocol")
			p.Remote = rapid.SampledFrom(addresses).Draw(r, "remote")
			right := rapid.IntRange(0, 3).Draw(r, "right") > 0
			if !right {
				p.Secret = lastSymbolChanged(password)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(r, "minutes")) * time.Minute)
			from := p.Remote.Unmap().WithZone("")
			want := right && ann.Disabled.IsZero() && row.Revoked.IsZero() && (row.Expires.IsZero() || now.Before(row.Expires)) &&
				(len(row.Protocols) == 0 || slices.Contains(row.Protocols, p.Protocol)) &&
				(len(row.Networks) == 0 || slices.ContainsFunc(row.Networks, func(n netip.Prefix) bool { return n.Contains(from) })) &&
				slices.Contains([]string{"ann@example.org", "ann+phone@example.org"}, strings.ToLower(p.User))
			_, err := d.Password(t.Context(), p)
			if (err == nil) != want {
				r.Fatalf("%+v presented to %+v at %v: %v, want %v", p, row, now, err, want)
			}
		}
		if hashes.Load() > 2 { // the right one, and the one wrong one before it
			r.Fatalf("%d hashes for two secrets", hashes.Load())
		}
	})
}

// TestNoEnumeration: who asks with secrets that are none learns nothing about names,
// neither from the answer nor from the work that was done for it.
func TestNoEnumeration(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	store.appPassword(t, "ann", nil)
	type trace struct {
		reason    string
		questions int64
		hashes    int64
	}
	seen := map[string]trace{}
	for _, user := range []string{"ann@example.org", "nobody@example.org", "ann@elsewhere.example", "ann+phone@example.org"} {
		for name, text := range map[string]string{"a word": "Summer2026!", "the form": "zzzzzz" + strings.Repeat("0", 26), "a token": tokenPrefix + strings.Repeat("A", 43)} {
			d := New(Options{Store: store, Tokens: store})
			hashes := count(d)
			before := store.asked.Load()
			_, err := d.Password(t.Context(), present(user, secret.New(text)))
			got := trace{reasonOf(err), store.asked.Load() - before, hashes.Load()}
			if first, ok := seen[name]; ok && got != first || got.hashes != 0 {
				t.Errorf("%s as %s: %+v, others %+v", name, user, got, first)
			}
			seen[name] = got
		}
	}
}

// TestThousandsOfOnePerson: how many app passwords a person has costs nobody a hash.
func TestThousandsOfOnePerson(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	var password secret.String
	for range 2000 {
		password, _ = store.appPassword(t, "ann", nil)
	}
	d := New(Options{Store: store})
	hashes := count(d)
	if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
		t.Fatal(err)
	}
	if hashes.Load() != 1 || store.asked.Load() != 1 {
		t.Errorf("%d hashes, %d questions", hashes.Load(), store.asked.Load())
	}
}

// TestNothingPrintsAPassword: neither errors nor what is printed of a door and its
// arguments holds the secret.
func TestNothingPrintsAPassword(t *testing.T) {
	var log strings.Builder
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	password, _ := store.appPassword(t, "ann", func(c *identity.Credential) { c.Hash = "$argon2id$broken" })
	d := New(Options{Store: store, Log: textLog(&log)})
	p := present("ann@example.org", password)
	_, err := d.Password(t.Context(), p)
	store.away = errAway
	_, errAgain := d.Password(t.Context(), p)
	if err == nil || errAgain == nil || !strings.Contains(log.String(), "stored hash") {
		t.Fatalf("%v, %v, log %q", err, errAgain, log.String())
	}
	for _, text := range []string{err.Error(), errAgain.Error(), log.String(), printed(p)} {
		for _, canary := range []string{password.Reveal(), password.Reveal()[8:20], "$argon2id$broken"} {
			if strings.Contains(text, canary) {
				t.Errorf("%q holds %q", text, canary)
			}
		}
	}
}

// TestNothingComesBack: two doors, a database that goes, comes back and loses its last
// changes, revocations told or only polled, in any order. What was revoked is refused
// after the poll, what a door has learned to be revoked is refused for ever, and nobody
// gets in past the grace.
func TestNothingComesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		steps := make([]step, rapid.IntRange(1, 60).Draw(r, "steps"))
		for i := range steps {
			steps[i] = step{
				rapid.SampledFrom([]string{"revoke", "revoke and tell", "away", "back", "standby", "pass", "sign in", "sign in", "sign in"}).Draw(r, "step"),
				rapid.IntRange(0, 1).Draw(r, "door"), rapid.IntRange(0, 2).Draw(r, "password"), rapid.IntRange(2, 1200).Draw(r, "seconds"),
			}
		}
		var fault string
		synctest.Test(t, func(t *testing.T) { fault = play(t, steps) })
		if fault != "" {
			r.Fatal(fault)
		}
	})
}

type step struct {
	do                      string
	door, password, seconds int
}

// play returns what went wrong.
func play(t *testing.T, steps []step) (fault string) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	var passwords [3]secret.String
	var selectors [3]string
	for i := range passwords {
		passwords[i], selectors[i] = store.appPassword(t, "ann", nil)
	}
	fresh := maps.Clone(store.credentials)
	doors := [2]*Door{New(Options{Store: store}), New(Options{Store: store})}
	for _, d := range doors {
		defer run(t, d)()
	}
	var revoked, felt [3]bool // in the database now; and for longer than a poll
	var learned [2][3]bool    // at a door
	var away time.Time
	for _, s := range steps {
		i, j := s.door, s.password
		switch {
		case strings.HasPrefix(s.do, "revoke") && away.IsZero():
			store.change(func() {
				c := store.credentials[selectors[j]]
				c.Revoked = time.Now()
				store.credentials[selectors[j]] = c
			})
			revoked[j] = true
			if s.do == "revoke and tell" {
				doors[i].EndCredential(fresh[selectors[j]].ID)
				learned[i][j] = true
			}
		case s.do == "away" && away.IsZero():
			store.set(func() { store.away = errAway })
			away = time.Now()
		case s.do == "back":
			store.set(func() { store.away = nil })
			away = time.Time{}
		case s.do == "standby": // it never heard of any revocation, and took a moment
			store.set(func() { store.away = errAway })
			pass(5 * time.Second)
			store.set(func() {
				store.credentials, store.generation = maps.Clone(fresh), store.generation-1
				if away.IsZero() {
					store.away = nil
				}
			})
			revoked, felt = [3]bool{}, [3]bool{}
		case s.do == "pass":
			pass(time.Duration(s.seconds) * time.Second)
			if away.IsZero() {
				felt = revoked
			}
		case s.do == "sign in":
			_, err := doors[i].Password(t.Context(), present("ann@example.org", passwords[j]))
			switch {
			case err == nil && learned[i][j]:
				return "what the door learned to be revoked is back"
			case err == nil && felt[j]:
				return "what was revoked before the poll is in"
			case err == nil && !away.IsZero() && time.Since(away) > doors[i].o.OutageGrace:
				return "in past the grace"
			case err != nil && !errors.Is(err, ErrUnavailable) && reasonOf(err) != string(ReasonRevoked):
				return err.Error()
			case errors.Is(err, ErrUnavailable) && away.IsZero():
				return "not to be had although the database is there"
			}
			learned[i][j] = learned[i][j] || reasonOf(err) == string(ReasonRevoked)
		}
	}
	return ""
}
