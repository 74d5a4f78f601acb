// Package signin is how a person proves who they are to a page: at GitHub or at an OpenID
// Connect issuer, which then stands for a person here, or by a passkey of these pages; and
// by a second factor where one is wanted.
//
//	/signin                  one button per provider; straight on when there is one
//	/signin/NAME             off to the provider, with state, PKCE and nonce
//	/signin/NAME/callback    back from it: who is that account, and may they come in
//	/signin/passkey          a passkey alone, for local accounts
//	/signin/recover          a recovery code, for local accounts whose passkey is lost
//	/signin/factor           the second factor, after a provider's word
//	/signin/enrol            setting one up, where the policy wants one of everybody
//	/signin/again            a fresh proof, of somebody who is signed in
//	/signin/invitation       a one-time link, accepted by whoever signs in with it, or makes
//	                         a passkey with it
//	/signin/first            a one-time link that makes the first administrator
//	/signout
//
// An account at a provider is its issuer and subject, never a name or an address: those
// are given to others. An account becomes a person's by an administrator's word, by an
// invitation, or once, at its first sign-in, by an address that the provider has verified
// and that belongs to a domain served here. After that nothing a provider says changes
// whose account it is.
//
// The protocol is package oauth's (PKCE, issuer check of RFC 9207, ID tokens by go-oidc).
// markbates/goth and dghubble/gologin were looked at: their state is a cookie that is not
// bound to a provider, they key accounts by whatever the provider calls them, and know no
// membership by number.
//
// Passkeys, codes and recovery codes are made and checked by package factor.
package signin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// An Account is who a provider says sits at the browser.
type Account struct {
	Issuer  string // with Subject the key
	Subject string
	Shown   string // what the provider calls it, for pages
	Name    string // of the person, as they wrote it there
	// Emails are addresses that the provider has verified, the preferred one first. They
	// are looked at when nobody is bound to the account, and never after.
	Emails []string
	// NoEmail says to an administrator why there is none.
	NoEmail  string `json:"-"`
	How      string // for the session: "github", "oidc:ISSUER"
	Upstream string // issuer and sid, for back-channel logout
	// Refresh is for asking again later, where that was asked for. An invitation that waits
	// for a yes does not hold it: the next sign-in brings one.
	Refresh secret.String `json:"-"`
	// Factor is the second factor that was proved with it; empty: none yet.
	Factor identity.Factor `json:"-"`
}

// session is what the issuer calls the session.
func (a Account) session() string { return strings.TrimPrefix(a.Upstream, a.Issuer+" ") }

// A Flow is one sign-in between leaving and coming back.
type Flow struct {
	RedirectURI string
	State       string
	Verifier    string // PKCE
	Nonce       string
	// Afresh: the browser was signed out here, so that the provider is asked not to let its
	// own session answer. Only a wish: what comes back is not held to it.
	Afresh bool
}

// A Provider knows who people are. Errors are *Refused or *Away; any other is a fault of
// the provider's or of ours, and is shown as Away.
type Provider interface {
	// Begin returns where to send the browser.
	Begin(ctx context.Context, f Flow) (string, error)
	// Finish reads the query the browser came back with.
	Finish(ctx context.Context, f Flow, query string) (Account, error)
}

// An Entrance is a provider with its policy.
type Entrance struct {
	Name     string // a-z, 0-9 and -; part of its addresses
	Label    string
	Provider Provider
	// BindVerified takes an account that is nobody's for the person whose address it has
	// verified. Provision makes that person when there is none.
	BindVerified, Provision bool
}

// People are persons and their accounts.
type People interface {
	Admins(ctx context.Context) ([]identity.Person, error)
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
	AddPerson(ctx context.Context, p identity.Person) error
}

// Addresses are the mailboxes of provisioned persons.
type Addresses interface {
	Address(ctx context.Context, address string) (identity.Address, error)
	PutAddress(ctx context.Context, a identity.Address) error
}

// Bindings tie accounts to persons.
type Bindings interface {
	Binding(ctx context.Context, issuer, subject string) (identity.Binding, error)
	Bindings(ctx context.Context, person identity.PersonID) ([]identity.Binding, error)
	Bind(ctx context.Context, b identity.Binding) error
	Confirm(ctx context.Context, issuer, subject string, at time.Time) error
}

// Once keeps what is taken once.
type Once interface {
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
	ReadOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
}

// Trail is the audit trail.
type Trail interface {
	AddEvent(ctx context.Context, e identity.Event) error
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Store is all that is kept; database has it.
type Store interface {
	People
	Addresses
	Bindings
	Once
	Trail
}

// Throttle counts how often a network begins or comes back. What a provider sends cannot be
// guessed; the count protects the store and the providers' patience from floods.
type Throttle interface {
	// Ask counts this time too.
	Ask(ctx context.Context, remote netip.Addr) (refuse bool)
	// Miss counts a wrong code or passkey, which weighs more than a visit. Wrong codes
	// count for the person too, in package factor.
	Miss(ctx context.Context, remote netip.Addr)
}

// Options shape a Desk.
type Options struct {
	PublicURL string
	Domains   []string // own mail domains: no other address is bound or made
	Entrances []Entrance
	Sessions  *web.Sessions
	Store     Store
	Throttle  Throttle // nil: none
	Again     Again

	// Factors makes and checks second factors; nil: there are none.
	Factors *factor.Keeper
	Second  Policy
	// Trusted networks are not asked for a second factor at the sign-in. It is never
	// skipped for admin pages or for making credentials.
	Trusted []netip.Prefix
	// Local lets people sign in by a passkey alone whom an invitation gave one.
	Local bool

	Now    func() time.Time
	Random io.Reader // crypto/rand.Reader
	Log    *slog.Logger
}

// A Desk signs people in.
type Desk struct{ o Options }

// New checks the options.
func New(o Options) (*Desk, error) {
	if o.Sessions == nil || o.Store == nil || o.Now == nil || o.Random == nil || o.Log == nil {
		return nil, errors.New("sign-in: sessions, store, clock, randomness or log is missing")
	}
	seen := map[string]bool{}
	for _, e := range o.Entrances {
		if !plainName(e.Name) || reservedName(e.Name) || e.Provider == nil || seen[e.Name] {
			return nil, fmt.Errorf("sign-in: entrance %q: the name cannot stand in an address, stands there already, or has no provider", e.Name)
		}
		if e.Provision && !e.BindVerified {
			return nil, fmt.Errorf("sign-in: entrance %q makes persons but binds none", e.Name)
		}
		seen[e.Name] = true
	}
	if o.Throttle == nil {
		o.Throttle = patient{}
	}
	return &Desk{o}, nil
}

func plainName(name string) bool {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') {
			return false
		}
	}
	return name != "" && len(name) <= 40
}

func reservedName(name string) bool {
	return slices.Contains([]string{"invitation", "passkey", "recover", "factor", "enrol", "again", "first"}, name)
}

// patient is no throttle.
type patient struct{}

func (patient) Ask(context.Context, netip.Addr) bool { return false }
func (patient) Miss(context.Context, netip.Addr)     {}

// Register adds the pages to mux. They stand behind web.Sessions.Handler and OwnForms.
func (d *Desk) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+web.SignInPath+"/{$}", d.chooser)
	mux.HandleFunc("GET "+web.SignInPath, d.chooser)
	mux.HandleFunc("GET "+web.SignInPath+"/{name}", d.begin)
	mux.HandleFunc("GET "+web.SignInPath+"/{name}/callback", d.callback)
	mux.HandleFunc("GET "+web.SignInPath+"/invitation", d.invitation)
	mux.HandleFunc("POST "+web.SignInPath+"/invitation", d.answerInvitation)
	mux.HandleFunc("POST /signout", d.signOut)
	mux.HandleFunc("GET "+web.SignInPath+"/first", d.first)
	mux.HandleFunc("POST "+web.SignInPath+"/first", d.first)
	if d.o.Factors == nil {
		return
	}
	mux.HandleFunc("GET "+web.ScriptPath, web.Script)
	for path, page := range map[string]http.HandlerFunc{"factor": d.factorPage, "enrol": d.enrol, "again": d.again} {
		mux.HandleFunc("GET "+web.SignInPath+"/"+path, page)
		mux.HandleFunc("POST "+web.SignInPath+"/"+path, page)
	}
	if d.local() {
		mux.HandleFunc("POST "+web.SignInPath+"/passkey", d.byPasskey)
		mux.HandleFunc("POST "+web.SignInPath+"/invitation/passkey", d.acceptByPasskey)
		mux.HandleFunc("GET "+web.SignInPath+"/recover", d.recover)
		mux.HandleFunc("POST "+web.SignInPath+"/recover", d.recover)
	}
}

func (d *Desk) entrance(name string) (Entrance, bool) {
	for _, e := range d.o.Entrances {
		if e.Name == name {
			return e, true
		}
	}
	return Entrance{}, false
}

// event adds to the audit trail, in the transaction of ctx that does what it tells, if there
// is one. A trail that cannot be written ends a sign-in: nobody comes in unseen.
func (d *Desk) event(ctx context.Context, r *http.Request, kind string, person identity.PersonID, detail string) error {
	err := d.o.Store.AddEvent(ctx, identity.Event{
		At: d.o.Now(), Kind: kind, Person: person, Actor: actor(person), From: d.o.Sessions.Client(r), Detail: detail,
	})
	if err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}

func actor(person identity.PersonID) string {
	if person == "" {
		return "nobody"
	}
	return string(person)
}
