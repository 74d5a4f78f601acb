package credential

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestPassword: one row, one credential, one thing changed, one answer. It is asked
// twice, since the second answer comes from memory.
func TestPassword(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	other := netip.MustParseAddr("203.0.113.9")
	cases := []struct {
		name    string
		row     func(*identity.Credential)
		person  func(*identity.Person)
		present func(*Presented)
		want    Reason
		hashes  int64 // of both attempts
	}{
		{name: "as made", hashes: 1},
		{name: "name in capitals", present: func(p *Presented) { p.User = "ANN@Example.ORG" }, hashes: 1},
		{name: "name with the label", present: func(p *Presented) { p.User = "ann+phone@example.org" }, hashes: 1},
		{name: "typed in capitals without dashes", present: func(p *Presented) {
			p.Secret = secret.New(strings.ToUpper(strings.ReplaceAll(p.Secret.Reveal(), "-", "")))
		}, hashes: 1},
		{name: "IPv4 in IPv6", row: func(c *identity.Credential) { c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			present: func(p *Presented) { p.Remote = netip.MustParseAddr("::ffff:192.0.2.7") }, hashes: 1},
		{name: "network written as IPv6", row: func(c *identity.Credential) {
			c.Networks = []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.0/120")}
		}, hashes: 1},
		{name: "protocol allowed", row: func(c *identity.Credential) { c.Protocols = []identity.Protocol{identity.SMTP, identity.IMAP} }, hashes: 1},
		{name: "expires later", row: func(c *identity.Credential) { c.Expires = now.Add(time.Second) }, hashes: 1},

		{name: "wrong secret", present: func(p *Presented) { p.Secret = lastSymbolChanged(p.Secret) }, want: ReasonWrong, hashes: 1},
		{name: "other label", present: func(p *Presented) { p.User = "ann+scanner@example.org" }, want: ReasonUser},
		{name: "other person", present: func(p *Presented) { p.User = "bob@example.org" }, want: ReasonUser},
		{name: "no domain", present: func(p *Presented) { p.User = "ann" }, want: ReasonName},
		{name: "no name", present: func(p *Presented) { p.User = "" }, want: ReasonName},
		{name: "tab in the name", present: func(p *Presented) { p.User = "ann@example.org\tuser=bob" }, want: ReasonName},
		{name: "wrong protocol", row: func(c *identity.Credential) { c.Protocols = []identity.Protocol{identity.SMTP} }, want: ReasonProtocol},
		{name: "wrong network", row: func(c *identity.Credential) { c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			present: func(p *Presented) { p.Remote = other }, want: ReasonNetwork},
		{name: "no address where one is wanted", row: func(c *identity.Credential) { c.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
			present: func(p *Presented) { p.Remote = netip.Addr{} }, want: ReasonNetwork},
		{name: "expired", row: func(c *identity.Credential) { c.Expires = now }, want: ReasonExpired},
		{name: "revoked", row: func(c *identity.Credential) { c.Revoked = now.Add(-time.Hour) }, want: ReasonRevoked},
		{name: "person disabled", person: func(p *identity.Person) { p.Disabled = now }, want: ReasonDisabled},
		{name: "broken hash", row: func(c *identity.Credential) { c.Hash = "{PLAIN}x" }, want: ReasonWrong, hashes: 1},
		{name: "unknown selector", present: func(p *Presented) { p.Secret = firstSymbolChanged(p.Secret) }, want: ReasonUnknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store := newFakeStore()
			ann := identity.Person{ID: "ann", Address: "ann@example.org"}
			if c.person != nil {
				c.person(&ann)
			}
			store.people["ann"] = ann
			password, _ := store.appPassword(t, "ann", c.row)
			d := New(Options{Store: store, Now: func() time.Time { return now }})
			hashes := count(d)
			p := present("ann@example.org", password)
			if c.present != nil {
				c.present(&p)
			}
			for range 2 {
				v, err := d.Password(t.Context(), p)
				if got := reasonOf(err); got != string(c.want) {
					t.Fatalf("got %q, want %q", got, c.want)
				}
				if c.want == "" && (v.Person.ID != "ann" || v.Login != "ann@example.org" || v.Credential == nil || v.Credential.Name != "phone") {
					t.Errorf("verdict %+v", v)
				}
			}
			if hashes.Load() != c.hashes {
				t.Errorf("%d hashes, want %d", hashes.Load(), c.hashes)
			}
		})
	}
}

func lastSymbolChanged(s secret.String) secret.String {
	text := s.Reveal()
	with := "z"
	if strings.HasSuffix(text, with) {
		with = "y"
	}
	return secret.New(text[:len(text)-1] + with)
}

func firstSymbolChanged(s secret.String) secret.String {
	text := s.Reveal()
	with := "z"
	if strings.HasPrefix(text, with) {
		with = "y"
	}
	return secret.New(with + text[1:])
}

// TestWorthless sends what guessers send: none of it may cost a hash or a question.
func TestWorthless(t *testing.T) {
	text, err := os.ReadFile("testdata/worthless.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	lines = append(lines, "", strings.Repeat("0", 1<<20), strings.Repeat("-", 1<<20), strings.Repeat("0", 32)+strings.Repeat("-", 225), "k7m2q9-\x00", "\xff\xfe")
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	store.appPassword(t, "ann", nil)
	d := New(Options{Store: store, Tokens: store})
	hashes := count(d)
	for _, line := range lines {
		if _, err := d.Password(t.Context(), present("ann@example.org", secret.New(line))); reasonOf(err) != string(ReasonForm) {
			t.Errorf("%.40q as a password: %q", line, reasonOf(err))
		}
		if _, err := d.Token(t.Context(), present("ann@example.org", secret.New(line))); reasonOf(err) != string(ReasonForm) {
			t.Errorf("%.40q as a token: %q", line, reasonOf(err))
		}
	}
	if hashes.Load() != 0 || store.asked.Load() != 0 {
		t.Errorf("%d hashes, %d questions for what cannot be right", hashes.Load(), store.asked.Load())
	}
}

// TestAddresses: names of a person other than the main address.
func TestAddresses(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	owner := func(roles ...identity.Role) []identity.Owner {
		return []identity.Owner{{Person: "bob", Roles: []identity.Role{identity.RoleLogin}}, {Person: "ann", Roles: roles}}
	}
	store.addresses["ann"] = []identity.Address{
		{Address: "a.smith@example.org", Targets: []string{"ann@example.org"}, Owners: owner(identity.RoleLogin, identity.RoleSend)},
		{Address: "info@example.org", Owners: owner(identity.RoleLogin)},
		{Address: "press@example.org", Owners: owner(identity.RoleSend)},
	}
	password, _ := store.appPassword(t, "ann", func(c *identity.Credential) { c.PerHour = 5 })
	token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeMail)
	d := New(Options{Store: store, Tokens: store})
	for user, want := range map[string]string{
		"a.smith@example.org": "ann@example.org", "A.Smith+phone@example.org": "ann@example.org",
		"info@example.org": "info@example.org", "press@example.org": "", "nobody@example.org": "",
	} {
		v, err := d.Password(t.Context(), present(user, password))
		if want == "" && reasonOf(err) != string(ReasonUser) || want != "" && (err != nil || v.Login != want || v.MailUser(identity.IMAP) != want) {
			t.Errorf("%s: %q, %v", user, v.Login, err)
		}
		if want != "" && v.MailUser(identity.SMTP) != "ann+phone@example.org" {
			t.Errorf("%s at SMTP is %s", user, v.MailUser(identity.SMTP))
		}
		if strings.Contains(user, "+") {
			continue
		}
		v, err = d.Token(t.Context(), present(user, token))
		if want == "" && reasonOf(err) != string(ReasonUser) || want != "" && (err != nil || v.Login != want || v.MailUser(identity.SMTP) != "ann@example.org") {
			t.Errorf("%s with a token: %q, %v", user, v.Login, err)
		}
	}
}

// TestDomain puts the domain behind a bare name.
func TestDomain(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	password, _ := store.appPassword(t, "ann", nil)
	d := New(Options{Store: store, Domain: "example.org"})
	if v, err := d.Password(t.Context(), present("Ann", password)); err != nil || v.Login != "ann@example.org" {
		t.Errorf("%q, %v", v.Login, err)
	}
}

// TestRequireTLS: nothing that came in the clear is looked at, but from this host.
func TestRequireTLS(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	password, _ := store.appPassword(t, "ann", nil)
	d := New(Options{Store: store, Tokens: store, RequireTLS: true})
	for remote, want := range map[string]Reason{"192.0.2.1": ReasonPlaintext, "2001:db8::1": ReasonPlaintext, "127.0.0.1": "", "::ffff:127.0.0.2": "", "::1": ""} {
		p := present("ann@example.org", password)
		p.Secured, p.Remote = false, netip.MustParseAddr(remote)
		if _, err := d.Password(t.Context(), p); reasonOf(err) != string(want) {
			t.Errorf("from %s: %q", remote, reasonOf(err))
		}
		p.Secured = true
		if _, err := d.Password(t.Context(), p); err != nil {
			t.Errorf("from %s over TLS: %v", remote, err)
		}
	}
}

// TestWrongSecrets: against a selector that is known, each new wrong secret costs one
// hash until the right one was seen, and none afterwards.
func TestWrongSecrets(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	password, selector := store.appPassword(t, "ann", nil)
	d := New(Options{Store: store})
	hashes := count(d)
	guess := func(n int) {
		t.Helper()
		wrong := secret.New(fmt.Sprintf("%s%026d", selector, n))
		for range 3 {
			if _, err := d.Password(t.Context(), present("ann@example.org", wrong)); reasonOf(err) != string(ReasonWrong) {
				t.Fatalf("guess %d: %v", n, err)
			}
		}
	}
	for n := range 3 {
		guess(n)
	}
	if hashes.Load() != 3 {
		t.Errorf("%d hashes for 3 secrets sent three times each", hashes.Load())
	}
	if _, err := d.Password(t.Context(), present("ann@example.org", password)); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		guess(n)
	}
	if hashes.Load() != 4 {
		t.Errorf("%d hashes, want none after the right secret was seen", hashes.Load()-4)
	}
}

// TestCrowd: a thousand sign-ins with one password after a restart make one hash.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		password, _ := store.appPassword(t, "ann", nil)
		d := New(Options{Store: store})
		var wg sync.WaitGroup
		release, slow := make(chan struct{}), d.matches
		d.matches = func(hash, password string) (bool, error) {
			<-release
			return slow(hash, password)
		}
		hashes := count(d)
		errs := make(chan error, waitingPerSelector+100)
		for range cap(errs) {
			wg.Go(func() {
				_, err := d.Password(t.Context(), present("ann@example.org", password))
				errs <- err
			})
		}
		synctest.Wait() // all wait, or were told that too many do
		close(release)
		wg.Wait()
		close(errs)
		good, busy := 0, 0
		for err := range errs {
			switch {
			case err == nil:
				good++
			case errors.Is(err, ErrBusy):
				busy++
			default:
				t.Error(err)
			}
		}
		if hashes.Load() != 1 || good != waitingPerSelector+1 || busy != 99 {
			t.Errorf("%d hashes, %d in, %d told to come later", hashes.Load(), good, busy)
		}
	})
}

// TestFlood: hashes that never end fill the queue, and not one cached sign-in waits
// for them: counted, not timed.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		cached, _ := store.appPassword(t, "ann", nil)
		token := store.token(t, "ann", time.Now().Add(time.Hour), ScopeIMAP)
		d := New(Options{Store: store, Tokens: store, Hashers: 2, Queue: 10})
		hashes := count(d)
		if _, err := d.Password(t.Context(), present("ann@example.org", cached)); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		d.matches = func(string, string) (bool, error) {
			hashes.Add(1)
			<-release
			return false, nil
		}
		var wg sync.WaitGroup
		busy := make(chan error, 100)
		for range cap(busy) {
			_, selector := store.appPassword(t, "ann", nil)
			wg.Go(func() {
				_, err := d.Password(t.Context(), present("ann@example.org", secret.New(selector+strings.Repeat("0", 26))))
				if errors.Is(err, ErrBusy) {
					busy <- err
				}
			})
		}
		synctest.Wait()
		if hashes.Load() != 1+2 || len(busy) != 100-2-10 {
			t.Errorf("%d hashes run, %d were told to come later", hashes.Load()-1, len(busy))
		}
		began := time.Now()
		for range 1000 {
			if _, err := d.Password(t.Context(), present("ann@example.org", cached)); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Token(t.Context(), present("ann@example.org", token)); err != nil {
				t.Fatal(err)
			}
		}
		if hashes.Load() != 3 || !time.Now().Equal(began) {
			t.Errorf("known sign-ins hashed %d times and waited %v", hashes.Load()-3, time.Since(began))
		}
		synctest.Wait()
		<-time.After(d.o.Wait) // those in the queue give up before Postfix does
		synctest.Wait()
		if len(busy) != 100-2 {
			t.Errorf("%d gave up", len(busy))
		}
		close(release)
		wg.Wait()
	})
}

// TestOneSelectorFlood: wrong secrets for one selector take one place among the
// hashers, so that others' first sign-ins go on.
func TestOneSelectorFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.person(t, "ann", "ann@example.org")
		_, attacked := store.appPassword(t, "ann", nil)
		other, _ := store.appPassword(t, "ann", nil)
		d := New(Options{Store: store, Hashers: 2})
		release, slow := make(chan struct{}), d.matches
		d.matches = func(hash, password string) (bool, error) {
			if strings.HasPrefix(password, attacked) {
				<-release
			}
			return slow(hash, password)
		}
		var wg sync.WaitGroup
		for n := range 20 {
			wg.Go(func() {
				_, err := d.Password(t.Context(), present("ann@example.org", secret.New(fmt.Sprintf("%s%026d", attacked, n))))
				if reasonOf(err) != string(ReasonWrong) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := d.Password(t.Context(), present("ann@example.org", other)); err != nil {
			t.Errorf("another app password during the flood: %v", err)
		}
		close(release)
		wg.Wait()
	})
}

// TestNewAppPassword: form, entropy as far as a test can see it, and the hash.
func TestNewAppPassword(t *testing.T) {
	password, selector, hash, err := NewAppPassword(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := password.Reveal()
	if len(text) != written || !strings.HasPrefix(text, selector+"-") || len(selector) != selectorLength {
		t.Errorf("%q, selector %q", text, selector)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s", hash)
	}
	if ok, err := matches(hash, text); !ok || err != nil {
		t.Errorf("its own hash does not match: %v", err)
	}
	if _, _, _, err := NewAppPassword(strings.NewReader("short")); err == nil {
		t.Error("made of too little randomness")
	}
	if _, _, _, err := (Cost{Memory: 1 << 30, Time: 1, Threads: 1}).NewAppPassword(rand.Reader); err == nil {
		t.Error("made at a cost that is not accepted back")
	}
	seen := map[string]bool{}
	var perSymbol [256]int
	for range 2000 {
		p, s, _, err := (Cost{Memory: 8, Time: 1, Threads: 1}).NewAppPassword(rand.Reader)
		if err != nil || seen[p.Reveal()] {
			t.Fatalf("%q again, %v", s, err)
		}
		seen[p.Reveal()] = true
		for _, c := range []byte(p.Reveal()) {
			perSymbol[c]++
		}
	}
	for _, c := range []byte(alphabet) { // 2,000 each; 1,500 is eleven deviations away
		if perSymbol[c] < 1500 || perSymbol[c] > 2500 {
			t.Errorf("symbol %c came %d times of 64,000", c, perSymbol[c])
		}
	}
}
