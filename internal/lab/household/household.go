// Package household keeps people, addresses and app passwords in memory, for tests of
// what answers mail servers. It is the store behind credential.Door and senders.Book,
// and it can go away: then every question fails, as with a database that is down.
package household

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// ErrAway is what an absent store says.
var ErrAway = errors.New("household is away")

// A Household is a store. Its methods may be called from everywhere at once.
type Household struct {
	mu          sync.Mutex
	away        bool
	generation  int64
	people      map[identity.PersonID]identity.Person
	addresses   map[string]identity.Address
	credentials map[identity.CredentialID]identity.Credential
	tokens      map[identity.Digest]identity.AccessToken
	grants      map[identity.GrantID]identity.Grant
	counts      map[string]int
}

// New returns an empty household.
func New() *Household {
	return &Household{
		people: map[identity.PersonID]identity.Person{}, addresses: map[string]identity.Address{},
		credentials: map[identity.CredentialID]identity.Credential{}, counts: map[string]int{},
		tokens: map[identity.Digest]identity.AccessToken{}, grants: map[identity.GrantID]identity.Grant{},
	}
}

// SetAway lets the store fail, or answer again.
func (h *Household) SetAway(away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = away
}

// PutPerson adds or replaces a person.
func (h *Household) PutPerson(p identity.Person) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.generation++
	h.people[p.ID] = p
}

// PutAddress adds or replaces an address.
func (h *Household) PutAddress(a identity.Address) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.generation++
	h.addresses[a.Address] = a
}

// NewPassword makes an app password for c.Person with the limits of c, at a cost that
// tests can afford, and returns it.
func (h *Household) NewPassword(c identity.Credential) (string, error) {
	password, selector, hash, err := credential.Cost{Memory: 64, Time: 1, Threads: 1}.NewAppPassword(rand.Reader)
	if err != nil {
		return "", err
	}
	c.Selector, c.Hash = selector, hash
	h.mu.Lock()
	defer h.mu.Unlock()
	h.credentials[c.ID] = c
	return password.Reveal(), nil
}

// Revoke ends an app password.
func (h *Household) Revoke(id identity.CredentialID, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.credentials[id]
	c.Revoked = at
	h.credentials[id] = c
	h.generation++
}

// NewToken makes an access token with the scopes.
func (h *Household) NewToken(person identity.PersonID, expires time.Time, scopes ...string) string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	text := "llat_" + base64.RawURLEncoding.EncodeToString(raw[:])
	h.mu.Lock()
	defer h.mu.Unlock()
	id := identity.GrantID(fmt.Sprintf("g%d", len(h.grants)+1))
	h.grants[id] = identity.Grant{ID: id, Person: person, Client: "mutt", Scopes: scopes}
	h.tokens[identity.DigestOf(text)] = identity.AccessToken{Digest: identity.DigestOf(text), Grant: id, Scopes: scopes, Expires: expires}
	return text
}

// RevokeToken ends an access token.
func (h *Household) RevokeToken(text string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := h.tokens[identity.DigestOf(text)]
	token.Revoked = at
	h.tokens[token.Digest] = token
	h.generation++
}

// enter takes the lock, unless the store is away.
func (h *Household) enter() error {
	h.mu.Lock()
	if h.away {
		h.mu.Unlock()
		return ErrAway
	}
	return nil
}

// Person implements senders.Store and credential.Tokens.
func (h *Household) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	if err := h.enter(); err != nil {
		return identity.Person{}, err
	}
	defer h.mu.Unlock()
	return find(h.people, id)
}

// PersonByAddress implements senders.Store.
func (h *Household) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	if err := h.enter(); err != nil {
		return identity.Person{}, err
	}
	defer h.mu.Unlock()
	for _, p := range h.people {
		if p.Address == address {
			return p, nil
		}
	}
	return identity.Person{}, fmt.Errorf("person: %w", identity.ErrNotFound)
}

// Address implements senders.Store.
func (h *Household) Address(_ context.Context, address string) (identity.Address, error) {
	if err := h.enter(); err != nil {
		return identity.Address{}, err
	}
	defer h.mu.Unlock()
	return find(h.addresses, address)
}

// AddressesOf implements credential.Store.
func (h *Household) AddressesOf(_ context.Context, person identity.PersonID) ([]identity.Address, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	var list []identity.Address
	for _, a := range h.addresses {
		if slices.ContainsFunc(a.Owners, func(o identity.Owner) bool { return o.Person == person }) {
			list = append(list, a)
		}
	}
	return list, nil
}

// Credentials implements senders.Store.
func (h *Household) Credentials(_ context.Context, person identity.PersonID) ([]identity.Credential, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	var list []identity.Credential
	for _, c := range h.credentials {
		if c.Person == person {
			list = append(list, c)
		}
	}
	return list, nil
}

// GrantsOf implements senders.Store.
func (h *Household) GrantsOf(_ context.Context, person identity.PersonID) ([]identity.Grant, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	var list []identity.Grant
	for _, g := range h.grants {
		if g.Person == person {
			list = append(list, g)
		}
	}
	return list, nil
}

// CredentialBySelector implements credential.Store.
func (h *Household) CredentialBySelector(_ context.Context, selector string) (identity.Credential, identity.Person, error) {
	if err := h.enter(); err != nil {
		return identity.Credential{}, identity.Person{}, err
	}
	defer h.mu.Unlock()
	for _, c := range h.credentials {
		if c.Selector == selector {
			person, err := find(h.people, c.Person)
			return c, person, err
		}
	}
	return identity.Credential{}, identity.Person{}, fmt.Errorf("credential: %w", identity.ErrNotFound)
}

// Generation implements credential.Store.
func (h *Household) Generation(context.Context) (int64, error) {
	if err := h.enter(); err != nil {
		return 0, err
	}
	defer h.mu.Unlock()
	return h.generation, nil
}

// Used implements credential.Store.
func (h *Household) Used(context.Context, []identity.Use) error { return nil }

// AccessToken implements credential.Tokens.
func (h *Household) AccessToken(_ context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error) {
	if err := h.enter(); err != nil {
		return identity.AccessToken{}, identity.Grant{}, err
	}
	defer h.mu.Unlock()
	token, err := find(h.tokens, digest)
	return token, h.grants[token.Grant], err
}

// Count implements senders.Counter.
func (h *Household) Count(_ context.Context, key string, window time.Time, add int) (int, error) {
	if err := h.enter(); err != nil {
		return 0, err
	}
	defer h.mu.Unlock()
	key += " " + window.Format(time.RFC3339)
	h.counts[key] += add
	return h.counts[key], nil
}

func find[K comparable, V any](all map[K]V, key K) (V, error) {
	v, ok := all[key]
	if !ok {
		return v, identity.ErrNotFound
	}
	return v, nil
}
