// Package credential is the one door for every secret that somebody presents as a
// person: app passwords and access tokens. It answers who that is and what the right
// allows here and now, or why not. It does not speak any protocol, keeps no
// passwords, and does not count guesses: package throttle does, and callers ask it
// before they come here.
//
//	mailauth, submission, portal -> Door.Password, Door.Token
//	                                  |  name, form, length      (no store, no hash)
//	                                  |  selector -> one row     (cache, else Store)
//	                                  |  rights of the row       (at every sign-in)
//	                                  |  proof                   (cache, else one Argon2id in a bounded queue)
//	                                  v
//	                               Verdict | *Refused | ErrBusy | ErrUnavailable
//
// What is cached is what the database said at a generation. The generation is asked
// for every [Options].Poll, and Changed tells of a change made in this process: what
// is older is asked again before it is used. When the database is away, what was read
// at the newest generation known goes on for OutageGrace after that was read, and what
// this process saw revoked stays revoked whatever the database says later.
//
// Argon2id is golang.org/x/crypto/argon2, names are golang.org/x/net/idna. Libraries
// that wrap argon2 with PHC strings (alexedwards/argon2id, go-crypt/crypt) put no cap on
// what a stored string may cost; libraries of caches (hashicorp/golang-lru, ristretto)
// know no generations, and the list under one lock that is left is forty lines.
package credential

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What callers answer with "later", never with "no": on an SMTP connection Postfix
// makes a permanent 535 of every FAIL, and programs then throw the password away.
var (
	// ErrBusy means that the queue of slow hashes is full.
	ErrBusy = errors.New("too many passwords are being checked")
	// ErrUnavailable means that the database could not be asked and what is known is
	// too old, or never was.
	ErrUnavailable = errors.New("sign-in cannot be checked now")
)

// A Reason is why somebody was refused. It is for logs and the audit trail: peers get
// one neutral text for all of them.
type Reason string

// The reasons.
const (
	ReasonName      Reason = "user name not understood"
	ReasonForm      Reason = "not a secret of this server"
	ReasonPlaintext Reason = "secret sent without TLS"
	ReasonUnknown   Reason = "unknown secret"
	ReasonUser      Reason = "secret of somebody else"
	ReasonWrong     Reason = "wrong secret"
	ReasonRevoked   Reason = "revoked"
	ReasonExpired   Reason = "expired"
	ReasonDisabled  Reason = "person disabled"
	ReasonProtocol  Reason = "not for this protocol"
	ReasonNetwork   Reason = "not from this network"
)

// Refused is a definite no.
type Refused struct {
	Reason Reason
	// Person is whose secret it would have been, empty when nobody's.
	Person identity.PersonID
	// Proven: the secret itself was right and something else was not. Such a refusal
	// is no guess, and the throttle need not count it.
	Proven bool
}

// Error is for logs.
func (r *Refused) Error() string { return "refused: " + string(r.Reason) }

// Presented is what somebody claims.
type Presented struct {
	User      string // as sent; may be empty with a token
	Secret    secret.String
	Protocol  identity.Protocol
	Remote    netip.Addr // where the person's program is, as far as the mail server knows
	Mechanism string     // PLAIN, LOGIN, XOAUTH2, …; for logs
	Secured   bool       // the way from the program to the mail server is encrypted
}

// A Verdict is a yes. Its slices are shared and must not be written to.
type Verdict struct {
	Person identity.Person
	// Login is the mailbox that is opened: the person's address, or the address of a
	// shared mailbox at which the person has the login role.
	Login      string
	Credential *identity.Credential // of an app password
	Grant      *identity.Grant      // of a token
	Scopes     []string             // of a token, with what they imply written out
	Issuer     string               // of a token that another issuer made; else empty
	Issued     time.Time            // of a token
	Expires    time.Time            // of a token; zero where it is not known
}

// MailUser is the user name for the mail server. At SMTP a credential with limits of
// its own goes by its own name, so that the limits are found again when the message
// comes; a sender is always the person, also when a shared mailbox was named.
func (v Verdict) MailUser(p identity.Protocol) string {
	switch {
	case p != identity.SMTP:
		return v.Login
	case v.Credential != nil && v.Credential.Limited():
		return identity.LoginName(v.Person.Address, v.Credential.Name)
	}
	return v.Person.Address
}

// Store is where app passwords are. An error that is neither identity.ErrNotFound nor
// identity.ErrRevoked means that the store could not be asked.
type Store interface {
	CredentialBySelector(ctx context.Context, selector string) (identity.Credential, identity.Person, error)
	AddressesOf(ctx context.Context, person identity.PersonID) ([]identity.Address, error)
	// Generation changes with every change that can take a right away.
	Generation(ctx context.Context) (int64, error)
	Used(ctx context.Context, uses []identity.Use) error
}

// Tokens is where access tokens are. All of them were issued for this mail service:
// there is no other audience in that table, and a token of elsewhere is not in it.
type Tokens interface {
	AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error)
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
}

// Options are filled before New; zero values get the default in brackets.
type Options struct {
	Store  Store
	Tokens Tokens // may be nil: then no token is good
	// Outside and Bindings let tokens of other issuers in; nil: there are none.
	Outside  Outside
	Bindings Bindings
	Rights   OutsideRights // nil: nobody can take away what their clients may do
	Log      *slog.Logger
	Now      func() time.Time

	Domain     string // put behind user names without one; empty: such names are refused
	RequireTLS bool   // refuse secrets that came neither over TLS nor from this host

	Cost    Cost          // of new app passwords (DefaultCost)
	Hashers int           // slow hashes at once (cores)
	Queue   int           // slow hashes that wait (64 for each hasher)
	Wait    time.Duration // how long one waits (5 s; Postfix gives up after ten)

	Poll        time.Duration // how often the generation is asked for (1 s)
	OutageGrace time.Duration // (15 min)
	Flush       time.Duration // how often last uses are written, at least a minute (1 min)
	Timeout     time.Duration // of one question to the store (3 s)
	Entries     int           // credentials and tokens kept, each (100,000)
}

// fill puts the defaults in.
func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Cost == (Cost{}) {
		o.Cost = DefaultCost()
	}
	if o.Hashers <= 0 {
		o.Hashers = runtime.GOMAXPROCS(0)
	}
	if o.Queue <= 0 {
		o.Queue = 64 * o.Hashers
	}
	if o.Entries <= 0 {
		o.Entries = 100_000
	}
	orElse(&o.Wait, 5*time.Second)
	orElse(&o.Poll, time.Second)
	orElse(&o.OutageGrace, 15*time.Minute)
	orElse(&o.Timeout, 3*time.Second)
	o.Flush = max(o.Flush, time.Minute)
}

func orElse(d *time.Duration, standard time.Duration) {
	if *d <= 0 {
		*d = standard
	}
}

// A Door checks secrets. Its methods may be called from everywhere at once. Without
// Run it works, asks the store at every sign-in, and cannot bridge an outage.
type Door struct {
	o   Options
	key [32]byte // of the proofs; of this process, never written

	state     atomic.Pointer[state]
	turn      sync.Mutex // one changes state at a time
	passwords *cache[string, *held]
	tokens    *cache[identity.Digest, *heldToken]
	unknown   *cache[identity.Digest, time.Time] // digests of selectors and tokens that nobody has
	ended     *ended
	uses      uses
	queue     *queue
	flights   flights

	// matches is the slow hash; tests count it.
	matches func(hash, password string) (bool, error)
}

const (
	unknownEntries = 4096
	unknownFor     = 10 * time.Second
)

// New makes a Door.
func New(o Options) *Door {
	o.fill()
	d := &Door{
		o:         o,
		passwords: newCache[string, *held](o.Entries),
		tokens:    newCache[identity.Digest, *heldToken](o.Entries),
		unknown:   newCache[identity.Digest, time.Time](unknownEntries),
		ended:     newEnded(),
		queue:     newQueue(o.Hashers, o.Queue, o.Wait),
		matches:   matches,
	}
	// Read ends the process where the system has no randomness, and returns no error.
	_, _ = rand.Read(d.key[:])
	d.uses.pending = map[identity.CredentialID]identity.Use{}
	d.flights.open = map[string]*flight{}
	d.state.Store(&state{})
	return d
}

// admit checks what needs neither store nor hash, and returns the canonical user name.
func (d *Door) admit(p Presented, nameless bool) (string, error) {
	if d.o.RequireTLS && !p.Secured && !p.Remote.Unmap().IsLoopback() {
		return "", &Refused{Reason: ReasonPlaintext}
	}
	if p.User == "" && nameless {
		return "", nil
	}
	user, err := userName(p.User, d.o.Domain)
	if err != nil {
		return "", &Refused{Reason: ReasonName}
	}
	return user, nil
}
