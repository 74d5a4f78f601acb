package authserver

import (
	"context"
	"net/http"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Each method of a store is one transaction. What is not there is
// identity.ErrNotFound. Package storetest holds stores to the rules written here.

// CodeStore keeps authorization codes.
type CodeStore interface {
	// AddCode keeps the consent and the code that stands for it: both or neither.
	AddCode(ctx context.Context, grant identity.Grant, code identity.Code) error
	// AddCodeAgain keeps a further code of a grant in force; a revoked one gives
	// identity.ErrRevoked.
	AddCodeAgain(ctx context.Context, code identity.Code) error
	// TakeCode marks the code used and returns it as it was before. Of any number of
	// calls at once exactly one sees it unused.
	TakeCode(ctx context.Context, digest identity.Digest, at time.Time) (identity.Code, error)
}

// TokenStore keeps access and refresh tokens.
type TokenStore interface {
	// Issue keeps new tokens; a refresh token with a zero digest is none. A revoked
	// grant gives identity.ErrRevoked and keeps nothing.
	Issue(ctx context.Context, access identity.AccessToken, refresh identity.RefreshToken) error
	// Rotate spends old and keeps next and access, once: it returns old as it was
	// before. If it was spent already nothing changes. A revoked grant gives
	// identity.ErrRevoked.
	Rotate(ctx context.Context, old identity.Digest, at time.Time, sealed []byte,
		next identity.RefreshToken, access identity.AccessToken) (identity.RefreshToken, error)
	AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error)
	RefreshToken(ctx context.Context, digest identity.Digest) (identity.RefreshToken, identity.Grant, error)
}

// GrantStore keeps consents. A grant that is revoked stays, so that nothing late can
// bring it back.
type GrantStore interface {
	Grant(ctx context.Context, id identity.GrantID) (identity.Grant, error)
	// GrantsOf lists a person's grants, revoked ones too, the newest first.
	GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error)
	// RevokeGrant ends the grant and all tokens of its family; the first reason stays.
	RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error
	RevokeAccess(ctx context.Context, digest identity.Digest, at time.Time) error
}

// DeviceStore keeps device requests (RFC 8628).
type DeviceStore interface {
	// AddDevice gives identity.ErrExists while another living request has the code.
	AddDevice(ctx context.Context, request identity.DeviceRequest) error
	FindDevice(ctx context.Context, userCode identity.Digest, now time.Time) (identity.DeviceRequest, error)
	// DecideDevice approves with a grant, which it keeps, and denies without one; the
	// request's AuthTime becomes signedIn. A request that is no longer pending gives
	// identity.ErrDecided.
	DecideDevice(ctx context.Context, digest identity.Digest, signedIn time.Time, grant *identity.Grant) error
	// PollDevice applies DeviceRequest.Poll and returns the request as it was before.
	// Another client's request is not found, and its clock does not move.
	PollDevice(ctx context.Context, digest identity.Digest, client identity.ClientID, at time.Time) (before identity.DeviceRequest, tooSoon bool, err error)
}

// ClientStore keeps the programs that an administrator entered, and which of those that
// registered themselves have deleted that again.
type ClientStore interface {
	// Client finds a disabled one too.
	Client(ctx context.Context, id identity.ClientID) (identity.Client, error)
	// EndRegistration also revokes all grants of the client.
	EndRegistration(ctx context.Context, id identity.ClientID, at time.Time) error
	RegistrationEnded(ctx context.Context, id identity.ClientID) (bool, error)
	// ClientGrants lists the grants in force of a client.
	ClientGrants(ctx context.Context, id identity.ClientID) ([]identity.Grant, error)
}

// KeyStore keeps the keys of ID tokens.
type KeyStore interface {
	// SigningKeys lists all, in the order in which they become active.
	SigningKeys(ctx context.Context) ([]identity.SigningKey, error)
	// AddSigningKey with first gives identity.ErrExists when there is one.
	AddSigningKey(ctx context.Context, key identity.SigningKey, first bool) error
}

// Trail is the audit trail, of the same store as the others.
type Trail interface {
	AddEvent(ctx context.Context, e identity.Event) error
	// Together makes one transaction of all that is asked of the stores with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Counter counts in windows that all instances share.
type Counter interface {
	Count(ctx context.Context, key string, window time.Time, add int) (int, error)
}

// OnceStore keeps things that are taken once.
type OnceStore interface {
	// PutOnce gives identity.ErrExists while one of the same digest and kind is there.
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
}

// People finds persons.
type People interface {
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
}

// Bearers remember the tokens that were asked about, until a right was taken away from
// anybody at any instance, which they hear of within a second.
type Bearers interface {
	// Bearer finds a token, its grant and its person, good or not.
	Bearer(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, identity.Person, error)
}

// A Session is a signed-in browser.
type Session struct {
	ID     string // changes at every sign-in
	Person identity.PersonID
	At     time.Time // when the person proved who they are
	// Unproved: to allow a program something takes a newer proof than this browser has
	// given, or a second factor that it has not. A consent is as good as an app password.
	Unproved bool
}

// SignIn tells who sits at a browser.
type SignIn interface {
	// SignedIn returns the session of the request, false when there is none.
	SignedIn(r *http.Request) (Session, bool)
	// Begin sends the browser to sign in and then back to a path of ours.
	Begin(w http.ResponseWriter, r *http.Request, back string)
}
