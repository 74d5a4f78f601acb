// Package portal is the pages where people see what may act as them and take it away,
// make app passwords, and where administrators look after people, addresses and bans. It
// also tells mail programs where the servers are (autoconfig, PACC).
//
// Pages are made at the server and work without script. Every page is one question to
// the store and one answer; nothing is kept in between, so instances share no more than
// the store and the key of the forms. What changes something is a POST with a token
// that holds for one session, one action and one thing.
//
// Signing in is not here: [Browser] tells who sits at the browser, and [Options.SignIn]
// sends them to prove it, once more where a page wants a fresh proof.
package portal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A CredentialStore keeps app passwords.
type CredentialStore interface {
	AddCredential(ctx context.Context, c identity.Credential) error
	Credentials(ctx context.Context, person identity.PersonID) ([]identity.Credential, error)
	RevokeCredential(ctx context.Context, id identity.CredentialID, at time.Time, reason string) error
}

// A GrantStore keeps what people allowed programs.
type GrantStore interface {
	Grant(ctx context.Context, id identity.GrantID) (identity.Grant, error)
	GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error)
	RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error
	// AllowAgain lets a client of another issuer in once more; one that is in force stays.
	AllowAgain(ctx context.Context, again identity.Grant) error
}

// A SessionStore keeps browsers that are signed in.
type SessionStore interface {
	Sessions(ctx context.Context, person identity.PersonID) ([]identity.Session, error)
	EndSession(ctx context.Context, id identity.SessionID) error
	EndSessions(ctx context.Context, person identity.PersonID) error
}

// An AddressStore keeps who has which address.
type AddressStore interface {
	AddressesOf(ctx context.Context, person identity.PersonID) ([]identity.Address, error)
	Addresses(ctx context.Context, after string, limit int) ([]identity.Address, error)
	Address(ctx context.Context, address string) (identity.Address, error)
	PutAddress(ctx context.Context, a identity.Address) error
	DeleteAddress(ctx context.Context, address string) error
}

// A PeopleStore keeps persons.
type PeopleStore interface {
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
	People(ctx context.Context, after string, limit int) ([]identity.Person, error)
	AddPerson(ctx context.Context, p identity.Person) error
	DisablePerson(ctx context.Context, id identity.PersonID, at time.Time, reason string) error
	EnablePerson(ctx context.Context, id identity.PersonID) error
	Bindings(ctx context.Context, id identity.PersonID) ([]identity.Binding, error)
}

// A HeldStore keeps what is held against people whom a directory has removed.
type HeldStore interface {
	Held(ctx context.Context, after string, limit int) ([]identity.Held, error)
	ReleaseHeld(ctx context.Context, address string) error
}

// A Trail is the audit trail.
type Trail interface {
	AddEvent(ctx context.Context, e identity.Event) error
	Events(ctx context.Context, filter identity.EventFilter) ([]identity.Event, error)
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// A BanStore keeps the list that administrators made.
type BanStore interface {
	Bans(ctx context.Context) ([]identity.Ban, error)
	PutBan(ctx context.Context, b identity.Ban) error
	DeleteBan(ctx context.Context, network netip.Prefix) error
}

// Store is all of them. An error that wraps identity.ErrUnavailable says that the store
// could not be asked: the page then says "later".
type Store interface {
	CredentialStore
	GrantStore
	SessionStore
	AddressStore
	PeopleStore
	HeldStore
	Trail
	BanStore
	Generation(ctx context.Context) (int64, error)
}

// A Browser tells who sits at a browser; web.Sessions is one.
type Browser interface {
	Current(r *http.Request) (identity.Session, identity.Person, bool)
	FormToken(r *http.Request, purpose, text string) string
	ValidForm(r *http.Request, token, purpose, text string) bool
	Client(r *http.Request) netip.Addr
}

// A Maker makes the secret of an app password; credential.Door is one.
type Maker interface {
	NewAppPassword(ctx context.Context) (password secret.String, selector, hash string, err error)
}

// A Push has revocations felt by the mail servers; mailauth.Push is one.
type Push interface {
	Revoke(users ...string)
	Unconfirmed(users ...string) []string
}

// A Node is a mail server as the health page shows it.
type Node struct {
	Name    string
	Waiting int       // persons whose revocation it has not confirmed
	Since   time.Time // of the oldest
	Tried   time.Time
	Error   string
}

// A List is a list of networks that are refused, as the health page shows it.
type List struct {
	Name    string
	Entries int
	Faults  int       // lines that were left out
	Read    time.Time // zero: never, and nothing of it holds
	Error   string    // of the last try
}

// A Link is a page of another room in the menu: passkeys, for one.
type Link struct{ Text, Path string }

// Options are what a Portal needs. Those marked may be zero.
type Options struct {
	Store   Store
	Browser Browser
	Maker   Maker
	Push    Push          // may be nil: no mail server is told
	Changed func()        // may be nil: called after rights were taken away, for caches of this process
	Nodes   func() []Node // may be nil
	Lists   func() []List // may be nil
	// Client names a program; false when it is not known any more. May be nil.
	Client func(id identity.ClientID) (identity.Client, bool)

	// SignIn sends the browser to sign in and back to a path of ours; again wants a
	// fresh proof from somebody who is signed in already.
	SignIn func(w http.ResponseWriter, r *http.Request, back string, again bool)
	// SignOut is the path that takes a POST to sign out; may be empty.
	SignOut string
	// SignOutToken is what that form wants as "token"; may be nil.
	SignOutToken func(r *http.Request) string
	Links        []Link

	Domains []string // own mail domains
	Servers Servers

	// Fresh is how long a proof is fresh enough to make credentials and to see the
	// admin pages (15 min).
	Fresh time.Duration
	// Factors are second factors; nil: the pages know of none.
	Factors *factor.Keeper
	// AdminBySignIn takes a fresh sign-in for enough for the admin pages; else the session
	// must have proved a second factor.
	AdminBySignIn bool

	Now    func() time.Time
	Random io.Reader
	Log    *slog.Logger
}

// A Portal serves the pages.
type Portal struct{ o Options }

const defaultFresh = 15 * time.Minute

// New checks the options.
func New(o Options) (*Portal, error) {
	if o.Store == nil || o.Browser == nil || o.Maker == nil || o.SignIn == nil || o.Now == nil || o.Random == nil || o.Log == nil {
		return nil, errors.New("portal: a store, browser, maker, sign-in, clock, randomness or log is missing")
	}
	if o.Fresh <= 0 {
		o.Fresh = defaultFresh
	}
	return &Portal{o}, nil
}

// Register adds the pages to mux. Paths end at "/": what is not known gets a page too.
func (p *Portal) Register(mux *http.ServeMux) {
	for path, page := range map[string]page{
		"/{$}":           {show: home},
		"/passwords/new": {show: newPassword, proved: true},
		"/addresses":     {show: addresses},
		"/activity":      {show: activity},

		"/admin":             {show: adminPeople, admin: true},
		"/admin/person/{id}": {show: adminPerson, admin: true},
		"/admin/addresses":   {show: adminAddresses, admin: true},
		"/admin/bans":        {show: adminBans, admin: true},
		"/admin/audit":       {show: adminAudit, admin: true},
		"/admin/health":      {show: adminHealth, admin: true},
	} {
		mux.Handle("GET "+path, p.get(page))
	}
	for path, act := range map[string]action{
		"/passwords/revoke":    {do: revokePassword, back: "/"},
		"/grants/revoke":       {do: revokeGrant, back: "/"},
		"/grants/again":        {do: allowAgain, back: "/"},
		"/sessions/end":        {do: endSession, back: "/"},
		"/sessions/end-others": {do: endOthers, back: "/"},

		"/admin/person/add":          {do: addPerson, admin: true, back: "/admin"},
		"/admin/person/disable":      {do: disablePerson, admin: true, back: "/admin"},
		"/admin/person/enable":       {do: enablePerson, admin: true, back: "/admin"},
		"/admin/person/revoke":       {do: revokeOfPerson, admin: true, back: "/admin"},
		"/admin/person/end-sessions": {do: endSessionsOfPerson, admin: true, back: "/admin"},
		"/admin/held/release":        {do: releaseHeld, admin: true, back: "/admin"},
		"/admin/addresses/alias":     {do: putAlias, admin: true, back: "/admin/addresses"},
		"/admin/addresses/role":      {do: putRole, admin: true, back: "/admin/addresses"},
		"/admin/addresses/remove":    {do: removeAddress, admin: true, back: "/admin/addresses"},
		"/admin/bans/add":            {do: addBan, admin: true, back: "/admin/bans"},
		"/admin/bans/remove":         {do: removeBan, admin: true, back: "/admin/bans"},
	} {
		act.path = path
		mux.Handle("POST "+path, p.post(act))
	}
	p.registerFactors(mux)
	mux.Handle("POST /passwords/new", p.post(action{do: makePassword, back: "/passwords/new", path: "/passwords/new", lenient: true}))
	for _, path := range []string{"/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml"} {
		mux.HandleFunc("GET "+path, p.autoconfig)
	}
	mux.HandleFunc("GET "+PACCPath, p.pacc)
}

// registerFactors adds the pages about second factors.
func (p *Portal) registerFactors(mux *http.ServeMux) {
	if p.o.Factors == nil {
		return
	}
	mux.Handle("GET /security", p.get(page{show: security}))
	mux.Handle("GET /security/passkey", p.get(page{show: newPasskey, factors: true}))
	mux.Handle("GET /security/app", p.get(page{show: newApp, factors: true}))
	for path, do := range map[string]func(*visit) error{
		"/security/passkey": addPasskey, "/security/passkey/remove": removePasskey,
		"/security/app": addApp, "/security/app/remove": removeApp, "/security/recovery": newRecovery,
	} {
		mux.Handle("POST "+path, p.post(action{do: do, path: path, back: "/security", factors: true}))
	}
}
