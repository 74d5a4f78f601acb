package credential

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// held is an app password as the database told it once.
type held struct {
	owned
	credential identity.Credential
	proof      *proof // carried over while the hash stays the same
}

// owned is what app passwords and tokens have in common: a person, and when it was read.
type owned struct {
	epoch     uint64 // see state
	round     uint64
	person    identity.Person
	addresses atomic.Pointer[[]identity.Address] // asked for when a name needs it
}

// A proof is what is known about presented secrets for one stored hash: keyed digests
// of the right one and of the last wrong ones. The written form is the only password
// that matches, so once the right one is known no other needs a hash.
type proof struct {
	hash  string
	right atomic.Pointer[[32]byte]

	mu    sync.Mutex
	wrong [4][32]byte
	count int
}

// Password checks an app password. Unknown selectors, names that do not belong to it
// and rights that do not reach this far cost no hash; a proof costs one at most, once.
func (d *Door) Password(ctx context.Context, p Presented) (Verdict, error) {
	user, err := d.admit(p, false)
	if err != nil {
		return Verdict{}, err
	}
	password, ok := parseAppPassword(p.Secret.Reveal())
	if !ok {
		return Verdict{}, &Refused{Reason: ReasonForm}
	}
	p.Remote = p.Remote.Unmap().WithZone("")
	for {
		e, err := d.lookUp(ctx, password.selector())
		if err != nil {
			return Verdict{}, err
		}
		refused := &Refused{Person: e.person.ID}
		login, err := d.login(ctx, &e.owned, user, e.credential.Name)
		if err != nil {
			return Verdict{}, err
		}
		if login == "" {
			refused.Reason = ReasonUser
			return Verdict{}, refused
		}
		reason := d.right(e, p)
		if reason != "" && !d.knows(e, password) {
			refused.Reason = reason
			return Verdict{}, refused
		}
		ok, hashed, err := d.proven(ctx, e, password)
		switch {
		case err != nil:
			return Verdict{}, err
		case !ok:
			refused.Reason = ReasonWrong
			return Verdict{}, refused
		case reason != "":
			refused.Reason, refused.Proven = reason, true
			return Verdict{}, refused
		case hashed && d.state.Load().round != e.round:
			continue // the hash took its time, and something was revoked meanwhile
		}
		d.uses.record(identity.Use{Credential: e.credential.ID, At: d.o.Now(), From: p.Remote, Protocol: p.Protocol}, d.o.Entries)
		credential := e.credential
		return Verdict{Person: e.person, Login: login, Credential: &credential}, nil
	}
}

// lookUp finds the row of a selector: what is current, else what the database says,
// else what was last known.
func (d *Door) lookUp(ctx context.Context, selector string) (*held, error) {
	now, s := d.o.Now(), d.state.Load()
	e, ok := d.passwords.get(selector)
	if ok && (d.current(s, &e.owned, now) || s.failed && d.lastKnown(s, &e.owned, now)) {
		return e, nil
	}
	if !ok && d.isUnknown(identity.DigestOf(selector), now) {
		return nil, &Refused{Reason: ReasonUnknown}
	}
	return d.fetchCredential(ctx, selector)
}

// fetchCredential asks the database.
func (d *Door) fetchCredential(ctx context.Context, selector string) (*held, error) {
	// From before the question: the answer may be older than the next epoch.
	s := d.state.Load()
	asking, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	row, person, err := d.o.Store.CredentialBySelector(asking, selector)
	old, known := d.passwords.peek(selector)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		d.passwords.drop(selector)
		d.setUnknown(identity.DigestOf(selector))
		return nil, &Refused{Reason: ReasonUnknown}
	case errors.Is(err, identity.ErrRevoked):
		d.passwords.drop(selector)
		return nil, &Refused{Reason: ReasonRevoked}
	case err != nil:
		if known && d.lastKnown(d.state.Load(), &old.owned, d.o.Now()) {
			return old, nil
		}
		return nil, fmt.Errorf("%w: look up app password: %w", ErrUnavailable, err)
	}
	e := &held{credential: row, owned: owned{epoch: s.epoch, round: s.round, person: person}, proof: &proof{hash: row.Hash}}
	e.credential.Networks = unmapped(row.Networks)
	if known && old.proof.hash == row.Hash {
		e.proof = old.proof
	}
	if !row.Revoked.IsZero() {
		d.ended.add(endedKey{"credential", string(row.ID)})
	}
	d.passwords.put(selector, e)
	if known && old.addresses.Load() != nil {
		// They were needed before, and in an outage nobody can be asked.
		if _, err := d.askAddresses(ctx, &e.owned); err != nil && ctx.Err() == nil {
			d.o.Log.Warn("look up addresses", "person", person.ID, "error", err)
		}
	}
	return e, nil
}

// unmapped brings IPv4 networks written as IPv6 into the form of the addresses that are
// compared with them.
func unmapped(networks []netip.Prefix) []netip.Prefix {
	networks = slices.Clone(networks)
	for i, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			networks[i] = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
	}
	return networks
}

// right checks everything but the secret, at every sign-in.
func (d *Door) right(e *held, p Presented) Reason {
	c := &e.credential
	within := func(n netip.Prefix) bool { return n.Contains(p.Remote) }
	switch now := d.o.Now(); {
	case !e.person.Disabled.IsZero():
		return ReasonDisabled
	case !c.Revoked.IsZero() || d.ended.has(endedKey{"credential", string(c.ID)}):
		return ReasonRevoked
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return ReasonExpired
	case len(c.Protocols) > 0 && !slices.Contains(c.Protocols, p.Protocol):
		return ReasonProtocol
	case len(c.Networks) > 0 && !slices.ContainsFunc(c.Networks, within):
		return ReasonNetwork
	}
	return ""
}

// login is the mailbox that a user name opens: empty when the name is not the person's.
// label is the name of the credential, which may stand behind a plus sign.
func (d *Door) login(ctx context.Context, o *owned, user, label string) (string, error) {
	names := func(address string) bool {
		return user == address || label != "" && user == identity.LoginName(address, label)
	}
	main := strings.ToLower(o.person.Address)
	if user == "" || names(main) {
		return main, nil
	}
	addresses := o.addresses.Load()
	if addresses == nil {
		var err error
		if addresses, err = d.askAddresses(ctx, o); err != nil {
			return "", err
		}
	}
	for _, a := range *addresses {
		if !names(a.Address) || !slices.ContainsFunc(a.Owners, func(owner identity.Owner) bool {
			return owner.Person == o.person.ID && owner.Has(identity.RoleLogin)
		}) {
			continue
		}
		if len(a.Targets) > 0 {
			return main, nil // an alias has no mailbox of its own
		}
		return a.Address, nil
	}
	return "", nil
}

func (d *Door) askAddresses(ctx context.Context, o *owned) (*[]identity.Address, error) {
	asking, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	addresses, err := d.o.Store.AddressesOf(asking, o.person.ID)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, fmt.Errorf("%w: look up addresses: %w", ErrUnavailable, err)
	}
	o.addresses.Store(&addresses)
	return &addresses, nil
}

// mac is a keyed digest of a password for one hash. The key never leaves this process.
func (d *Door) mac(password appPassword, hash string) (sum [32]byte) {
	h := hmac.New(sha256.New, d.key[:])
	h.Write([]byte(password)) // of one length: no separator is needed
	h.Write([]byte(hash))
	h.Sum(sum[:0])
	return sum
}

// knows reports whether the password is known without a hash, one way or the other.
func (d *Door) knows(e *held, password appPassword) bool {
	if e.proof.right.Load() != nil {
		return true
	}
	return e.proof.wasWrong(d.mac(password, e.proof.hash))
}

// proven reports whether the password is right, and whether that took a hash.
func (d *Door) proven(ctx context.Context, e *held, password appPassword) (ok, hashed bool, err error) {
	sum := d.mac(password, e.proof.hash)
	selector := password.selector()
	for {
		if right := e.proof.right.Load(); right != nil {
			return hmac.Equal(right[:], sum[:]), hashed, nil
		}
		if e.proof.wasWrong(sum) {
			return false, hashed, nil
		}
		hashed = true
		f, mine := d.flights.join(selector)
		switch {
		case f == nil:
			return false, hashed, ErrBusy
		case mine:
			if err := d.fly(ctx, e, password, sum, f); err != nil {
				return false, hashed, err
			}
		default:
			if err := d.await(ctx, f); err != nil {
				return false, hashed, err
			}
		}
	}
}

// await waits for another's hash, no longer than one's own would wait for its turn.
func (d *Door) await(ctx context.Context, f *flight) error {
	patience := time.NewTimer(d.o.Wait)
	defer patience.Stop()
	select {
	case <-f.done:
		return nil
	case <-patience.C:
		return ErrBusy
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// fly computes the hash and leaves in the proof what came out.
func (d *Door) fly(ctx context.Context, e *held, password appPassword, sum [32]byte, f *flight) error {
	defer d.flights.land(password.selector(), f)
	if e.proof.right.Load() != nil || e.proof.wasWrong(sum) {
		return nil // another flight landed between our look and our start
	}
	if err := d.queue.enter(ctx); err != nil {
		return err
	}
	defer d.queue.leave()
	ok, err := d.matches(e.proof.hash, string(password))
	if err != nil {
		// A broken row is nobody's wrong password, and does not mend by asking again.
		d.o.Log.Error("stored hash of an app password", "credential", e.credential.ID, "error", err)
	}
	if ok {
		e.proof.right.Store(&sum)
	} else {
		e.proof.addWrong(sum)
	}
	return nil
}

func (p *proof) wasWrong(sum [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wrong := range p.wrong[:min(p.count, len(p.wrong))] {
		if hmac.Equal(wrong[:], sum[:]) {
			return true
		}
	}
	return false
}

func (p *proof) addWrong(sum [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong[p.count%len(p.wrong)] = sum
	p.count++
}

// isUnknown and setUnknown keep for some seconds what nobody has: a program with a
// dead password asks again and again. Nothing new can come under such a name in time,
// for selectors and tokens are random.
func (d *Door) isUnknown(digest identity.Digest, now time.Time) bool {
	until, ok := d.unknown.get(digest)
	return ok && now.Before(until)
}

func (d *Door) setUnknown(digest identity.Digest) {
	d.unknown.put(digest, d.o.Now().Add(unknownFor))
}
