package storetest

import (
	"net/netip"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// full values have something in every field.
func fullCredential() identity.Credential {
	return identity.Credential{
		ID: "c1", Person: "ann", Selector: "k7f3", Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", Name: "scanner", Label: "Scanner, 2nd floor ☕",
		Protocols: []identity.Protocol{identity.SMTP, identity.IMAP}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Senders: []string{"ann@example.org", "sales@example.org"}, Recipients: []string{"ann@example.org", "@example.net"}, PerHour: 12,
		Created: At(0).Add(123456 * time.Microsecond), Expires: At(90), LastUse: At(3), LastFrom: netip.MustParseAddr("2001:db8::1"), LastProtocol: identity.SMTP,
	}
}

func fullSession() identity.Session {
	return identity.Session{ID: digest("s"), Person: "ann", Admin: true, Factor: identity.ByTOTP, Proved: At(1), How: "oidc:https://op.test", Agent: "Firefox on Linux",
		From: netip.MustParseAddr("192.0.2.7"), Created: At(1), Seen: At(2), Expires: At(50), Upstream: "https://op.test sid1"}
}

func (c *checker) roundTrips() {
	ctx, s := c.Context(), c.s
	ann := identity.Person{ID: "ann", Address: "ann@example.org", Name: "Ann Ó Näme", Admin: true, Created: At(0).Add(time.Microsecond)}
	c.must(s.AddPerson(ctx, ann))
	c.same("Person", got(s.Person(ctx, "ann"))(c), ann)
	c.same("PersonByAddress", got(s.PersonByAddress(ctx, "ann@example.org"))(c), ann)

	binding := identity.Binding{Issuer: "https://github.test", Subject: "583231", Person: "ann", Shown: "octo'cat", Bound: At(1), Checked: At(2)}
	c.must(s.Bind(ctx, binding))
	c.same("Binding", got(s.Binding(ctx, binding.Issuer, binding.Subject))(c), binding)
	c.same("Bindings", got(s.Bindings(ctx, "ann"))(c), []identity.Binding{binding})

	want := fullCredential()
	c.must(s.AddCredential(ctx, want))
	found, owner, err := s.CredentialBySelector(ctx, want.Selector)
	c.must(err)
	c.same("CredentialBySelector", found, want)
	c.same("its person", owner, ann)
	c.same("CredentialByName", got(s.CredentialByName(ctx, "ann", want.Name))(c), want)
	c.same("Credentials", got(s.Credentials(ctx, "ann"))(c), []identity.Credential{want})

	c.must(s.AddSession(ctx, fullSession()))
	sess, owner, err := s.Session(ctx, digest("s"), At(3))
	c.must(err)
	c.same("Session", sess, fullSession())
	c.same("its person", owner, ann)

	event := identity.Event{ID: "e1", At: At(4), Kind: "credential.made", Person: "ann", Actor: "shell:0", From: netip.MustParseAddr("192.0.2.1"), Detail: "scanner\tby hand"}
	c.must(s.AddEvent(ctx, event))
	c.same("Events", got(s.Events(ctx, identity.EventFilter{}))(c), []identity.Event{event})
	one, two := identity.Event{ID: "new-1", At: At(2), Kind: "x", Detail: "first"}, identity.Event{ID: "new-2", At: At(3), Kind: "x"}
	again := one
	again.Detail = "second"
	c.same("AddNewEvents", got(s.AddNewEvents(ctx, []identity.Event{event, one, two, again}))(c), []bool{false, true, true, false})
	c.same("Events", got(s.Events(ctx, identity.EventFilter{}))(c), []identity.Event{event, two, one})
	_, err = s.AddNewEvents(ctx, []identity.Event{{ID: "new-3", At: At(4), Kind: "x"}, {At: At(4), Kind: "x"}})
	c.want("AddNewEvents without an id", err, identity.ErrInvalid)
	c.same("Events", got(s.Events(ctx, identity.EventFilter{}))(c), []identity.Event{event, two, one})

	ban := identity.Ban{Network: netip.MustParsePrefix("198.51.100.0/24"), Allow: true, Until: At(9), Reason: "office", Made: At(5)}
	c.must(s.PutBan(ctx, ban))
	c.same("Bans", got(s.Bans(ctx))(c), []identity.Ban{ban})

	c.must(s.PutOnce(ctx, digest("o"), "invitation", []byte{0, 1, 0xff}, At(200)))
	c.same("TakeOnce", got(s.TakeOnce(ctx, digest("o"), "invitation", Now()))(c), []byte{0, 1, 0xff})
}

func (c *checker) persons() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.want("the same id", s.AddPerson(ctx, identity.Person{ID: "ann", Address: "other@example.org"}), identity.ErrExists)
	c.want("the same address", s.AddPerson(ctx, identity.Person{ID: "other", Address: "ann@example.org"}), identity.ErrExists)
	_, err := s.Person(ctx, "other")
	c.want("the refused person", err, identity.ErrNotFound)
	for _, address := range []string{"", "ann", "Bob@example.org", "bob@Example.org", "@example.org", "bob@", "b ob@example.org", "bob\n@example.org",
		strings.Repeat("x", 310) + "@example.org"} {
		c.want("person "+address, s.AddPerson(ctx, identity.Person{ID: "bob", Address: address}), identity.ErrInvalid)
	}
	c.want("no id", s.AddPerson(ctx, identity.Person{Address: "bob@example.org"}), identity.ErrInvalid)
	c.must(s.AddPerson(ctx, person("bob")))
	taken := person("bob")
	taken.Address = "ann@example.org"
	c.want("bob as ann", s.UpdatePerson(ctx, taken), identity.ErrExists)
	c.same("bob", got(s.Person(ctx, "bob"))(c), person("bob"))

	changed := person("ann")
	changed.Name, changed.Admin, changed.Created, changed.Disabled, changed.Reason = "Anna", true, At(50), At(51), "no"
	c.must(s.UpdatePerson(ctx, changed))
	changed.Created, changed.Disabled, changed.Reason = At(0), time.Time{}, "" // not its to change
	c.same("ann", got(s.Person(ctx, "ann"))(c), changed)

	// What is somebody's address already is not given to a new person.
	c.must(s.PutAddress(ctx, identity.Address{Address: "sales@example.org", Owners: []identity.Owner{{Person: "ann"}}}))
	c.want("sales@ as a person", s.AddPerson(ctx, person("sales")), identity.ErrExists)
}

func (c *checker) pages() {
	ctx, s := c.Context(), c.s
	// Byte order: "-" before "." before digits before "_" before letters.
	names := []string{"a-b", "a.b", "a0", "a_b", "ab", "b"}
	for _, i := range []int{3, 0, 5, 2, 4, 1} {
		c.must(s.AddPerson(ctx, person(names[i])))
	}
	c.must(s.PutAddress(ctx, identity.Address{Address: "aa@example.org", Targets: []string{"b@example.org"}}))
	var people, addresses []string
	for after := ""; ; {
		page := got(s.People(ctx, after, 4))(c)
		for _, p := range page {
			people = append(people, string(p.ID))
			after = p.Address
		}
		if len(page) < 4 {
			break
		}
	}
	for after := ""; ; {
		page := got(s.Addresses(ctx, after, 3))(c)
		for _, a := range page {
			addresses = append(addresses, strings.TrimSuffix(a.Address, "@example.org"))
			after = a.Address
		}
		if len(page) < 3 {
			break
		}
	}
	c.same("People", people, names)
	c.same("Addresses", addresses, []string{"a-b", "a.b", "a0", "a_b", "aa", "ab", "b"})
}

func (c *checker) rename() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	move := func(address string) error {
		p := person("ann")
		p.Address = address
		return s.UpdatePerson(ctx, p)
	}
	c.must(move("anna@example.org"))
	c.same("the old address", got(s.Address(ctx, "ann@example.org"))(c), identity.Address{Address: "ann@example.org", Targets: []string{"anna@example.org"},
		Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleSend}}}})
	c.same("the new address", got(s.Address(ctx, "anna@example.org"))(c), own("anna@example.org", "ann"))
	c.want("the old address for another", s.AddPerson(ctx, identity.Person{ID: "new", Address: "ann@example.org"}), identity.ErrExists)
	// The login name has moved with it: the old one is free, the new one is not.
	c.want("the new login name", s.PutAddress(ctx, identity.Address{Address: "anna+phone@example.org"}), identity.ErrExists)
	c.must(s.PutAddress(ctx, identity.Address{Address: "ann+phone@example.org"}))
	c.must(s.DeleteAddress(ctx, "ann+phone@example.org"))
	// And back again: no loop of aliases.
	c.must(move("ann@example.org"))
	c.same("the first address again", got(s.Address(ctx, "ann@example.org"))(c), own("ann@example.org", "ann"))
	c.same("the second", got(s.Address(ctx, "anna@example.org"))(c).Targets, []string{"ann@example.org"})

	c.must(s.PutAddress(ctx, identity.Address{Address: "shared@example.org", Owners: []identity.Owner{{Person: "ann"}, {Person: "bob"}}}))
	c.want("an address shared with another", move("shared@example.org"), identity.ErrExists)
}

// own is the address of a person where nothing was put.
func own(address, person string) identity.Address {
	return identity.Address{Address: address,
		Owners: []identity.Owner{{Person: identity.PersonID(person), Roles: []identity.Role{identity.RoleLogin, identity.RoleSend}}}}
}

func (c *checker) disable() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	c.must(s.AddSession(ctx, session("s", "ann")))
	c.must(s.DisablePerson(ctx, "ann", At(5), "left"))
	c.must(s.DisablePerson(ctx, "ann", At(6), "again"))
	found := got(s.Person(ctx, "ann"))(c)
	if !found.Disabled.Equal(At(5)) || found.Reason != "left" {
		c.Errorf("disabled %v for %q, want the first time", found.Disabled, found.Reason)
	}
	_, _, err := s.Session(ctx, digest("s"), At(6))
	c.want("the session", err, identity.ErrNotFound)
	c.want("a new session", s.AddSession(ctx, session("s2", "ann")), identity.ErrRevoked)
	c.want("a new app password", s.AddCredential(ctx, credential("2", "ann", "laptop")), identity.ErrRevoked)
	_, owner, err := s.CredentialBySelector(ctx, "sel1")
	c.must(err)
	if owner.Disabled.IsZero() {
		c.Error("the credential's person does not look disabled")
	}
	c.must(s.EnablePerson(ctx, "ann"))
	c.same("enabled", got(s.Person(ctx, "ann"))(c), person("ann"))
	c.must(s.AddSession(ctx, session("s3", "ann")))
}

func (c *checker) deletePerson() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	c.must(s.Bind(ctx, identity.Binding{Issuer: "i", Subject: "s", Person: "ann"}))
	limited := credential("1", "ann", "phone")
	limited.Senders = []string{"ann@example.org"}
	c.must(s.AddCredential(ctx, limited))
	c.must(s.AddSession(ctx, session("s", "ann")))
	c.must(s.PutAddress(ctx, identity.Address{Address: "alone@example.org", Targets: []string{"ann@example.org"}, Owners: []identity.Owner{{Person: "ann"}}}))
	shared := identity.Address{Address: "shared@example.org", Owners: []identity.Owner{{Person: "ann"}, {Person: "bob", Roles: []identity.Role{identity.RoleSend}}}}
	c.must(s.PutAddress(ctx, shared))
	c.must(s.DeletePerson(ctx, "ann"))
	_, err := s.Person(ctx, "ann")
	c.want("Person", err, identity.ErrNotFound)
	_, err = s.Binding(ctx, "i", "s")
	c.want("Binding", err, identity.ErrNotFound)
	_, _, err = s.CredentialBySelector(ctx, "sel1")
	c.want("CredentialBySelector", err, identity.ErrNotFound)
	_, _, err = s.Session(ctx, digest("s"), At(2))
	c.want("Session", err, identity.ErrNotFound)
	for _, address := range []string{"alone@example.org", "ann@example.org"} {
		_, err = s.Address(ctx, address)
		c.want(address, err, identity.ErrNotFound)
	}
	shared.Owners = shared.Owners[1:]
	c.same("the shared address", got(s.Address(ctx, "shared@example.org"))(c), shared)
	c.must(s.AddPerson(ctx, person("ann"))) // everything is free again
	c.must(s.AddCredential(ctx, limited))
}

func (c *checker) bindings() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	bind := func(issuer, subject, person string) error {
		return s.Bind(ctx, identity.Binding{Issuer: issuer, Subject: subject, Person: identity.PersonID(person), Bound: At(1), Checked: At(1)})
	}
	c.must(bind("https://a.test", "1", "ann"))
	c.want("another's account", bind("https://a.test", "1", "bob"), identity.ErrExists)
	c.want("the same once more", bind("https://a.test", "1", "ann"), identity.ErrExists)
	c.must(bind("https://b.test", "1", "bob")) // a subject means nothing without its issuer
	c.must(bind("https://a.test", "2", "ann"))
	c.want("no subject", bind("https://a.test", "", "ann"), identity.ErrInvalid)
	c.must(s.Confirm(ctx, "https://a.test", "1", At(9)))
	c.must(s.Confirm(ctx, "https://a.test", "1", At(5)))
	if found := got(s.Binding(ctx, "https://a.test", "1"))(c); !found.Checked.Equal(At(9)) || found.Person != "ann" {
		c.Errorf("binding is %+v, want ann's, checked at the later time", found)
	}
	c.must(s.Unbind(ctx, "https://a.test", "1"))
	c.must(bind("https://a.test", "1", "bob"))
	if n := len(got(s.Bindings(ctx, "ann"))(c)); n != 1 {
		c.Errorf("ann has %d bindings, want 1", n)
	}
}
