package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Provision is what directories, hooks and looks at identity providers need kept.
type Provision interface {
	Suspend(ctx context.Context, h identity.Hold, actor string) (bool, error)
	Release(ctx context.Context, person identity.PersonID, source string, at time.Time, actor, why string) (bool, error)
	Holds(ctx context.Context, person identity.PersonID) ([]identity.Hold, error)
	Held(ctx context.Context, after string, limit int) ([]identity.Held, error)
	ReleaseHeld(ctx context.Context, address string) error

	User(ctx context.Context, id identity.PersonID) (identity.User, error)
	UserByAddress(ctx context.Context, address string) (identity.User, error)
	UserByExternal(ctx context.Context, external string) (identity.User, error)
	Users(ctx context.Context, offset, limit int) ([]identity.User, int, error)
	AddUser(ctx context.Context, u identity.User, actor string) error
	ChangeUser(ctx context.Context, id identity.PersonID, at time.Time, actor string, change func(*identity.User) error) (identity.User, error)
	RemoveUser(ctx context.Context, id identity.PersonID, at time.Time, actor string) error
	RemovePerson(ctx context.Context, id identity.PersonID, at time.Time, actor string) error

	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	HookMark(ctx context.Context, now time.Time) (time.Time, error)
	MoveHookMark(ctx context.Context, to time.Time) error
	HookEvents(ctx context.Context, since time.Time, limit int) ([]identity.Event, error)
	ClaimHook(ctx context.Context, e identity.Event, now, until time.Time) (int, error)
	EndHook(ctx context.Context, event string, done bool, at time.Time) error

	BindingsAt(ctx context.Context, issuer, after string, limit int) ([]identity.Binding, error)
	PutLeaver(ctx context.Context, l identity.Leaver) error
	DeleteLeaver(ctx context.Context, issuer, subject string) error
	Leavers(ctx context.Context, issuer string) ([]identity.Leaver, error)
	Depart(ctx context.Context, issuer string, person identity.PersonID, at time.Time) error
	Departed(ctx context.Context, issuer string, since time.Time) ([]identity.PersonID, error)
	PutMembershipLook(ctx context.Context, l identity.MembershipLook) error
	MembershipLooks(ctx context.Context) ([]identity.MembershipLook, error)
	PutSealed(ctx context.Context, g identity.SealedGrant) error
	Sealed(ctx context.Context, issuer, subject string) (identity.SealedGrant, error)
	DeleteSealed(ctx context.Context, issuer, subject string, since time.Time) error
}

// trail is the kinds of all events, the oldest first.
func (c *checker) trail() string {
	events := got(c.s.Events(c.Context(), identity.EventFilter{}))(c)
	kinds := make([]string, len(events))
	for i, e := range events {
		kinds[len(events)-1-i] = e.Kind + "/" + e.Actor + "/" + string(e.Person)
	}
	return strings.Join(kinds, " ")
}

func (c *checker) enabled(what string, want bool) identity.Person {
	c.Helper()
	p := got(c.s.Person(c.Context(), "ann"))(c)
	if p.Disabled.IsZero() != want {
		c.Errorf("%s: enabled %v, want %v (%s)", what, !want, want, p.Reason)
	}
	return p
}

// holds: a person is in again when everybody who shut them out has taken that back.
func (c *checker) holds() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddSession(ctx, session("s", "ann")))
	suspend := func(source string, at int, want bool) {
		c.Helper()
		c.same("suspend by "+source, got(s.Suspend(ctx, identity.Hold{Person: "ann", Source: source, Since: At(at), Reason: "says " + source}, "tester"))(c), want)
	}
	release := func(source string, want bool) {
		c.Helper()
		c.same("release by "+source, got(s.Release(ctx, "ann", source, At(50), "tester", "again"))(c), want)
	}
	before := got(s.Generation(ctx))(c)
	suspend("scim", 1, true)
	if got(s.Generation(ctx))(c) <= before {
		c.Error("a suspension does not show in the generation")
	}
	_, _, err := s.Session(ctx, digest("s"), At(2))
	c.want("the session", err, identity.ErrNotFound)
	suspend("scim", 2, false)
	suspend("member x", 3, false)
	c.same("holds", got(s.Holds(ctx, "ann"))(c), []identity.Hold{
		{Person: "ann", Source: "scim", Since: At(1), Reason: "says scim"}, {Person: "ann", Source: "member x", Since: At(3), Reason: "says member x"}})
	release("scim", false)
	if p := c.enabled("held by one more", false); p.Reason != "says member x" || !p.Disabled.Equal(At(1)) {
		c.Errorf("reason %q since %v", p.Reason, p.Disabled)
	}
	release("nobody", false)
	release("member x", true)
	release("member x", false)
	c.enabled("held by nobody", true)
	c.same("trail", c.trail(), "person.disabled/tester/ann person.enabled/tester/ann")

	// What an administrator says stays until an administrator takes it back.
	c.must(s.DisablePerson(ctx, "ann", At(4), "by hand"))
	suspend("scim", 5, false)
	release("scim", false)
	c.enabled("disabled by hand", false)
	suspend("scim", 6, false)
	c.must(s.EnablePerson(ctx, "ann"))
	c.enabled("enabled by hand", true)
	c.same("no hold is left", len(got(s.Holds(ctx, "ann"))(c)), 0)
	// The other way round.
	suspend("scim", 7, true)
	c.must(s.DisablePerson(ctx, "ann", At(8), "by hand"))
	release("scim", false)
	if p := c.enabled("disabled by hand too", false); p.Reason != "by hand" {
		c.Errorf("reason %q", p.Reason)
	}
	_, err = s.Suspend(ctx, identity.Hold{Person: "nobody", Source: "scim", Since: At(1)}, "tester")
	c.want("suspend nobody", err, identity.ErrNotFound)
	_, err = s.Suspend(ctx, identity.Hold{Person: "ann", Since: At(1)}, "tester")
	c.want("suspend without a source", err, identity.ErrInvalid)
}

func (c *checker) users() {
	ctx, s := c.Context(), c.s
	u := identity.User{Person: person("ann"), External: "ext-1", Attributes: `{"displayName":"ANN"}`, Changed: At(1)}
	c.must(s.AddUser(ctx, u, "scim"))
	c.same("user", got(s.User(ctx, "ann"))(c), u)
	c.same("by address", got(s.UserByAddress(ctx, "ann@example.org"))(c), u)
	c.same("by external id", got(s.UserByExternal(ctx, "ext-1"))(c), u)
	c.same("mailbox", got(s.Address(ctx, "ann@example.org"))(c).Owners, []identity.Owner{{Person: "ann", Roles: []identity.Role{identity.RoleLogin, identity.RoleSend}}})
	c.want("the same again", s.AddUser(ctx, u, "scim"), identity.ErrExists)
	other := identity.User{Person: person("bob"), External: "ext-1", Changed: At(2)}
	c.want("the same external id", s.AddUser(ctx, other, "scim"), identity.ErrExists)
	_, err := s.Person(ctx, "bob")
	c.want("of whom nothing is left", err, identity.ErrNotFound)
	_, err = s.Address(ctx, "bob@example.org")
	c.want("and no mailbox", err, identity.ErrNotFound)
	c.must(s.AddPerson(ctx, person("carl"))) // by hand: nobody said anything
	c.same("by hand", got(s.User(ctx, "carl"))(c), identity.User{Person: person("carl")})
	for _, external := range []string{"", "ext-9"} {
		_, err = s.UserByExternal(ctx, external)
		c.want("external id "+external, err, identity.ErrNotFound)
	}
	other.External, other.Wish = "", identity.WishInactive
	c.must(s.AddUser(ctx, other, "scim"))
	if p := got(s.Person(ctx, "bob"))(c); p.Disabled.IsZero() {
		c.Error("made inactive, and is not")
	}
	var page []string
	for offset := 0; offset < 4; offset += 2 {
		users, total, err := s.Users(ctx, offset, 2)
		c.must(err)
		c.same("total", total, 3)
		for _, one := range users {
			page = append(page, string(one.Person.ID))
		}
	}
	c.same("pages", page, []string{"ann", "bob", "carl"})
	_, total, err := s.Users(ctx, 0, 0)
	c.must(err)
	c.same("only counted", total, 3)
	c.same("trail", c.trail(), "person.added/scim/ann person.added/scim/bob person.disabled/scim/bob")
	c.want("too much", s.AddUser(ctx, identity.User{Person: person("dora"), Attributes: strings.Repeat("x", 40<<10), Changed: At(1)}, "scim"), identity.ErrInvalid)
}

func (c *checker) userChanges() {
	ctx, s := c.Context(), c.s
	c.must(s.AddUser(ctx, identity.User{Person: person("ann"), Changed: At(1)}, "scim"))
	change := func(at int, do func(*identity.User) error) (identity.User, error) {
		return s.ChangeUser(ctx, "ann", At(at), "scim", do)
	}
	before := c.trail()
	same := got(change(2, func(*identity.User) error { return nil }))(c)
	if c.trail() != before || !same.Changed.Equal(At(1)) {
		c.Errorf("nothing was changed, and the trail says %s, %v", c.trail(), same.Changed)
	}
	refusal := errors.New("not like this")
	_, err := change(3, func(u *identity.User) error { u.Person.Name = "Refused"; return refusal })
	if !errors.Is(err, refusal) {
		c.Errorf("refused: %v", err)
	}
	u := got(change(4, func(u *identity.User) error {
		u.Person.Name, u.External, u.Attributes, u.Wish = "Anna", "e2", "{}", identity.WishInactive
		u.Person.Admin, u.Person.Disabled = true, At(0) // not its to say
		return nil
	}))(c)
	if u.Person.Name != "Anna" || u.External != "e2" || u.Person.Admin || !u.Person.Disabled.Equal(At(4)) || !u.Changed.Equal(At(4)) {
		c.Errorf("changed: %+v", u)
	}
	got(change(5, func(u *identity.User) error { u.Wish = identity.WishActive; return nil }))(c)
	c.enabled("active again", true)
	c.same("trail", c.trail(), before+" person.changed/scim/ann person.disabled/scim/ann person.enabled/scim/ann")

	// A new address: the old one goes on as an alias, and is nobody else's.
	got(change(6, func(u *identity.User) error { u.Person.Address = "anna@example.org"; return nil }))(c)
	c.same("alias", got(s.Address(ctx, "ann@example.org"))(c).Targets, []string{"anna@example.org"})
	c.must(s.AddPerson(ctx, person("bob")))
	_, err = change(7, func(u *identity.User) error { u.Person.Address = "bob@example.org"; return nil })
	c.want("another's address", err, identity.ErrExists)
	_, err = change(7, func(u *identity.User) error { u.Person.Address = "Nonsense"; return nil })
	c.want("no address", err, identity.ErrInvalid)
	_, err = s.ChangeUser(ctx, "nobody", At(1), "scim", func(*identity.User) error { return nil })
	c.want("nobody", err, identity.ErrNotFound)

	c.must(s.Bind(ctx, identity.Binding{Issuer: "i", Subject: "1", Person: "ann", Bound: At(1)}))
	c.must(s.PutSealed(ctx, identity.SealedGrant{Issuer: "i", Subject: "1", Sealed: []byte("x"), Kept: At(1)}))
	c.must(s.PutLeaver(ctx, identity.Leaver{Issuer: "i", Subject: "1", Person: "ann", State: identity.LeaverOut, Since: At(1)}))
	c.must(s.RemoveUser(ctx, "ann", At(8), "scim"))
	_, err = s.User(ctx, "ann")
	c.want("removed", err, identity.ErrNotFound)
	_, err = s.Sealed(ctx, "i", "1")
	c.want("their refresh token", err, identity.ErrNotFound)
	c.same("leavers", len(got(s.Leavers(ctx, ""))(c)), 0)
	events := got(s.Events(ctx, identity.EventFilter{Kind: "person.removed"}))(c)
	if len(events) != 1 || events[0].Detail != "anna@example.org ann@example.org" || events[0].Person != "" {
		c.Errorf("trail: %+v", events)
	}
	c.want("removed twice", s.RemoveUser(ctx, "ann", At(9), "scim"), identity.ErrNotFound)
}

// held: a directory that removes a person and makes them again does not undo what an
// administrator said; an administrator who removes them does.
func (c *checker) held() {
	ctx, s := c.Context(), c.s
	made := 0
	again := func(address, external string) identity.Person {
		c.Helper()
		made++
		p := person(fmt.Sprint("again", made))
		p.Address, p.Created = address, At(20)
		c.must(s.AddUser(ctx, identity.User{Person: p, External: external, Changed: At(20), Wish: identity.WishActive}, "scim"))
		return got(s.Person(ctx, p.ID))(c)
	}
	remove := func(p identity.Person) { c.Helper(); c.must(s.RemoveUser(ctx, p.ID, At(10), "scim")) }

	ann := again("ann@example.org", "ext-1")
	c.must(s.DisablePerson(ctx, ann.ID, At(5), "stole"))
	remove(ann)
	ann = again("ann@example.org", "")
	if !ann.Disabled.Equal(At(5)) || ann.Reason != "stole" {
		c.Errorf("by address: %+v", ann)
	}
	last := got(s.Events(ctx, identity.EventFilter{Person: ann.ID}))(c)
	if len(last) != 2 || last[0].Kind != "person.disabled" || last[0].Detail != "as before they were removed: stole" || last[1].Kind != "person.added" {
		c.Errorf("trail: %+v", last)
	}
	_, err := s.ChangeUser(ctx, ann.ID, At(21), "scim", func(u *identity.User) error { u.External, u.Wish = "ext-2", identity.WishActive; return nil })
	c.must(err)
	remove(ann) // held again without a word
	renamed := again("anna@example.org", "ext-2")
	if renamed.Disabled.IsZero() {
		c.Error("another address with the same id of the directory lets them in")
	}
	c.must(s.EnablePerson(ctx, renamed.ID))
	remove(renamed)
	if free := again("anna@example.org", "ext-2"); !free.Disabled.IsZero() {
		c.Error("shut out after an administrator let them in")
	}
	if other := again("ann@example.org", ""); !other.Disabled.IsZero() {
		c.Error("a word that was given counts twice")
	}

	// Nor does one that makes them under another name, and gives them theirs afterwards.
	for what, change := range map[string]func(u *identity.User){
		"the address": func(u *identity.User) { u.Person.Address = "eve@example.org" },
		"the id":      func(u *identity.User) { u.External = "ext-eve" },
	} {
		eve := again("eve@example.org", "ext-eve")
		c.must(s.DisablePerson(ctx, eve.ID, At(5), "stole"))
		remove(eve)
		other := again("other@example.org", "ext-other")
		after := got(s.ChangeUser(ctx, other.ID, At(22), "scim", func(u *identity.User) error { change(u); u.Wish = identity.WishActive; return nil }))(c)
		if after.Person.Disabled.IsZero() || after.Person.Reason != "stole" {
			c.Errorf("by %s given later: %+v", what, after.Person)
		}
		c.must(s.RemovePerson(ctx, other.ID, At(23), "cli"))
	}

	bob := again("bob@example.org", "")
	_, err = s.Suspend(ctx, identity.Hold{Person: bob.ID, Source: identity.HoldSCIM, Since: At(5)}, "scim")
	c.must(err)
	remove(bob)
	if bob = again("bob@example.org", ""); !bob.Disabled.IsZero() {
		c.Error("a directory's own word outlives its own removal")
	}
	c.must(s.DisablePerson(ctx, bob.ID, At(6), ""))
	remove(bob)
	c.must(s.AddPerson(ctx, person("bob"))) // as a first sign-in does
	if p := got(s.Person(ctx, "bob"))(c); !p.Disabled.Equal(At(6)) {
		c.Errorf("made otherwise: %+v", p)
	}
	c.must(s.RemovePerson(ctx, "bob", At(30), "shell:0"))
	if p := again("bob@example.org", ""); !p.Disabled.IsZero() {
		c.Error("forgotten by an administrator, and still shut out")
	}
}

func (c *checker) leases() {
	ctx, s := c.Context(), c.s
	take := func(holder string, now, until int) bool {
		return got(s.Lease(ctx, "work", holder, At(now), At(until)))(c)
	}
	var wins atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			won, err := s.Lease(ctx, "work", fmt.Sprint(i), At(0), At(10))
			if err != nil {
				c.Error(err)
			}
			if won {
				wins.Add(1)
			}
		})
	}
	all.Wait()
	c.same("winners", int(wins.Load()), 1)
	c.same("another's", take("new", 5, 15), false)
	c.same("once it is over", take("new", 10, 20), true)
	c.same("prolonged", take("new", 15, 30), true)
	c.same("still another's", take("old", 25, 40), false)
	c.same("other work", got(s.Lease(ctx, "other", "old", At(0), At(5)))(c), true)
}

func (c *checker) hooks() {
	ctx, s := c.Context(), c.s
	event := func(id string, at int, kind string) identity.Event {
		return identity.Event{ID: id, At: At(at), Kind: kind, Person: "ann", Actor: "x"}
	}
	for _, e := range []identity.Event{event("e3", 30, "person.disabled"), event("e1", 10, "person.added"), event("e2", 20, "signin.ok"),
		event("e4", 40, "address.changed"), event("e5", 40, "personal"), event("e0", 5, "person.added")} {
		c.must(s.AddEvent(ctx, e))
	}
	c.same("first mark", got(s.HookMark(ctx, At(8)))(c), At(8))
	c.same("the mark stays", got(s.HookMark(ctx, At(99)))(c), At(8))
	waiting := func() string {
		ids := ""
		for _, e := range got(s.HookEvents(ctx, At(8), 10))(c) {
			ids += e.ID
		}
		return ids
	}
	c.same("waiting", waiting(), "e1e3e4")
	e1 := event("e1", 10, "person.added")
	var wins atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			switch _, err := s.ClaimHook(ctx, e1, At(50), At(60)); {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, identity.ErrExists):
				c.Error(err)
			}
		})
	}
	all.Wait()
	c.same("claims", int(wins.Load()), 1)
	_, err := s.ClaimHook(ctx, e1, At(59), At(70))
	c.want("not due", err, identity.ErrExists)
	c.same("who claimed it is gone", got(s.ClaimHook(ctx, e1, At(60), At(70)))(c), 2)
	c.must(s.EndHook(ctx, "e1", false, At(80)))
	_, err = s.ClaimHook(ctx, e1, At(79), At(90))
	c.want("to be tried later", err, identity.ErrExists)
	c.same("tried again", got(s.ClaimHook(ctx, e1, At(80), At(90)))(c), 3)
	c.must(s.EndHook(ctx, "e1", true, At(81)))
	c.same("left", waiting(), "e3e4")
	_, err = s.ClaimHook(ctx, e1, At(99), At(110))
	c.want("done", err, identity.ErrExists)
	c.must(s.MoveHookMark(ctx, At(30)))
	c.same("moved", got(s.HookMark(ctx, At(0)))(c), At(30))
	c.must(s.MoveHookMark(ctx, At(20)))
	c.same("never back", got(s.HookMark(ctx, At(0)))(c), At(30))
}

// departures are counted by time, whatever becomes of the person.
func (c *checker) departures() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	for _, one := range []struct {
		issuer string
		person identity.PersonID
		at     int
	}{{"i", "ann", 5}, {"i", "ann", 3}, {"i", "bob", 6}, {"j", "ann", 7}} {
		c.must(s.Depart(ctx, one.issuer, one.person, At(one.at)))
	}
	c.must(s.DeletePerson(ctx, "ann"))
	for _, want := range []struct {
		issuer string
		since  int
		people []identity.PersonID
	}{{"i", 4, []identity.PersonID{"ann", "bob"}}, {"i", 5, []identity.PersonID{"bob"}}, {"i", 6, nil}, {"j", 6, []identity.PersonID{"ann"}}, {"k", 0, nil}} {
		c.same(fmt.Sprint(want.issuer, want.since), got(s.Departed(ctx, want.issuer, At(want.since)))(c), want.people)
	}
	c.must(s.Depart(ctx, "k", "carl", At(8*24*3600)))
	c.same("a week later", got(s.Departed(ctx, "i", At(0)))(c), []identity.PersonID(nil))
}

func (c *checker) leavers() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	for _, subject := range []string{"3", "1", "2"} {
		c.must(s.Bind(ctx, identity.Binding{Issuer: "i", Subject: subject, Person: "ann", Bound: At(1)}))
	}
	c.must(s.Bind(ctx, identity.Binding{Issuer: "j", Subject: "9", Person: "ann", Bound: At(1)}))
	var subjects []string
	for after := ""; ; {
		page := got(s.BindingsAt(ctx, "i", after, 2))(c)
		for _, b := range page {
			subjects = append(subjects, b.Subject)
			after = b.Subject
		}
		if len(page) < 2 {
			break
		}
	}
	c.same("bindings", subjects, []string{"1", "2", "3"})
	l := identity.Leaver{Issuer: "i", Subject: "1", Person: "ann", State: identity.LeaverWaiting, Since: At(2), Why: "not in the team"}
	c.must(s.PutLeaver(ctx, l))
	l.State, l.Since = identity.LeaverApproved, At(9)
	c.must(s.PutLeaver(ctx, l))
	l.Since = At(2) // since when it was known
	c.same("leavers", got(s.Leavers(ctx, "i"))(c), []identity.Leaver{l})
	c.same("of another", len(got(s.Leavers(ctx, "j"))(c)), 0)
	c.same("of all", len(got(s.Leavers(ctx, ""))(c)), 1)
	c.want("nobody's account", s.PutLeaver(ctx, identity.Leaver{Issuer: "i", Subject: "7", Person: "ann", State: identity.LeaverOut}), identity.ErrNotFound)
	c.want("no state", s.PutLeaver(ctx, identity.Leaver{Issuer: "i", Subject: "1", Person: "ann", State: "lost"}), identity.ErrInvalid)
	c.must(s.Unbind(ctx, "i", "1"))
	c.same("unbound", len(got(s.Leavers(ctx, ""))(c)), 0)
	c.must(s.DeleteLeaver(ctx, "i", "2"))

	c.must(s.PutMembershipLook(ctx, identity.MembershipLook{Issuer: "i", Asked: At(5), Accounts: 3, Gone: 1}))
	c.must(s.PutMembershipLook(ctx, identity.MembershipLook{Issuer: "i", Asked: At(6), Trouble: "away"}))
	c.must(s.PutMembershipLook(ctx, identity.MembershipLook{Issuer: "j", Asked: At(6), Trouble: "away"}))
	c.same("looks", got(s.MembershipLooks(ctx))(c), []identity.MembershipLook{
		{Issuer: "i", Asked: At(6), Answered: At(5), Accounts: 3, Gone: 1, Trouble: "away"}, {Issuer: "j", Asked: At(6), Trouble: "away"}})
	c.must(s.PutMembershipLook(ctx, identity.MembershipLook{Issuer: "j", Asked: At(7)}))
	c.same("trouble is over", slices.ContainsFunc(got(s.MembershipLooks(ctx))(c), func(l identity.MembershipLook) bool { return l.Issuer == "j" && l.Trouble != "" }), false)

	g := identity.SealedGrant{Issuer: "i", Subject: "2", Sealed: []byte{0, 1, 255}, Kept: At(3)}
	c.must(s.PutSealed(ctx, g))
	c.same("sealed", got(s.Sealed(ctx, "i", "2"))(c), g)
	c.must(s.DeleteSealed(ctx, "i", "2", At(2)))
	c.same("a newer one stays", got(s.Sealed(ctx, "i", "2"))(c), g)
	c.must(s.DeleteSealed(ctx, "i", "2", At(3)))
	_, err := s.Sealed(ctx, "i", "2")
	c.want("deleted", err, identity.ErrNotFound)
	g.Subject = "1"
	c.want("nobody's", s.PutSealed(ctx, g), identity.ErrNotFound)
}
