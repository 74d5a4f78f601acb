// Package memory keeps the authorization server's nouns in memory, for tests and for
// `make try`. It follows the contract of package storetest as the databases will.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Store holds everything under one lock: each method is one transaction, unless it is called
// inside of one.
type Store struct {
	mu sync.Mutex
	nouns
}

// nouns are what a store holds. What is behind a key is replaced, never changed.
type nouns struct {
	people  map[identity.PersonID]identity.Person
	grants  map[identity.GrantID]identity.Grant
	codes   map[identity.Digest]identity.Code
	access  map[identity.Digest]identity.AccessToken
	refresh map[identity.Digest]identity.RefreshToken
	devices map[identity.Digest]identity.DeviceRequest
	clients map[identity.ClientID]identity.Client
	gone    map[identity.ClientID]bool
	keys    []identity.SigningKey
}

// New returns an empty store.
func New() *Store {
	return &Store{nouns: nouns{
		people:  map[identity.PersonID]identity.Person{},
		grants:  map[identity.GrantID]identity.Grant{},
		codes:   map[identity.Digest]identity.Code{},
		access:  map[identity.Digest]identity.AccessToken{},
		refresh: map[identity.Digest]identity.RefreshToken{},
		devices: map[identity.Digest]identity.DeviceRequest{},
		clients: map[identity.ClientID]identity.Client{},
		gone:    map[identity.ClientID]bool{},
	}}
}

// inside marks the context of a transaction.
type inside struct{ s *Store }

// lock takes the lock, which a transaction has already.
func (s *Store) lock(ctx context.Context) (unlock func()) {
	if ctx.Value(inside{s}) != nil {
		return func() {}
	}
	s.mu.Lock()
	return s.mu.Unlock
}

// Together makes one transaction of what do asks of the store with the context that it is
// given: an error of do undoes it.
func (s *Store) Together(ctx context.Context, do func(ctx context.Context) error) error {
	defer s.lock(ctx)()
	before := nouns{
		maps.Clone(s.people), maps.Clone(s.grants), maps.Clone(s.codes), maps.Clone(s.access), maps.Clone(s.refresh),
		maps.Clone(s.devices), maps.Clone(s.clients), maps.Clone(s.gone), slices.Clone(s.keys),
	}
	err := do(context.WithValue(ctx, inside{s}, true))
	if err != nil {
		s.nouns = before
	}
	return err
}

// PutPerson adds or replaces a person.
func (s *Store) PutPerson(person identity.Person) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.people[person.ID] = person
}

// Person finds a person.
func (s *Store) Person(ctx context.Context, id identity.PersonID) (identity.Person, error) {
	defer s.lock(ctx)()
	return find(s.people, id, "person")
}

// AddCode keeps a consent and the code that stands for it.
func (s *Store) AddCode(ctx context.Context, grant identity.Grant, code identity.Code) error {
	defer s.lock(ctx)()
	if _, taken := s.codes[code.Digest]; taken {
		return fmt.Errorf("code: %w", identity.ErrExists)
	}
	if _, taken := s.grants[grant.ID]; taken {
		return fmt.Errorf("grant: %w", identity.ErrExists)
	}
	s.grants[grant.ID] = cloneGrant(grant)
	s.codes[code.Digest] = code
	return nil
}

// TakeCode marks a code used and returns it as it was before.
func (s *Store) TakeCode(ctx context.Context, digest identity.Digest, at time.Time) (identity.Code, error) {
	defer s.lock(ctx)()
	code, err := find(s.codes, digest, "code")
	if err != nil {
		return code, err
	}
	if code.Used.IsZero() {
		used := code
		used.Used = at
		s.codes[digest] = used
	}
	return code, nil
}

// Issue keeps new tokens of a grant in force; a zero refresh token is none.
func (s *Store) Issue(ctx context.Context, access identity.AccessToken, refresh identity.RefreshToken) error {
	defer s.lock(ctx)()
	if err := s.inForce(access.Grant); err != nil {
		return err
	}
	s.putAccess(access)
	if refresh.Digest != (identity.Digest{}) {
		s.refresh[refresh.Digest] = refresh
	}
	return nil
}

// Rotate spends a refresh token and keeps its successor, once.
func (s *Store) Rotate(ctx context.Context, old identity.Digest, at time.Time, sealed []byte, next identity.RefreshToken, access identity.AccessToken) (identity.RefreshToken, error) {
	defer s.lock(ctx)()
	token, err := find(s.refresh, old, "refresh token")
	if err != nil {
		return token, err
	}
	if err := s.inForce(token.Grant); err != nil {
		return token, err
	}
	if !token.Spent.IsZero() {
		token.Successor = bytes.Clone(token.Successor)
		return token, nil
	}
	spent := token
	spent.Spent, spent.Successor = at, bytes.Clone(sealed)
	s.refresh[old] = spent
	s.refresh[next.Digest] = next
	s.putAccess(access)
	return token, nil
}

// AccessToken finds an access token and its grant.
func (s *Store) AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error) {
	defer s.lock(ctx)()
	token, err := find(s.access, digest, "access token")
	if err != nil {
		return token, identity.Grant{}, err
	}
	grant, err := find(s.grants, token.Grant, "grant")
	return token, cloneGrant(grant), err
}

// RefreshToken finds a refresh token and its grant.
func (s *Store) RefreshToken(ctx context.Context, digest identity.Digest) (identity.RefreshToken, identity.Grant, error) {
	defer s.lock(ctx)()
	token, err := find(s.refresh, digest, "refresh token")
	if err != nil {
		return token, identity.Grant{}, err
	}
	grant, err := find(s.grants, token.Grant, "grant")
	return token, cloneGrant(grant), err
}

// Grant finds a grant.
func (s *Store) Grant(ctx context.Context, id identity.GrantID) (identity.Grant, error) {
	defer s.lock(ctx)()
	grant, err := find(s.grants, id, "grant")
	return cloneGrant(grant), err
}

// RevokeGrant ends a grant and with it its family; the first reason stays.
func (s *Store) RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error {
	defer s.lock(ctx)()
	grant, err := find(s.grants, id, "grant")
	if err != nil {
		return err
	}
	if grant.Revoked.IsZero() {
		grant.Revoked, grant.Reason = at, reason
		s.grants[id] = grant
	}
	return nil
}

// RevokeAccess ends one access token.
func (s *Store) RevokeAccess(ctx context.Context, digest identity.Digest, at time.Time) error {
	defer s.lock(ctx)()
	token, err := find(s.access, digest, "access token")
	if err != nil {
		return err
	}
	if token.Revoked.IsZero() {
		token.Revoked = at
		s.access[digest] = token
	}
	return nil
}

// AddDevice keeps a device request whose user code is free.
func (s *Store) AddDevice(ctx context.Context, request identity.DeviceRequest) error {
	defer s.lock(ctx)()
	for _, other := range s.devices {
		if other.UserCode == request.UserCode && request.Created.Before(other.Expires) {
			return fmt.Errorf("user code: %w", identity.ErrExists)
		}
	}
	request.Scopes = slices.Clone(request.Scopes)
	s.devices[request.Digest] = request
	return nil
}

// FindDevice finds the request that waits under a user code.
func (s *Store) FindDevice(ctx context.Context, userCode identity.Digest, now time.Time) (identity.DeviceRequest, error) {
	defer s.lock(ctx)()
	for _, request := range s.devices {
		if request.UserCode == userCode && now.Before(request.Expires) {
			return request, nil
		}
	}
	return identity.DeviceRequest{}, fmt.Errorf("device request: %w", identity.ErrNotFound)
}

// DecideDevice writes a person's answer: with a grant approved, without denied.
func (s *Store) DecideDevice(ctx context.Context, digest identity.Digest, signedIn time.Time, grant *identity.Grant) error {
	defer s.lock(ctx)()
	request, err := find(s.devices, digest, "device request")
	if err != nil {
		return err
	}
	if request.State != identity.DevicePending {
		return fmt.Errorf("device request: %w", identity.ErrDecided)
	}
	request.State = identity.DeviceDenied
	if grant != nil {
		request.State, request.Grant, request.AuthTime = identity.DeviceApproved, grant.ID, signedIn
		s.grants[grant.ID] = cloneGrant(*grant)
	}
	s.devices[digest] = request
	return nil
}

// PollDevice lets the request note a poll; it returns it as it was before.
func (s *Store) PollDevice(ctx context.Context, digest identity.Digest, client identity.ClientID, at time.Time) (identity.DeviceRequest, bool, error) {
	defer s.lock(ctx)()
	request, err := find(s.devices, digest, "device request")
	if err != nil {
		return request, false, err
	}
	if request.Client != client {
		return identity.DeviceRequest{}, false, fmt.Errorf("device request: %w", identity.ErrNotFound)
	}
	after := request
	tooSoon := after.Poll(at)
	s.devices[digest] = after
	return request, tooSoon, nil
}

// Dump prints everything kept, for tests that look for secrets at rest.
func (s *Store) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%s", s.people, s.grants, s.codes, s.access, s.refresh, s.devices, s.clients, s.keys, s.sealed())
}

// sealed prints the successors as text, so that an unsealed one would be found.
func (s *Store) sealed() []byte {
	order := func(a, b identity.Digest) int { return bytes.Compare(a[:], b[:]) }
	var all []byte
	for _, digest := range slices.SortedFunc(maps.Keys(s.refresh), order) { // one store, one text
		all = append(append(all, s.refresh[digest].Successor...), '\n')
	}
	return all
}

func (s *Store) putAccess(access identity.AccessToken) {
	access.Scopes = slices.Clone(access.Scopes)
	s.access[access.Digest] = access
}

func (s *Store) inForce(id identity.GrantID) error {
	grant, err := find(s.grants, id, "grant")
	if err != nil {
		return err
	}
	if !grant.Revoked.IsZero() {
		return fmt.Errorf("grant: %w", identity.ErrRevoked)
	}
	return nil
}

func find[K comparable, V any](from map[K]V, key K, what string) (V, error) {
	value, ok := from[key]
	if !ok {
		return value, fmt.Errorf("%s: %w", what, identity.ErrNotFound)
	}
	return value, nil
}

func cloneGrant(grant identity.Grant) identity.Grant {
	grant.Scopes = slices.Clone(grant.Scopes)
	return grant
}
