package storetest

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func passkey(id, owner string) identity.Passkey {
	return identity.Passkey{ID: []byte(id), Person: identity.PersonID(owner), Name: "Key " + id, PublicKey: []byte{1, 2, 0, 255}, Created: At(1)}
}

func (c *checker) factors() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	boss := person("bob")
	boss.Admin = true
	c.must(s.AddPerson(ctx, boss))
	c.same("Admins", got(s.Admins(ctx))(c), []identity.Person{boss})

	full := passkey("\x00k\xff", "ann")
	full.Name, full.Count, full.Synced, full.Saved, full.Transports = "Ann’s ring", 5, true, true, []string{"usb", "internal"}
	full.LastUse, full.LastFrom = At(2), netip.MustParseAddr("2001:db8::1")
	c.must(s.AddPasskey(ctx, full))
	found, owner, err := s.Passkey(ctx, full.ID)
	c.must(err)
	c.same("Passkey", found, full)
	c.same("its person", owner, person("ann"))
	taken := full
	taken.Person = "bob"
	c.want("somebody else's", s.AddPasskey(ctx, taken), identity.ErrExists)
	c.want("without key", s.AddPasskey(ctx, identity.Passkey{ID: []byte("x"), Person: "ann"}), identity.ErrInvalid)

	// The counter goes on, or stays at zero.
	use := identity.PasskeyUse{ID: full.ID, Count: 6, At: At(3), From: netip.MustParseAddr("192.0.2.1")}
	c.must(s.UsePasskey(ctx, use))
	c.want("the same count", s.UsePasskey(ctx, use), identity.ErrDecided)
	use.Count = 4
	c.want("a smaller count", s.UsePasskey(ctx, use), identity.ErrDecided)
	use.Count = 0
	c.want("no count any more", s.UsePasskey(ctx, use), identity.ErrDecided)
	full.Count, full.Saved, full.LastUse, full.LastFrom = 6, false, At(3), netip.MustParseAddr("192.0.2.1")
	c.same("used", got(s.Factors(ctx, "ann"))(c).Passkeys, []identity.Passkey{full})
	c.must(s.AddPasskey(ctx, passkey("z", "ann")))
	for range 2 {
		c.must(s.UsePasskey(ctx, identity.PasskeyUse{ID: []byte("z"), At: At(4)}))
	}

	want := identity.TOTP{Person: "ann", Sealed: []byte{0, 1, 255}, Step: 100, Created: At(1)}
	c.must(s.PutTOTP(ctx, want))
	c.same("TOTP", got(s.Factors(ctx, "ann"))(c).TOTP, &want)
	c.want("the step of the enrolment", s.UseTOTP(ctx, "ann", 100, At(2)), identity.ErrDecided)
	c.same("one step, many at once", c.crowd(func() error { return s.UseTOTP(ctx, "ann", 102, At(2)) }, identity.ErrDecided), 1)
	c.want("a step before it", s.UseTOTP(ctx, "ann", 101, At(2)), identity.ErrDecided)
	want.Sealed, want.Step = []byte("new"), 7
	c.must(s.PutTOTP(ctx, want))
	c.same("replaced", got(s.Factors(ctx, "ann"))(c).TOTP, &want)
	c.want("no seed", s.PutTOTP(ctx, identity.TOTP{Person: "ann"}), identity.ErrInvalid)

	c.must(s.PutRecovery(ctx, "ann", []identity.Digest{digest("r1"), digest("r2"), digest("r3")}, At(5)))
	c.must(s.PutRecovery(ctx, "bob", []identity.Digest{digest("r1")}, At(5))) // the same by accident
	c.same("one code, many at once", c.crowd(func() error { return s.UseRecovery(ctx, "ann", digest("r1"), At(6)) }, identity.ErrNotFound), 1)
	c.want("another's", s.UseRecovery(ctx, "bob", digest("r2"), At(6)), identity.ErrNotFound)
	f := got(s.Factors(ctx, "ann"))(c)
	if f.Recovery != 2 || !f.RecoveryMade.Equal(At(5)) || !f.Second() {
		c.Errorf("recovery codes: %+v", f)
	}
	c.must(s.PutRecovery(ctx, "ann", []identity.Digest{digest("n1")}, At(7)))
	c.want("one of the old set", s.UseRecovery(ctx, "ann", digest("r2"), At(8)), identity.ErrNotFound)
	c.must(s.UseRecovery(ctx, "bob", digest("r1"), At(8)))
}

// crowd does the same many times at once and counts the successes.
func (c *checker) crowd(do func() error, others error) int {
	c.Helper()
	var ok atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			switch err := do(); {
			case err == nil:
				ok.Add(1)
			case !errors.Is(err, others):
				c.Errorf("got %v, want %v", err, others)
			}
		})
	}
	group.Wait()
	return int(ok.Load())
}

func (c *checker) factorsEnd() {
	ctx, s := c.Context(), c.s
	ann := person("ann")
	ann.Admin = true
	c.must(s.AddPerson(ctx, ann))
	c.must(s.AddPasskey(ctx, passkey("k", "ann")))
	c.must(s.AddPasskey(ctx, passkey("l", "ann")))
	c.must(s.PutTOTP(ctx, identity.TOTP{Person: "ann", Sealed: []byte("s"), Created: At(1)}))
	c.must(s.PutRecovery(ctx, "ann", []identity.Digest{digest("r")}, At(1)))

	// What a browser proved with a factor ends with the factor.
	for i, remove := range []func() error{
		func() error { return s.RemovePasskey(ctx, "ann", []byte("l")) },
		func() error { return s.RemoveTOTP(ctx, "ann") },
	} {
		one := session("browser", "ann")
		one.ID, one.Admin, one.Factor = digest("browser"+string(rune('0'+i))), true, identity.ByPasskey
		c.must(s.AddSession(ctx, one))
		c.must(remove())
		left, _, err := s.Session(ctx, one.ID, At(2))
		if err != nil || left.Admin || left.Factor != "" {
			c.Errorf("after a removal: %+v, %v", left, err)
		}
	}
	c.want("not theirs", s.RemovePasskey(ctx, "bob", []byte("k")), identity.ErrNotFound)

	c.must(s.PutTOTP(ctx, identity.TOTP{Person: "ann", Sealed: []byte("s"), Created: At(1)}))
	c.must(s.DisablePerson(ctx, "ann", At(2), "left"))
	c.want("a passkey of a disabled person", s.UsePasskey(ctx, identity.PasskeyUse{ID: []byte("k"), Count: 9}), identity.ErrRevoked)
	c.want("a code", s.UseTOTP(ctx, "ann", 9, At(2)), identity.ErrRevoked)
	c.want("a recovery code", s.UseRecovery(ctx, "ann", digest("r"), At(2)), identity.ErrRevoked)
	c.want("a new passkey", s.AddPasskey(ctx, passkey("m", "ann")), identity.ErrRevoked)
	c.want("a new seed", s.PutTOTP(ctx, identity.TOTP{Person: "ann", Sealed: []byte("s")}), identity.ErrRevoked)
	c.want("new recovery codes", s.PutRecovery(ctx, "ann", nil, At(2)), identity.ErrRevoked)
	c.same("Admins", got(s.Admins(ctx))(c), []identity.Person(nil))
	c.must(s.EnablePerson(ctx, "ann"))
	c.must(s.AddPerson(ctx, person("bob")))
	c.must(s.AddPasskey(ctx, passkey("b", "bob")))
	c.must(s.PutRecovery(ctx, "bob", []identity.Digest{digest("r")}, At(1)))
	c.must(s.DisablePerson(ctx, "bob", At(2), "left"))
	c.must(s.RemoveFactors(ctx, "bob"))
	c.same("Factors when all were removed", got(s.Factors(ctx, "bob"))(c), identity.Factors{})
	c.must(s.UseTOTP(ctx, "ann", 9, At(3)))

	c.must(s.DeletePerson(ctx, "ann"))
	c.must(s.AddPerson(ctx, person("ann"))) // the same id, by accident
	c.same("Factors of a new person", got(s.Factors(ctx, "ann"))(c), identity.Factors{})
}
