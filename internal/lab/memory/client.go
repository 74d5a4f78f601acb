package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// AddClient keeps a program that an administrator enters, with the consent that it acts by
// when there is one.
func (s *Store) AddClient(ctx context.Context, c identity.Client, consent *identity.Grant) error {
	defer s.lock(ctx)()
	if c.ID == "" || c.Name == "" {
		return fmt.Errorf("client: %w", identity.ErrInvalid)
	}
	if _, taken := s.clients[c.ID]; taken {
		return fmt.Errorf("client: %w", identity.ErrExists)
	}
	if consent != nil {
		if _, taken := s.grants[consent.ID]; taken {
			return fmt.Errorf("grant: %w", identity.ErrExists)
		}
		s.grants[consent.ID] = cloneGrant(*consent)
	}
	s.clients[c.ID] = c
	return nil
}

// Client finds a program that an administrator entered.
func (s *Store) Client(ctx context.Context, id identity.ClientID) (identity.Client, error) {
	defer s.lock(ctx)()
	c, err := find(s.clients, id, "client")
	c.Verified = true
	return c, err
}

// Clients lists them by id.
func (s *Store) Clients(ctx context.Context) ([]identity.Client, error) {
	defer s.lock(ctx)()
	var all []identity.Client
	for _, c := range s.clients {
		c.Verified = true
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b identity.Client) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, nil
}

// DisableClient keeps a program out and ends what people allowed it; the first reason stays.
func (s *Store) DisableClient(ctx context.Context, id identity.ClientID, at time.Time, reason string) error {
	defer s.lock(ctx)()
	c, err := find(s.clients, id, "client")
	if err != nil {
		return err
	}
	if c.Disabled.IsZero() {
		c.Disabled, c.Reason = at, reason
		s.clients[id] = c
	}
	s.endGrants(id, at, reason)
	return nil
}

// DeleteClient forgets a program and ends what people allowed it.
func (s *Store) DeleteClient(ctx context.Context, id identity.ClientID, at time.Time) error {
	defer s.lock(ctx)()
	if _, err := find(s.clients, id, "client"); err != nil {
		return err
	}
	delete(s.clients, id)
	s.endGrants(id, at, "the program was removed")
	return nil
}

func (s *Store) endGrants(id identity.ClientID, at time.Time, reason string) {
	for key, grant := range s.grants {
		if grant.Client == id && grant.Revoked.IsZero() {
			grant.Revoked, grant.Reason = at, reason
			s.grants[key] = grant
		}
	}
}

// ClientGrants lists the grants in force of a program.
func (s *Store) ClientGrants(ctx context.Context, id identity.ClientID) ([]identity.Grant, error) {
	defer s.lock(ctx)()
	var all []identity.Grant
	for _, grant := range s.grants {
		if grant.Client == id && grant.Revoked.IsZero() {
			all = append(all, cloneGrant(grant))
		}
	}
	slices.SortFunc(all, func(a, b identity.Grant) int {
		if order := a.Created.Compare(b.Created); order != 0 {
			return order
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all, nil
}

// EndRegistration remembers that a program that registered itself is no more.
func (s *Store) EndRegistration(ctx context.Context, id identity.ClientID, at time.Time) error {
	defer s.lock(ctx)()
	s.gone[id] = true
	s.endGrants(id, at, "the program deleted its registration")
	return nil
}

// RegistrationEnded reports whether EndRegistration was called for the id.
func (s *Store) RegistrationEnded(ctx context.Context, id identity.ClientID) (bool, error) {
	defer s.lock(ctx)()
	return s.gone[id], nil
}

// AddSigningKey keeps a key of ID tokens; with first only while there is none.
func (s *Store) AddSigningKey(ctx context.Context, key identity.SigningKey, first bool) error {
	defer s.lock(ctx)()
	same := func(other identity.SigningKey) bool { return other.ID == key.ID }
	if first && len(s.keys) > 0 || slices.ContainsFunc(s.keys, same) {
		return fmt.Errorf("signing key: %w", identity.ErrExists)
	}
	s.keys = append(s.keys, key)
	slices.SortFunc(s.keys, func(a, b identity.SigningKey) int {
		if order := a.Active.Compare(b.Active); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return nil
}

// SigningKeys lists all of them, the oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]identity.SigningKey, error) {
	defer s.lock(ctx)()
	return slices.Clone(s.keys), nil
}

// DeleteSigningKey forgets a key.
func (s *Store) DeleteSigningKey(ctx context.Context, id string) error {
	defer s.lock(ctx)()
	before := len(s.keys)
	s.keys = slices.DeleteFunc(s.keys, func(key identity.SigningKey) bool { return key.ID == id })
	if len(s.keys) == before {
		return fmt.Errorf("signing key: %w", identity.ErrNotFound)
	}
	return nil
}

// AddCodeAgain keeps a further code of a grant in force.
func (s *Store) AddCodeAgain(ctx context.Context, code identity.Code) error {
	defer s.lock(ctx)()
	if err := s.inForce(code.Grant); err != nil {
		return err
	}
	if _, taken := s.codes[code.Digest]; taken {
		return fmt.Errorf("code: %w", identity.ErrExists)
	}
	s.codes[code.Digest] = code
	return nil
}

// GrantsOf lists a person's grants, the newest first.
func (s *Store) GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error) {
	defer s.lock(ctx)()
	var all []identity.Grant
	for _, grant := range s.grants {
		if grant.Person == person {
			all = append(all, cloneGrant(grant))
		}
	}
	slices.SortFunc(all, func(a, b identity.Grant) int {
		if order := b.Created.Compare(a.Created); order != 0 {
			return order
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all, nil
}
