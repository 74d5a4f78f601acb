package identity

import (
	"net/netip"
	"time"
)

// A Passkey is a key pair of a person's (WebAuthn): we have the public half. It proves the
// device and, because the device asks for finger, face or PIN, the person: two factors.
type Passkey struct {
	ID     []byte // chosen by the device; unique over all persons
	Person PersonID
	Name   string // as the person wrote it
	// PublicKey is a COSE key (RFC 9052).
	PublicKey []byte
	// Count is the device's signature counter; zero for those that have none.
	Count uint32
	// Synced: it can be copied by its maker's service, and Saved: it has been. A change
	// of the first means that it is not the same passkey.
	Synced, Saved bool
	Transports    []string
	Created       time.Time
	LastUse       time.Time
	LastFrom      netip.Addr
}

// A PasskeyUse is one good answer of a passkey.
type PasskeyUse struct {
	ID    []byte
	Count uint32
	Saved bool
	At    time.Time
	From  netip.Addr
}

// A TOTP is a person's authenticator app (RFC 6238).
type TOTP struct {
	Person PersonID
	// Sealed is the shared seed under a key that is not in the database.
	Sealed []byte
	// Step is the last time step of which a code was taken: each is good once.
	Step    int64
	Created time.Time
	LastUse time.Time
}

// Factors are all that a person can prove themselves with beside a provider's word.
type Factors struct {
	Passkeys []Passkey
	TOTP     *TOTP // nil: none
	// Recovery is how many recovery codes are left of those made at RecoveryMade.
	Recovery     int
	RecoveryMade time.Time
}

// Second reports whether there is a second factor to ask for. Recovery codes alone are none:
// they stand in for one that was lost.
func (f Factors) Second() bool { return len(f.Passkeys) > 0 || f.TOTP != nil }

// A Factor is what a browser has proved besides, or instead of, a provider's word.
type Factor string

// The factors. The empty one is none.
const (
	ByPasskey  Factor = "passkey"
	ByTOTP     Factor = "totp"
	ByRecovery Factor = "recovery"
)

// Admin reports whether admin pages take it: a recovery code is for coming back, not for
// ruling.
func (f Factor) Admin() bool { return f == ByPasskey || f == ByTOTP }
