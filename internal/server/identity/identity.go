// Package identity is the nouns of the server: who there is, and what was allowed to
// act for them. Plain data with the few rules that belong to one noun alone; no
// storage, no HTTP. The authorization server, mailauth and the portal speak in these
// words, and database keeps them.
//
// Nothing here holds a token, a code or a secret as text: a [Digest] stands for each,
// so that a stolen database or backup signs nobody in.
package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"
)

// What a store answers besides success. Stores wrap them; callers use errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrRevoked  = errors.New("revoked")
	ErrDecided  = errors.New("decided already")
	// ErrInvalid: the noun breaks a rule of its own, such as an address in upper case.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the store could not be asked, or its answer did not arrive. It says
	// nothing about the noun: callers answer "later", never "no".
	ErrUnavailable = errors.New("unavailable")
)

// A Digest is the SHA-256 of a secret of 256 random bits. A slow hash would protect
// nothing more: such a secret cannot be guessed.
type Digest [sha256.Size]byte

// DigestOf hashes a secret.
func DigestOf(text string) Digest { return sha256.Sum256([]byte(text)) }

// Equal compares in constant time.
func (d Digest) Equal(other Digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// PersonID, GrantID and ClientID are kept apart by the compiler.
type (
	PersonID string
	GrantID  string
	ClientID string
)

// A Person is somebody with a mailbox here.
type Person struct {
	ID PersonID
	// Address is the canonical mail address, lower case: what mail servers get as
	// the user name. Postfix takes it raw and Dovecot 2.4 compares it exactly.
	Address  string
	Name     string
	Admin    bool
	Created  time.Time
	Disabled time.Time // zero: not disabled
	Reason   string    // why disabled
}

// A Grant is one consent of a person: this client may do this. All tokens that come
// of it are its family and end with it.
type Grant struct {
	ID      GrantID
	Person  PersonID
	Client  ClientID
	Scopes  []string
	Created time.Time
	Revoked time.Time // zero: in force
	Reason  string    // why it was revoked, for the portal and the log
}

// A Code is an authorization code that waits for its client (RFC 6749 section 4.1).
type Code struct {
	Digest      Digest
	Grant       GrantID
	Client      ClientID
	RedirectURI string // as requested; must come again at the token endpoint
	Challenge   string // PKCE S256
	Nonce       string // OpenID Connect
	AuthTime    time.Time
	Expires     time.Time
	Used        time.Time // zero: not yet
}

// An AccessToken is what mail servers ask about.
type AccessToken struct {
	Digest  Digest
	Grant   GrantID
	Scopes  []string // of this token; may be fewer than the grant's
	Issued  time.Time
	Expires time.Time
	Revoked time.Time
}

// A RefreshToken is spent once; its successor follows.
type RefreshToken struct {
	Digest  Digest
	Grant   GrantID
	Issued  time.Time
	Expires time.Time
	Spent   time.Time // zero: not yet
	// Successor is the next refresh token, sealed under a key that only the holder
	// of this one can derive: races in the grace time get the same successor, and
	// the database still holds none.
	Successor []byte
}

// A DeviceState is where a device request stands.
type DeviceState string

// The states of a device request.
const (
	DevicePending  DeviceState = "pending"
	DeviceApproved DeviceState = "approved"
	DeviceDenied   DeviceState = "denied"
	DeviceRedeemed DeviceState = "redeemed"
)

// A DeviceRequest is a device that waits for a person (RFC 8628).
type DeviceRequest struct {
	Digest   Digest // of the device code
	UserCode Digest // of the short code
	Client   ClientID
	Scopes   []string
	From     string // network address that asked; shown to the person
	Created  time.Time
	Expires  time.Time
	Interval time.Duration
	LastPoll time.Time
	State    DeviceState
	Grant    GrantID // once approved
	AuthTime time.Time
}

// Poll records that the device asks at now and reports whether it came too soon:
// then the interval grows by five seconds for good (RFC 8628 section 3.5).
// An approved request is redeemed by the poll that finds it.
func (d *DeviceRequest) Poll(now time.Time) (tooSoon bool) {
	tooSoon = !d.LastPoll.IsZero() && now.Before(d.LastPoll.Add(d.Interval))
	d.LastPoll = now
	if tooSoon {
		d.Interval += 5 * time.Second
		return true
	}
	if d.State == DeviceApproved && now.Before(d.Expires) {
		d.State = DeviceRedeemed
	}
	return false
}

// A ResourceServer is a mail server or another service that may ask whether a token
// is good (RFC 7662).
type ResourceServer struct {
	ID     string
	Secret Digest
	// Accepts lists the scopes this server serves: a token that has none of them is
	// inactive to it. Empty: any mail scope.
	Accepts []string
}
