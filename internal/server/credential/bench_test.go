package credential

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// numbered is a store of any number of credentials that holds none of them: row n has
// the selector n. What is measured is the door and not a map of a million rows.
type numbered struct{}

func (numbered) CredentialBySelector(_ context.Context, selector string) (identity.Credential, identity.Person, error) {
	if selector[0] == 'z' {
		return identity.Credential{}, identity.Person{}, identity.ErrNotFound
	}
	return identity.Credential{ID: identity.CredentialID(selector), Person: identity.PersonID(selector), Selector: selector, Hash: "$" + selector},
		identity.Person{ID: identity.PersonID(selector), Address: "p" + selector + "@example.org"}, nil
}
func (numbered) AddressesOf(context.Context, identity.PersonID) ([]identity.Address, error) {
	return nil, nil
}
func (numbered) Generation(context.Context) (int64, error)  { return 1, nil }
func (numbered) Used(context.Context, []identity.Use) error { return nil }
func (numbered) AccessToken(_ context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error) {
	return identity.AccessToken{Digest: digest, Scopes: []string{ScopeMail}, Expires: time.Now().Add(time.Hour)},
		identity.Grant{ID: identity.GrantID(digest[:4]), Person: "ann"}, nil
}
func (numbered) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	return identity.Person{ID: id, Address: "ann@example.org"}, nil
}

func door(b *testing.B, entries int) *Door {
	b.Helper()
	d := New(Options{Store: numbered{}, Tokens: numbered{}, Entries: entries, Poll: time.Hour})
	d.matches = func(string, string) (bool, error) { return true, nil }
	d.poll(b.Context())
	return d
}

func row(n int) Presented {
	selector := fmt.Sprintf("%06d", n)
	return Presented{User: "p" + selector + "@example.org", Secret: secret.New(selector + "4hw8t9n3xc0v5gbe1r7dzk2y6p"), Protocol: identity.IMAP, Remote: netip.MustParseAddr("192.0.2.7"), Secured: true}
}

// BenchmarkCached is a sign-in that is known, among as many as there are.
func BenchmarkCached(b *testing.B) {
	for _, total := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(total), func(b *testing.B) {
			d := door(b, total)
			attempts := make([]Presented, 1000)
			for n := range total {
				p := row(n)
				if _, err := d.Password(b.Context(), p); err != nil {
					b.Fatal(err)
				}
				if n%(total/1000) == 0 {
					attempts[n/(total/1000)] = p
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Password(b.Context(), attempts[i%1000]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWrongSelector is a guess in the right form: each another selector.
func BenchmarkWrongSelector(b *testing.B) {
	for _, total := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(total), func(b *testing.B) {
			d := door(b, total)
			for n := range total {
				if _, err := d.Password(b.Context(), row(n)); err != nil {
					b.Fatal(err)
				}
			}
			attempts := make([]Presented, 100_000)
			for n := range attempts {
				attempts[n] = row(n)
				attempts[n].Secret = secret.New("z" + attempts[n].Secret.Reveal()[1:])
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Password(b.Context(), attempts[i%len(attempts)]); err == nil {
					b.Fatal("in")
				}
			}
		})
	}
}

// BenchmarkWrongForm is a guess as guessers make them.
func BenchmarkWrongForm(b *testing.B) {
	d := door(b, 1000)
	p := row(1)
	p.Secret = secret.New("Summer2026!")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Password(b.Context(), p); err == nil {
			b.Fatal("in")
		}
	}
}

// BenchmarkToken is a token that is known, among as many as there are.
func BenchmarkToken(b *testing.B) {
	for _, total := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(total), func(b *testing.B) {
			d := door(b, total)
			attempts := make([]Presented, 1000)
			for n := range total {
				p := Presented{Secret: secret.New(fmt.Sprintf("llat_%043d", n)), Protocol: identity.IMAP}
				if _, err := d.Token(b.Context(), p); err != nil {
					b.Fatal(err)
				}
				attempts[n%1000] = p
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Token(b.Context(), attempts[i%1000]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirst is the one slow hash.
func BenchmarkFirst(b *testing.B) {
	password, _, hash, err := NewAppPassword(zero{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := matches(hash, password.Reveal()); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }
