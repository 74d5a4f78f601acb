package storetest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (c *checker) addresses() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	both := []identity.Role{identity.RoleLogin, identity.RoleSend}
	sales := identity.Address{Address: "sales@example.org", Targets: []string{"ann@example.org", "Bob@Example.net"},
		Owners: []identity.Owner{{Person: "ann", Roles: both}, {Person: "bob", Roles: []identity.Role{identity.RoleSend}}}}
	all := identity.Address{Address: "@example.net", Owners: []identity.Owner{{Person: "bob", Roles: both}}}
	c.must(s.PutAddress(ctx, sales))
	c.must(s.PutAddress(ctx, all))
	c.same("sales@", got(s.Address(ctx, "sales@example.org"))(c), sales)
	c.same("the catch-all", got(s.Address(ctx, "@example.net"))(c), all)
	_, err := s.Address(ctx, "any@example.net")
	c.want("an address of the catch-all", err, identity.ErrNotFound)
	_, err = s.Address(ctx, "SALES@example.org")
	c.want("another spelling", err, identity.ErrNotFound)
	c.same("ann's", got(s.AddressesOf(ctx, "ann"))(c), []identity.Address{own("ann@example.org", "ann"), sales})
	c.same("bob's", got(s.AddressesOf(ctx, "bob"))(c), []identity.Address{all, own("bob@example.org", "bob"), sales})

	sales.Targets, sales.Owners = nil, sales.Owners[:1]
	c.must(s.PutAddress(ctx, sales))
	c.same("sales@ replaced", got(s.Address(ctx, "sales@example.org"))(c), sales)
	// What is put at a person's own address adds to it.
	c.must(s.PutAddress(ctx, identity.Address{Address: "ann@example.org", Targets: []string{"ann@elsewhere.test"}, Owners: []identity.Owner{{Person: "bob"}}}))
	c.same("ann@", got(s.Address(ctx, "ann@example.org"))(c), identity.Address{Address: "ann@example.org", Targets: []string{"ann@elsewhere.test"},
		Owners: []identity.Owner{{Person: "ann", Roles: both}, {Person: "bob"}}})
	c.must(s.DeleteAddress(ctx, "ann@example.org"))
	c.same("ann@ again", got(s.Address(ctx, "ann@example.org"))(c), own("ann@example.org", "ann"))
	c.must(s.DeleteAddress(ctx, "sales@example.org"))
	_, err = s.Address(ctx, "sales@example.org")
	c.want("a deleted address", err, identity.ErrNotFound)

	c.want("an unknown owner", s.PutAddress(ctx, identity.Address{Address: "x@example.org", Owners: []identity.Owner{{Person: "nobody"}}}), identity.ErrNotFound)
	for what, bad := range map[string]identity.Address{
		"upper case":     {Address: "X@example.org"},
		"no domain":      {Address: "x"},
		"target":         {Address: "x@example.org", Targets: []string{"|/bin/sh"}},
		"target twice":   {Address: "x@example.org", Targets: []string{"a@example.org", "a@example.org"}},
		"target of two":  {Address: "x@example.org", Targets: []string{"a@example.org\nb@example.org"}},
		"unknown role":   {Address: "x@example.org", Owners: []identity.Owner{{Person: "ann", Roles: []identity.Role{"root"}}}},
		"an owner twice": {Address: "x@example.org", Owners: []identity.Owner{{Person: "ann", Roles: both}, {Person: "ann", Roles: both}}},
	} {
		c.want(what, s.PutAddress(ctx, bad), identity.ErrInvalid)
	}
	_, err = s.Address(ctx, "x@example.org")
	c.want("a refused address", err, identity.ErrNotFound)
}

func (c *checker) credentials() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	c.want("the same name", s.AddCredential(ctx, credential("2", "ann", "phone")), identity.ErrExists)
	c.must(s.AddCredential(ctx, credential("2", "bob", "phone")))
	twin := credential("3", "ann", "laptop")
	twin.Selector = "sel1"
	c.want("the same selector", s.AddCredential(ctx, twin), identity.ErrExists)
	c.must(s.RevokeCredential(ctx, "1", At(5), "lost"))
	c.want("the selector of a revoked one", s.AddCredential(ctx, twin), identity.ErrExists)
	c.must(s.AddCredential(ctx, credential("4", "ann", "phone"))) // the name is free again
	found, _, err := s.CredentialBySelector(ctx, "sel1")
	c.must(err)
	if !found.Revoked.Equal(At(5)) || found.Reason != "lost" {
		c.Errorf("revoked %v for %q, want At(5), lost", found.Revoked, found.Reason)
	}
	if byName := got(s.CredentialByName(ctx, "ann", "phone"))(c); byName.ID != "4" {
		c.Errorf("CredentialByName found %s, want the one in force", byName.ID)
	}
	c.must(s.RevokeCredential(ctx, "4", At(7), "lost"))
	if byName := got(s.CredentialByName(ctx, "ann", "phone"))(c); byName.ID != "4" {
		c.Errorf("CredentialByName found %s, want the one revoked last", byName.ID)
	}
	later := credential("5", "ann", "tablet")
	later.Created = At(20)
	c.must(s.AddCredential(ctx, later))
	var order []string
	for _, found := range got(s.Credentials(ctx, "ann"))(c) {
		order = append(order, string(found.ID))
	}
	c.same("Credentials, the newest first", order, []string{"5", "1", "4"})

	for what, change := range map[string]func(*identity.Credential){
		"name with @":          func(c *identity.Credential) { c.Name = "a@b" },
		"name with +":          func(c *identity.Credential) { c.Name = "a+b" },
		"name in upper case":   func(c *identity.Credential) { c.Name = "Phone" },
		"no name":              func(c *identity.Credential) { c.Name = "" },
		"no hash":              func(c *identity.Credential) { c.Hash = "" },
		"no selector":          func(c *identity.Credential) { c.Selector = "" },
		"sender in upper case": func(c *identity.Credential) { c.Senders = []string{"Ann@example.org"} },
		"two recipients":       func(c *identity.Credential) { c.Recipients = []string{"a@b\nc@d"} },
		"empty recipient":      func(c *identity.Credential) { c.Recipients = []string{""} },
		"two protocols":        func(c *identity.Credential) { c.Protocols = []identity.Protocol{"imap smtp"} },
		"no network":           func(c *identity.Credential) { c.Networks = []netip.Prefix{{}} },
		"a negative rate":      func(c *identity.Credential) { c.PerHour = -1 },
	} {
		bad := credential("9", "ann", "bad")
		change(&bad)
		c.want(what, s.AddCredential(ctx, bad), identity.ErrInvalid)
	}
}

func (c *checker) loginNames() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	c.want("a person", s.AddPerson(ctx, person("ann+phone")), identity.ErrExists)
	c.want("an address", s.PutAddress(ctx, identity.Address{Address: "ann+phone@example.org"}), identity.ErrExists)
	c.must(s.AddPerson(ctx, person("ann+laptop")))
	c.want("a credential", s.AddCredential(ctx, credential("2", "ann", "laptop")), identity.ErrExists)
	c.must(s.PutAddress(ctx, identity.Address{Address: "ann+desk@example.org"}))
	c.want("a credential", s.AddCredential(ctx, credential("3", "ann", "desk")), identity.ErrExists)
	c.must(s.AddPerson(ctx, person("bob")))
	bob := person("bob")
	bob.Address = "ann+phone@example.org"
	c.want("a new address", s.UpdatePerson(ctx, bob), identity.ErrExists)
	c.must(s.RevokeCredential(ctx, "1", At(2), ""))
	c.must(s.UpdatePerson(ctx, bob))
}

func (c *checker) expiring() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	for i, seconds := range []int{0, 30, 10, 20, 20, 15} { // 0: never
		one := credential(fmt.Sprint(i), "ann", fmt.Sprint("device", i))
		one.Expires = time.Time{}
		if seconds > 0 {
			one.Expires = At(seconds)
		}
		c.must(s.AddCredential(ctx, one))
	}
	c.must(s.RevokeCredential(ctx, "5", At(1), ""))
	ids := func(after, until int) (all string) {
		for _, one := range got(s.Expiring(ctx, At(after), At(until)))(c) {
			all += string(one.ID)
		}
		return all
	}
	c.same("all", ids(0, 1000), "2341")
	c.same("the end belongs to it, the beginning does not", ids(10, 20), "34")
	c.same("nothing", ids(20, 29), "")
	c.same("since ever", len(got(s.Expiring(ctx, time.Time{}, At(1000)))(c)), 4)
}

func (c *checker) firstReason() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	c.must(s.RevokeCredential(ctx, "1", At(1), "first"))
	c.must(s.RevokeCredential(ctx, "1", At(2), "second"))
	if found := got(s.Credentials(ctx, "ann"))(c)[0]; !found.Revoked.Equal(At(1)) || found.Reason != "first" {
		c.Errorf("revoked %v for %q, want the first", found.Revoked, found.Reason)
	}
}

func (c *checker) uses() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddCredential(ctx, credential("1", "ann", "phone")))
	c.must(s.AddCredential(ctx, credential("2", "ann", "laptop")))
	before := got(s.Generation(ctx))(c)
	four, six := netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("2001:db8::6")
	c.must(s.Used(ctx, []identity.Use{
		{Credential: "1", At: At(5), From: four, Protocol: identity.IMAP}, {Credential: "1", At: At(9), From: six, Protocol: identity.SMTP},
		{Credential: "1", At: At(7), From: four, Protocol: identity.POP3}, {Credential: "gone", At: At(8)}, {Credential: "2", At: At(6), From: four, Protocol: identity.IMAP},
	}))
	c.must(s.Used(ctx, []identity.Use{{Credential: "1", At: At(8), From: four, Protocol: identity.IMAP}}))
	c.must(s.Used(ctx, nil))
	for _, want := range []identity.Use{{Credential: "1", At: At(9), From: six, Protocol: identity.SMTP}, {Credential: "2", At: At(6), From: four, Protocol: identity.IMAP}} {
		found, _, err := s.CredentialBySelector(ctx, "sel"+string(want.Credential))
		c.must(err)
		c.same("last use", identity.Use{Credential: found.ID, At: found.LastUse, From: found.LastFrom, Protocol: found.LastProtocol}, want)
	}
	if after := got(s.Generation(ctx))(c); after != before {
		c.Error("a use counts as a lost right: every sign-in would empty the caches")
	}
}

func (c *checker) sessions() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddPerson(ctx, person("bob")))
	living := func() (names string) {
		for _, name := range []string{"a1", "a2", "a3", "b1", "b2"} {
			if _, _, err := s.Session(ctx, digest(name), At(10)); err == nil {
				names += name + " "
			} else {
				c.want(name, err, identity.ErrNotFound)
			}
		}
		return names
	}
	for i, name := range []string{"a1", "a2", "a3", "b1", "b2"} {
		one := session(name, map[bool]string{true: "ann", false: "bob"}[name[0] == 'a'])
		one.Created = At(i)
		if name == "a2" || name == "b1" {
			one.Upstream = "https://op.test sid"
		}
		c.must(s.AddSession(ctx, one))
	}
	c.want("the same id", s.AddSession(ctx, session("a1", "bob")), identity.ErrExists)
	_, _, err := s.Session(ctx, digest("a1"), At(60))
	c.want("a session at its end", err, identity.ErrNotFound)
	c.must(s.TouchSession(ctx, digest("a1"), At(9)))
	c.must(s.TouchSession(ctx, digest("a1"), At(4)))
	touched, _, err := s.Session(ctx, digest("a1"), At(59))
	c.must(err)
	if !touched.Seen.Equal(At(9)) {
		c.Errorf("seen %v, want At(9)", touched.Seen)
	}
	list := got(s.Sessions(ctx, "ann"))(c)
	if len(list) != 3 || list[0].ID != digest("a3") || list[2].ID != digest("a1") {
		c.Errorf("ann has %d sessions, want three, the newest first", len(list))
	}
	c.same("whose had none", len(got(s.EndUpstream(ctx, ""))(c)), 0) // a session without upstream is not meant
	c.same("all", living(), "a1 a2 a3 b1 b2 ")
	whose := got(s.EndUpstream(ctx, "https://op.test sid"))(c)
	slices.Sort(whose)
	c.same("whose", fmt.Sprint(whose), "[ann bob]")
	c.same("after EndUpstream", living(), "a1 a3 b2 ")
	c.same("whose by then", len(got(s.EndUpstream(ctx, "https://op.test sid"))(c)), 0)
	c.must(s.EndSession(ctx, digest("a1")))
	c.same("after EndSession", living(), "a3 b2 ")
	c.must(s.EndSessions(ctx, "ann"))
	c.same("after EndSessions", living(), "b2 ")
}

func (c *checker) generation() {
	s := c.s
	c.must(s.AddPerson(c.Context(), person("ann")))
	c.must(s.AddPerson(c.Context(), person("bob")))
	c.must(s.AddCredential(c.Context(), credential("1", "ann", "phone")))
	c.must(s.AddSession(c.Context(), session("s", "ann")))
	c.must(s.Bind(c.Context(), identity.Binding{Issuer: "i", Subject: "s", Person: "ann"}))
	network := netip.MustParsePrefix("192.0.2.0/24")
	for _, step := range []struct {
		what  string
		grows bool
		do    func(context.Context) error
	}{
		{"UpdatePerson", true, func(ctx context.Context) error { return s.UpdatePerson(ctx, person("ann")) }},
		{"PutAddress", true, func(ctx context.Context) error { return s.PutAddress(ctx, identity.Address{Address: "x@example.org"}) }},
		{"DeleteAddress", true, func(ctx context.Context) error { return s.DeleteAddress(ctx, "x@example.org") }},
		{"TouchSession", false, func(ctx context.Context) error { return s.TouchSession(ctx, digest("s"), At(3)) }},
		{"EndSession", true, func(ctx context.Context) error { return s.EndSession(ctx, digest("s")) }},
		{"EndSession of none", false, func(ctx context.Context) error { return s.EndSession(ctx, digest("s")) }},
		{"RevokeCredential", true, func(ctx context.Context) error { return s.RevokeCredential(ctx, "1", At(3), "") }},
		{"RevokeCredential of none", false, func(ctx context.Context) error {
			c.want("RevokeCredential", s.RevokeCredential(ctx, "none", At(3), ""), identity.ErrNotFound)
			return nil
		}},
		{"Unbind", true, func(ctx context.Context) error { return s.Unbind(ctx, "i", "s") }},
		{"PutBan", true, func(ctx context.Context) error { return s.PutBan(ctx, identity.Ban{Network: network}) }},
		{"DeleteBan", true, func(ctx context.Context) error { return s.DeleteBan(ctx, network) }},
		{"DisablePerson", true, func(ctx context.Context) error { return s.DisablePerson(ctx, "ann", At(3), "") }},
		{"EnablePerson", false, func(ctx context.Context) error { return s.EnablePerson(ctx, "ann") }},
		{"AddEvent", false, func(ctx context.Context) error { return s.AddEvent(ctx, identity.Event{At: At(1), Kind: "x"}) }},
		{"Count", false, func(ctx context.Context) error { _, err := s.Count(ctx, "x", At(0), 1); return err }},
		{"DeletePerson", true, func(ctx context.Context) error { return s.DeletePerson(ctx, "ann") }},
	} {
		before := got(s.Generation(c.Context()))(c)
		c.must(step.do(c.Context()))
		if after := got(s.Generation(c.Context()))(c); after > before != step.grows || after < before {
			c.Errorf("%s: generation from %d to %d, want growth %v", step.what, before, after, step.grows)
		}
	}
}

func (c *checker) sweep() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddSession(ctx, session("s", "ann")))
	c.must(s.PutOnce(ctx, digest("o"), "k", nil, Now().Add(time.Hour)))
	c.must(s.Sweep(ctx, At(60))) // the session ends at 60: not before it
	if n := len(got(s.Sessions(ctx, "ann"))(c)); n != 1 {
		c.Errorf("%d sessions, want the one that was not over", n)
	}
	c.must(s.Sweep(ctx, At(61)))
	if n := len(got(s.Sessions(ctx, "ann"))(c)); n != 0 {
		c.Errorf("%d sessions after the sweep", n)
	}
	got(s.TakeOnce(ctx, digest("o"), "k", Now()))(c)
}
