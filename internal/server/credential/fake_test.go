package credential

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

var errAway = errors.New("connection refused")

// fakeStore is a database that several doors can share, that can be away, and that
// counts what it is asked.
type fakeStore struct {
	mu          sync.Mutex
	generation  int64
	away        error
	hang        chan struct{} // when set, questions wait for it or their context
	credentials map[string]identity.Credential
	people      map[identity.PersonID]identity.Person
	addresses   map[identity.PersonID][]identity.Address
	tokens      map[identity.Digest]identity.AccessToken
	grants      map[identity.GrantID]identity.Grant
	used        []identity.Use
	batches     int

	asked atomic.Int64 // for credentials and tokens
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		generation: 1, credentials: map[string]identity.Credential{}, people: map[identity.PersonID]identity.Person{},
		addresses: map[identity.PersonID][]identity.Address{}, tokens: map[identity.Digest]identity.AccessToken{},
		grants: map[identity.GrantID]identity.Grant{},
	}
}

// enter locks the store, or returns why it does not answer.
func (f *fakeStore) enter(ctx context.Context) error {
	f.mu.Lock()
	if hang := f.hang; hang != nil {
		f.mu.Unlock()
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.mu.Lock()
	}
	if f.away != nil {
		defer f.mu.Unlock()
		return f.away
	}
	return nil
}

// change is a committed transaction that takes rights away.
func (f *fakeStore) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	f.generation++
}

func (f *fakeStore) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fakeStore) CredentialBySelector(ctx context.Context, selector string) (identity.Credential, identity.Person, error) {
	f.asked.Add(1)
	if err := f.enter(ctx); err != nil {
		return identity.Credential{}, identity.Person{}, err
	}
	defer f.mu.Unlock()
	c, ok := f.credentials[selector]
	if !ok {
		return c, identity.Person{}, identity.ErrNotFound
	}
	return c, f.people[c.Person], nil
}

func (f *fakeStore) AddressesOf(ctx context.Context, person identity.PersonID) ([]identity.Address, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return f.addresses[person], nil
}

func (f *fakeStore) Generation(ctx context.Context) (int64, error) {
	if err := f.enter(ctx); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	return f.generation, nil
}

func (f *fakeStore) Used(ctx context.Context, uses []identity.Use) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.used = append(f.used, uses...)
	f.batches++
	return nil
}

func (f *fakeStore) AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error) {
	f.asked.Add(1)
	if err := f.enter(ctx); err != nil {
		return identity.AccessToken{}, identity.Grant{}, err
	}
	defer f.mu.Unlock()
	token, ok := f.tokens[digest]
	if !ok {
		return token, identity.Grant{}, identity.ErrNotFound
	}
	return token, f.grants[token.Grant], nil
}

func (f *fakeStore) Person(ctx context.Context, id identity.PersonID) (identity.Person, error) {
	if err := f.enter(ctx); err != nil {
		return identity.Person{}, err
	}
	defer f.mu.Unlock()
	p, ok := f.people[id]
	if !ok {
		return p, identity.ErrNotFound
	}
	return p, nil
}

// written is what was told of last uses.
func (f *fakeStore) written() (batches int, used []identity.Use) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.batches, slices.Clone(f.used)
}

// cheap is a cost that tests can afford.
func cheap() Cost { return Cost{Memory: 64, Time: 1, Threads: 1} }

// person adds ann or another.
func (f *fakeStore) person(t testing.TB, id identity.PersonID, address string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.people[id] = identity.Person{ID: id, Address: address}
}

// appPassword adds an app password and returns it.
func (f *fakeStore) appPassword(t testing.TB, person identity.PersonID, change func(*identity.Credential)) (secret.String, string) {
	t.Helper()
	password, selector, hash, err := cheap().NewAppPassword(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := identity.Credential{ID: identity.CredentialID("c-" + selector), Person: person, Selector: selector, Hash: hash, Name: "phone"}
	if change != nil {
		change(&c)
	}
	f.set(func() { f.credentials[selector] = c })
	return password, selector
}

// token adds an access token and returns it.
func (f *fakeStore) token(t testing.TB, person identity.PersonID, expires time.Time, scopes ...string) secret.String {
	t.Helper()
	text := tokenPrefix + (rand.Text() + rand.Text())[:43]
	digest := identity.DigestOf(text)
	grant := identity.Grant{ID: identity.GrantID("g-" + text[5:15]), Person: person, Scopes: scopes}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grants[grant.ID] = grant
	f.tokens[digest] = identity.AccessToken{Digest: digest, Grant: grant.ID, Scopes: scopes, Expires: expires}
	return secret.New(text)
}

// count makes the door count its slow hashes.
func count(d *Door) *atomic.Int64 {
	var n atomic.Int64
	slow := d.matches
	d.matches = func(hash, password string) (bool, error) {
		n.Add(1)
		return slow(hash, password)
	}
	return &n
}

func present(user string, password secret.String) Presented {
	return Presented{User: user, Secret: password, Protocol: identity.IMAP, Remote: netip.MustParseAddr("192.0.2.7"), Mechanism: "PLAIN", Secured: true}
}

// reasonOf is the reason of a refusal, "" for a yes, or the error's text.
func reasonOf(err error) string {
	var refused *Refused
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return string(refused.Reason)
	}
	return err.Error()
}

func textLog(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

func printed(v any) string { return fmt.Sprintf("%v %+v %#v", v, v, v) }
