package database_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A model is what a database should be, as maps. Few ids and names are drawn, so that
// operations meet each other.
type model struct {
	people      map[identity.PersonID]identity.Person
	addresses   map[string]identity.Address // what was put
	credentials map[identity.CredentialID]identity.Credential
	sessions    map[identity.SessionID]identity.PersonID
	bindings    map[string]identity.PersonID // by subject
	taken       int64
}

func (m *model) find(id identity.PersonID) (identity.Person, error) {
	p, ok := m.people[id]
	if !ok {
		return p, identity.ErrNotFound
	}
	return p, nil
}

// free reports why a person may not have an address.
func (m *model) free(address string, id identity.PersonID) error {
	for _, c := range m.credentials {
		if c.Person != id && c.Revoked.IsZero() && m.login(c) == address {
			return identity.ErrExists
		}
	}
	if a, ok := m.addresses[address]; ok && (len(a.Owners) == 0 || slices.ContainsFunc(a.Owners, func(o identity.Owner) bool { return o.Person != id })) {
		return identity.ErrExists
	}
	for _, p := range m.people {
		if p.Address == address && p.ID != id {
			return identity.ErrExists
		}
	}
	return nil
}

func (m *model) login(c identity.Credential) string {
	return identity.LoginName(m.people[c.Person].Address, c.Name)
}

func (m *model) isAddress(address string) bool {
	_, put := m.addresses[address]
	for _, p := range m.people {
		put = put || p.Address == address
	}
	return put
}

func (m *model) add(p identity.Person) error {
	if _, ok := m.people[p.ID]; ok || m.free(p.Address, "") != nil {
		return identity.ErrExists
	}
	m.people[p.ID] = p
	return nil
}

func (m *model) update(p identity.Person) error {
	old, err := m.find(p.ID)
	if err != nil {
		return err
	}
	if old.Address != p.Address {
		if err := m.free(p.Address, p.ID); err != nil {
			return err
		}
		for _, c := range m.credentials {
			// Its own alias goes; what is left must not be a login name to be.
			login := identity.LoginName(p.Address, c.Name)
			if c.Person == p.ID && login != p.Address && m.isAddress(login) {
				return identity.ErrExists
			}
		}
		delete(m.addresses, p.Address)
		if _, kept := m.addresses[old.Address]; !kept {
			m.addresses[old.Address] = identity.Address{Address: old.Address, Targets: []string{p.Address},
				Owners: []identity.Owner{{Person: p.ID, Roles: []identity.Role{identity.RoleSend}}}}
		}
	}
	m.people[p.ID] = p
	m.taken++
	return nil
}

func (m *model) remove(id identity.PersonID) error {
	if _, err := m.find(id); err != nil {
		return err
	}
	delete(m.people, id)
	for name, a := range m.addresses {
		rest := slices.DeleteFunc(slices.Clone(a.Owners), func(o identity.Owner) bool { return o.Person == id })
		if len(rest) == 0 && len(a.Owners) > 0 {
			delete(m.addresses, name)
			continue
		}
		a.Owners = rest
		m.addresses[name] = a
	}
	deleteIf(m.credentials, func(c identity.Credential) bool { return c.Person == id })
	deleteIf(m.sessions, func(owner identity.PersonID) bool { return owner == id })
	deleteIf(m.bindings, func(owner identity.PersonID) bool { return owner == id })
	m.taken++
	return nil
}

func deleteIf[K comparable, V any](from map[K]V, gone func(V) bool) {
	for key, value := range from {
		if gone(value) {
			delete(from, key)
		}
	}
}

func (m *model) put(a identity.Address) error {
	for _, c := range m.credentials {
		if c.Revoked.IsZero() && m.login(c) == a.Address {
			return identity.ErrExists
		}
	}
	for _, o := range a.Owners {
		if _, err := m.find(o.Person); err != nil {
			return err
		}
	}
	m.addresses[a.Address] = a
	m.taken++
	return nil
}

func (m *model) addCredential(c identity.Credential) error {
	p, err := m.find(c.Person)
	switch {
	case err != nil:
		return err
	case !p.Disabled.IsZero():
		return identity.ErrRevoked
	case m.isAddress(m.login(c)):
		return identity.ErrExists
	}
	for _, other := range m.credentials {
		if other.ID == c.ID || other.Selector == c.Selector || other.Person == c.Person && other.Name == c.Name && other.Revoked.IsZero() {
			return identity.ErrExists
		}
	}
	m.credentials[c.ID] = c
	return nil
}

// step draws one operation and does it to both; it returns both answers.
func (m *model) step(t *rapid.T, db *database.DB, n int) (what string, got, want error) {
	ctx := context.Background()
	id := identity.PersonID(rapid.SampledFrom([]string{"p1", "p2", "p3"}).Draw(t, "person"))
	address := rapid.SampledFrom([]string{"a@x.org", "b@x.org", "c@x.org", "a+n@x.org", "b+n@x.org", "@x.org"}).Draw(t, "address")
	owner := identity.PersonID(rapid.SampledFrom([]string{"p1", "p2", "p3"}).Draw(t, "owner"))
	number := rapid.SampledFrom([]string{"c1", "c2", "c3", "c4"}).Draw(t, "number")
	what = rapid.SampledFrom([]string{"add", "add", "update", "disable", "enable", "delete", "put", "put", "drop", "credential", "credential",
		"revoke", "session", "end", "bind", "unbind"}).Draw(t, "operation")
	personal := address
	if strings.HasPrefix(address, "@") {
		personal = "d@x.org"
	}
	switch what {
	case "add":
		p := identity.Person{ID: id, Address: personal, Created: at(n)}
		return what, db.AddPerson(ctx, p), m.add(p)
	case "update":
		p := m.people[id]
		p.ID, p.Address, p.Name = id, personal, fmt.Sprint("name", n)
		return what, db.UpdatePerson(ctx, p), m.update(p)
	case "disable":
		p, err := m.find(id)
		if err == nil {
			m.taken++
			if p.Disabled.IsZero() {
				p.Disabled, p.Reason = at(n), fmt.Sprint("reason", n)
			}
			m.people[id] = p
			deleteIf(m.sessions, func(owner identity.PersonID) bool { return owner == id })
		}
		return what, db.DisablePerson(ctx, id, at(n), fmt.Sprint("reason", n)), err
	case "enable":
		p, err := m.find(id)
		if err == nil {
			p.Disabled, p.Reason = time.Time{}, ""
			m.people[id] = p
		}
		return what, db.EnablePerson(ctx, id), err
	case "delete":
		return what, db.DeletePerson(ctx, id), m.remove(id)
	case "put":
		a := identity.Address{Address: address, Owners: []identity.Owner{{Person: id, Roles: []identity.Role{identity.RoleSend}}}}
		if owner != id {
			a.Owners = append(a.Owners, identity.Owner{Person: owner, Roles: []identity.Role{identity.RoleLogin}})
			slices.SortFunc(a.Owners, func(a, b identity.Owner) int { return strings.Compare(string(a.Person), string(b.Person)) })
		} else {
			a.Targets = []string{"t@y.org"}
		}
		return what, db.PutAddress(ctx, a), m.put(a)
	case "drop":
		_, ok := m.addresses[address]
		if !ok {
			return what, db.DeleteAddress(ctx, address), identity.ErrNotFound
		}
		delete(m.addresses, address)
		m.taken++
		return what, db.DeleteAddress(ctx, address), nil
	}
	return m.stepRights(what, id, owner, number, db, n)
}

func (m *model) stepRights(what string, id, owner identity.PersonID, number string, db *database.DB, n int) (string, error, error) {
	ctx := context.Background()
	switch what {
	case "credential":
		c := identity.Credential{ID: identity.CredentialID(number), Person: id, Selector: "s" + number, Hash: "h", Name: map[bool]string{true: "n", false: "m"}[owner == id], Created: at(n)}
		return what, db.AddCredential(ctx, c), m.addCredential(c)
	case "revoke":
		c, ok := m.credentials[identity.CredentialID(number)]
		if !ok {
			return what, db.RevokeCredential(ctx, identity.CredentialID(number), at(n), "r"), identity.ErrNotFound
		}
		if c.Revoked.IsZero() {
			c.Revoked, c.Reason = at(n), fmt.Sprint("r", n)
			m.credentials[c.ID] = c
		}
		m.taken++
		return what, db.RevokeCredential(ctx, c.ID, at(n), fmt.Sprint("r", n)), nil
	case "session":
		key := identity.DigestOf(number)
		got := db.AddSession(ctx, identity.Session{ID: key, Person: id, Created: at(n), Expires: at(1 << 20)})
		p, err := m.find(id)
		if err == nil && !p.Disabled.IsZero() {
			err = identity.ErrRevoked
		}
		if _, taken := m.sessions[key]; err == nil && taken {
			err = identity.ErrExists
		}
		if err == nil {
			m.sessions[key] = id
		}
		return what, got, err
	case "end":
		key := identity.DigestOf(number)
		if _, there := m.sessions[key]; there {
			m.taken++
		}
		delete(m.sessions, key)
		return what, db.EndSession(ctx, key), nil
	case "bind":
		got := db.Bind(ctx, identity.Binding{Issuer: "i", Subject: number, Person: id})
		_, err := m.find(id)
		if _, taken := m.bindings[number]; err == nil && taken {
			err = identity.ErrExists
		}
		if err == nil {
			m.bindings[number] = id
		}
		return what, got, err
	}
	_, there := m.bindings[number]
	delete(m.bindings, number)
	if !there {
		return "unbind", db.Unbind(ctx, "i", number), identity.ErrNotFound
	}
	m.taken++
	return "unbind", db.Unbind(ctx, "i", number), nil
}

// compare looks at everything that the database holds.
func (m *model) compare(t *rapid.T, db *database.DB, start int64) {
	ctx := context.Background()
	check := func(what string, err error, got, want any) {
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Fatalf("%s (-model +database):\n%s", what, diff)
		}
	}
	taken, err := db.Generation(ctx)
	check("generation", err, taken, start+m.taken)
	people, err := db.People(ctx, "", 99)
	byAddress := func(a, b identity.Person) int { return strings.Compare(a.Address, b.Address) }
	check("people", err, people, sortedValues(m.people, byAddress))
	all, err := db.Addresses(ctx, "", 99)
	check("addresses", err, all, m.allAddresses())
	for id := range m.people {
		found, err := db.Credentials(ctx, id)
		var want []identity.Credential
		for _, c := range m.credentials {
			if c.Person == id {
				want = append(want, c)
			}
		}
		order := func(a, b identity.Credential) int { return strings.Compare(string(a.ID), string(b.ID)) }
		slices.SortFunc(found, order)
		slices.SortFunc(want, order)
		check("credentials", err, found, want)
	}
	for _, number := range []string{"c1", "c2", "c3", "c4"} {
		s, _, err := db.Session(ctx, identity.DigestOf(number), at(0))
		check("session", err, s.Person, m.sessions[identity.DigestOf(number)])
		b, err := db.Binding(ctx, "i", number)
		check("binding", err, b.Person, m.bindings[number])
	}
}

// allAddresses adds to what was put what persons have by themselves.
func (m *model) allAddresses() []identity.Address {
	all := map[string]identity.Address{}
	for name, a := range m.addresses {
		a.Owners = slices.Clone(a.Owners)
		all[name] = a
	}
	for _, p := range m.people {
		a := all[p.Address]
		a.Address = p.Address
		a.Owners = slices.DeleteFunc(a.Owners, func(o identity.Owner) bool { return o.Person == p.ID })
		a.Owners = append(a.Owners, identity.Owner{Person: p.ID, Roles: []identity.Role{identity.RoleLogin, identity.RoleSend}})
		slices.SortFunc(a.Owners, func(a, b identity.Owner) int { return strings.Compare(string(a.Person), string(b.Person)) })
		all[p.Address] = a
	}
	return sortedValues(all, func(a, b identity.Address) int { return strings.Compare(a.Address, b.Address) })
}

func sortedValues[K comparable, V any](from map[K]V, order func(a, b V) int) []V {
	var values []V
	for _, value := range from {
		values = append(values, value)
	}
	slices.SortFunc(values, order)
	return values
}

// properties draws sequences of operations and compares each database with the model after
// every step; databases that agree with one model agree with each other.
func properties(t *testing.T, fresh func(t *rapid.T) *database.DB) {
	rapid.Check(t, func(t *rapid.T) {
		db := fresh(t)
		m := &model{people: map[identity.PersonID]identity.Person{}, addresses: map[string]identity.Address{},
			credentials: map[identity.CredentialID]identity.Credential{}, sessions: map[identity.SessionID]identity.PersonID{}, bindings: map[string]identity.PersonID{}}
		start, err := db.Generation(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for n := range rapid.IntRange(1, 25).Draw(t, "steps") {
			what, got, want := m.step(t, db, n)
			if want == nil && got != nil || !errors.Is(got, want) {
				t.Fatalf("step %d, %s: %v, want %v", n, what, got, want)
			}
			m.compare(t, db, start)
		}
	})
}

func TestSQLiteIsTheModel(t *testing.T) {
	// One file, emptied between the sequences: an fsync for each table is dear.
	db := openLite(t)
	properties(t, func(rt *rapid.T) *database.DB { empty(rt, db); return db })
}

// empty deletes all that the model knows.
func empty(t *rapid.T, db *database.DB) {
	ctx := context.Background()
	people, err := db.People(ctx, "", 99)
	for _, p := range people {
		err = errors.Join(err, db.DeletePerson(ctx, p.ID))
	}
	addresses, listErr := db.Addresses(ctx, "", 99)
	err = errors.Join(err, listErr)
	for _, a := range addresses {
		err = errors.Join(err, db.DeleteAddress(ctx, a.Address))
	}
	if err != nil {
		t.Fatal(err)
	}
}
