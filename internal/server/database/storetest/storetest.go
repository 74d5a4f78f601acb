// Package storetest holds a store of the server's nouns to the contract that
// internal/server/database writes down. SQLite and PostgreSQL run it, and so may any fake
// that stands for them in tests of other rooms. The stores of the authorization server have
// a contract of their own, internal/server/authserver/storetest.
package storetest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Store is all that the server's rooms need kept, but for the authorization server.
type Store interface {
	People
	Factors
	Mailboxes
	Trail
	Provision
	MailSessions
	OutsideRights
	Generation(ctx context.Context) (int64, error)
	Sweep(ctx context.Context, before time.Time) error
}

// People are persons, their bindings and their sessions.
type People interface {
	AddPerson(ctx context.Context, p identity.Person) error
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
	People(ctx context.Context, after string, limit int) ([]identity.Person, error)
	UpdatePerson(ctx context.Context, p identity.Person) error
	DisablePerson(ctx context.Context, id identity.PersonID, at time.Time, reason string) error
	EnablePerson(ctx context.Context, id identity.PersonID) error
	DeletePerson(ctx context.Context, id identity.PersonID) error

	Bind(ctx context.Context, b identity.Binding) error
	Binding(ctx context.Context, issuer, subject string) (identity.Binding, error)
	Bindings(ctx context.Context, person identity.PersonID) ([]identity.Binding, error)
	Unbind(ctx context.Context, issuer, subject string) error
	Confirm(ctx context.Context, issuer, subject string, at time.Time) error

	AddSession(ctx context.Context, s identity.Session) error
	Session(ctx context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error)
	TouchSession(ctx context.Context, id identity.SessionID, at time.Time) error
	EndSession(ctx context.Context, id identity.SessionID) error
	EndSessions(ctx context.Context, person identity.PersonID) error
	EndUpstream(ctx context.Context, issuerAndSid string) ([]identity.PersonID, error)
	Sessions(ctx context.Context, person identity.PersonID) ([]identity.Session, error)

	Admins(ctx context.Context) ([]identity.Person, error)
}

// Factors are passkeys, authenticator apps and recovery codes.
type Factors interface {
	AddPasskey(ctx context.Context, k identity.Passkey) error
	Passkey(ctx context.Context, id []byte) (identity.Passkey, identity.Person, error)
	UsePasskey(ctx context.Context, use identity.PasskeyUse) error
	RemovePasskey(ctx context.Context, person identity.PersonID, id []byte) error
	PutTOTP(ctx context.Context, o identity.TOTP) error
	UseTOTP(ctx context.Context, person identity.PersonID, step int64, at time.Time) error
	RemoveTOTP(ctx context.Context, person identity.PersonID) error
	PutRecovery(ctx context.Context, person identity.PersonID, codes []identity.Digest, at time.Time) error
	UseRecovery(ctx context.Context, person identity.PersonID, code identity.Digest, at time.Time) error
	RemoveFactors(ctx context.Context, person identity.PersonID) error
	Factors(ctx context.Context, person identity.PersonID) (identity.Factors, error)
}

// Mailboxes are addresses and app passwords.
type Mailboxes interface {
	PutAddress(ctx context.Context, a identity.Address) error
	Address(ctx context.Context, address string) (identity.Address, error)
	Addresses(ctx context.Context, after string, limit int) ([]identity.Address, error)
	AddressesOf(ctx context.Context, person identity.PersonID) ([]identity.Address, error)
	DeleteAddress(ctx context.Context, address string) error

	AddCredential(ctx context.Context, c identity.Credential) error
	CredentialBySelector(ctx context.Context, selector string) (identity.Credential, identity.Person, error)
	CredentialByName(ctx context.Context, person identity.PersonID, name string) (identity.Credential, error)
	Credentials(ctx context.Context, person identity.PersonID) ([]identity.Credential, error)
	Expiring(ctx context.Context, after, until time.Time) ([]identity.Credential, error)
	RevokeCredential(ctx context.Context, id identity.CredentialID, at time.Time, reason string) error
	Used(ctx context.Context, uses []identity.Use) error
}

// Trail is what is noted, counted and taken once.
type Trail interface {
	AddEvent(ctx context.Context, e identity.Event) error
	AddNewEvents(ctx context.Context, events []identity.Event) (added []bool, err error)
	Events(ctx context.Context, filter identity.EventFilter) ([]identity.Event, error)
	PutBan(ctx context.Context, b identity.Ban) error
	DeleteBan(ctx context.Context, network netip.Prefix) error
	Bans(ctx context.Context) ([]identity.Ban, error)
	Count(ctx context.Context, key string, window time.Time, add int) (int, error)
	Counts(ctx context.Context, keys []string, window time.Time) (map[string]int, error)
	SweepCounts(ctx context.Context, before time.Time) error
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
	ReadOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Now is the clock that the store under test must be given.
func Now() time.Time { return At(100) }

// At is a number of seconds after a fixed moment.
func At(seconds int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// Run checks a store; fresh returns an empty one whose clock is Now.
func Run(t *testing.T, fresh func(t *testing.T) Store) {
	for name, check := range map[string]func(*checker){
		"nothing is there":                         (*checker).absent,
		"nouns come back as they were":             (*checker).roundTrips,
		"a person is one and their address is":     (*checker).persons,
		"lists are pages in one order":             (*checker).pages,
		"a new address makes the old an alias":     (*checker).rename,
		"a disabled person is out until enabled":   (*checker).disable,
		"a deleted person leaves nothing behind":   (*checker).deletePerson,
		"a binding is never taken over":            (*checker).bindings,
		"addresses have owners":                    (*checker).addresses,
		"app passwords have one name and one way":  (*checker).credentials,
		"a login name is nobody's address":         (*checker).loginNames,
		"the first reason stays":                   (*checker).firstReason,
		"what ends by itself":                      (*checker).expiring,
		"last uses come in any order":              (*checker).uses,
		"sessions end":                             (*checker).sessions,
		"events are paged by time and id":          (*checker).events,
		"bans are one a network":                   (*checker).bans,
		"counters are windows":                     (*checker).counters,
		"once is once":                             (*checker).onces,
		"text no database keeps":                   (*checker).badText,
		"the generation tells of lost rights":      (*checker).generation,
		"a sweep takes what is over":               (*checker).sweep,
		"holds are words of several":               (*checker).holds,
		"users are people as directories see them": (*checker).users,
		"users change whole or not":                (*checker).userChanges,
		"a hold outlives a directory's removal":    (*checker).held,
		"what is held is listed and forgotten":     (*checker).heldListed,
		"a lease is one holder's":                  (*checker).leases,
		"a hook runs once an event":                (*checker).hooks,
		"leavers, looks and sealed grants":         (*checker).leavers,
		"departures count by time":                 (*checker).departures,
		"factors are proved once":                  (*checker).factors,
		"factors of the disabled and deleted":      (*checker).factorsEnd,
		"what is done together is one":             (*checker).together,
		"a mail session stands on two things":      (*checker).mailSessions,
		"a mail session ends alone or with all":    (*checker).mailSessionsEnd,
		"clients of other issuers begin once":      (*checker).outside,
	} {
		t.Run(name, func(t *testing.T) { check(&checker{T: t, s: fresh(t)}) })
	}
}

// A checker is one check's store with the words that checks are written in.
type checker struct {
	*testing.T
	s Store
}

func (c *checker) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *checker) want(what string, err, target error) {
	c.Helper()
	if !errors.Is(err, target) {
		c.Errorf("%s: got %v, want %v", what, err, target)
	}
}

// same compares nouns; an empty list and none are the same.
func (c *checker) same(what string, got, want any) {
	c.Helper()
	plain := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if diff := cmp.Diff(want, got, plain); diff != "" {
		c.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// got takes the error out of an answer: got(call())(c).
func got[T any](value T, err error) func(*checker) T {
	return func(c *checker) T {
		c.Helper()
		c.must(err)
		return value
	}
}

func digest(text string) identity.Digest { return identity.DigestOf(text) }

func person(name string) identity.Person {
	return identity.Person{ID: identity.PersonID(name), Address: name + "@example.org", Name: strings.ToUpper(name), Created: At(0)}
}

func credential(id, owner, name string) identity.Credential {
	return identity.Credential{ID: identity.CredentialID(id), Person: identity.PersonID(owner), Selector: "sel" + id, Hash: "$argon2id$" + id,
		Name: name, Label: "The " + name, Created: At(0)}
}

func session(name, owner string) identity.Session {
	return identity.Session{ID: digest(name), Person: identity.PersonID(owner), How: "passkey", Created: At(1), Seen: At(1), Expires: At(60)}
}

func (c *checker) absent() {
	ctx, s := c.Context(), c.s
	_, err := s.Person(ctx, "x")
	c.want("Person", err, identity.ErrNotFound)
	_, err = s.PersonByAddress(ctx, "x@example.org")
	c.want("PersonByAddress", err, identity.ErrNotFound)
	c.want("UpdatePerson", s.UpdatePerson(ctx, person("x")), identity.ErrNotFound)
	c.want("DisablePerson", s.DisablePerson(ctx, "x", At(1), ""), identity.ErrNotFound)
	c.want("EnablePerson", s.EnablePerson(ctx, "x"), identity.ErrNotFound)
	c.want("DeletePerson", s.DeletePerson(ctx, "x"), identity.ErrNotFound)
	_, err = s.Binding(ctx, "https://op.test", "1")
	c.want("Binding", err, identity.ErrNotFound)
	c.want("Bind", s.Bind(ctx, identity.Binding{Issuer: "i", Subject: "s", Person: "x"}), identity.ErrNotFound)
	c.want("Unbind", s.Unbind(ctx, "i", "s"), identity.ErrNotFound)
	c.want("Confirm", s.Confirm(ctx, "i", "s", At(1)), identity.ErrNotFound)
	_, err = s.Address(ctx, "x@example.org")
	c.want("Address", err, identity.ErrNotFound)
	c.want("DeleteAddress", s.DeleteAddress(ctx, "x@example.org"), identity.ErrNotFound)
	c.want("AddCredential", s.AddCredential(ctx, credential("1", "x", "phone")), identity.ErrNotFound)
	_, _, err = s.CredentialBySelector(ctx, "x")
	c.want("CredentialBySelector", err, identity.ErrNotFound)
	_, err = s.CredentialByName(ctx, "x", "phone")
	c.want("CredentialByName", err, identity.ErrNotFound)
	c.want("RevokeCredential", s.RevokeCredential(ctx, "x", At(1), ""), identity.ErrNotFound)
	c.want("AddSession", s.AddSession(ctx, session("s", "x")), identity.ErrNotFound)
	_, _, err = s.Session(ctx, digest("s"), At(1))
	c.want("Session", err, identity.ErrNotFound)
	c.want("TouchSession", s.TouchSession(ctx, digest("s"), At(1)), identity.ErrNotFound)
	c.want("AddPasskey", s.AddPasskey(ctx, passkey("k", "x")), identity.ErrNotFound)
	_, _, err = s.Passkey(ctx, []byte("k"))
	c.want("Passkey", err, identity.ErrNotFound)
	_, _, err = s.Passkey(ctx, nil)
	c.want("Passkey without id", err, identity.ErrNotFound)
	c.want("UsePasskey", s.UsePasskey(ctx, identity.PasskeyUse{ID: []byte("k")}), identity.ErrNotFound)
	c.want("RemovePasskey", s.RemovePasskey(ctx, "x", []byte("k")), identity.ErrNotFound)
	c.want("PutTOTP", s.PutTOTP(ctx, identity.TOTP{Person: "x", Sealed: []byte("s")}), identity.ErrNotFound)
	c.want("UseTOTP", s.UseTOTP(ctx, "x", 1, At(1)), identity.ErrNotFound)
	c.want("RemoveTOTP", s.RemoveTOTP(ctx, "x"), identity.ErrNotFound)
	c.want("PutRecovery", s.PutRecovery(ctx, "x", nil, At(1)), identity.ErrNotFound)
	c.want("UseRecovery", s.UseRecovery(ctx, "x", digest("r"), At(1)), identity.ErrNotFound)
	c.must(s.RemoveFactors(ctx, "x"))
	c.same("Factors", got(s.Factors(ctx, "x"))(c), identity.Factors{})
	c.same("Admins", got(s.Admins(ctx))(c), []identity.Person(nil))
	_, err = s.ReadOnce(ctx, digest("x"), "invitation", At(1))
	c.want("ReadOnce", err, identity.ErrNotFound)
	c.want("DeleteBan", s.DeleteBan(ctx, netip.MustParsePrefix("192.0.2.0/24")), identity.ErrNotFound)
	_, err = s.TakeOnce(ctx, digest("x"), "invitation", At(1))
	c.want("TakeOnce", err, identity.ErrNotFound)
	// To end or to note what is not there is no error: it is as the caller wants it.
	c.must(s.EndSession(ctx, digest("s")))
	c.must(s.EndSessions(ctx, "x"))
	_, err = s.EndUpstream(ctx, "x")
	c.must(err)
	c.must(s.Used(ctx, []identity.Use{{Credential: "x", At: At(1)}}))
	c.same("Credentials", got(s.Credentials(ctx, "x"))(c), []identity.Credential(nil))
	c.same("AddressesOf", got(s.AddressesOf(ctx, "x"))(c), []identity.Address(nil))
}
