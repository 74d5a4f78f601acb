package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A Manager hands out access tokens and keeps the refresh rule. It holds no state:
// any number of them, in any number of processes, may share one store.
type Manager struct {
	Store    Store
	Keys     func(account string) (tokenstore.Keys, error)
	Exchange Exchanger
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: none
	// Grace is how long a request to the token endpoint goes on after its caller has
	// given up; 0 means 10 s.
	Grace time.Duration

	step func(name string) // a test's view of where we are
}

// A Store keeps grants, locks, marks and failures: *tokenstore.Store by way of [OnDisk].
type Store interface {
	Names() ([]string, error)
	Read(ctx context.Context, name string, keys tokenstore.Keys) ([]byte, error)
	Reserve(name string, keys tokenstore.Keys) (Room, error)
	Remove(name string) error
	Lock(ctx context.Context, name string) (unlock func(), err error)
	SetMark(name string, mark tokenstore.Mark) error
	ReadMark(name string) (*tokenstore.Mark, error)
	ClearMark(name string) error
	SetFailure(name string, record []byte) error
	ReadFailure(name string) ([]byte, error)
}

// A Room is reserved room for one grant.
type Room interface {
	Commit(plain []byte) error
	Abort()
}

// OnDisk is the store of package tokenstore as a [Store].
func OnDisk(store *tokenstore.Store) Store { return disk{store} }

type disk struct{ *tokenstore.Store }

func (d disk) Reserve(name string, keys tokenstore.Keys) (Room, error) {
	room, err := d.Store.Reserve(name, keys)
	if err != nil {
		return nil, err // not a nil *Room in a Room
	}
	return room, nil
}

// An Exchanger trades the grant's refresh token for an access token for resource.
type Exchanger interface {
	Refresh(ctx context.Context, grant *Grant, resource Resource) (oauth.Token, error)
}

// OverHTTP is the Exchanger that asks the grant's pinned token endpoint. The client
// comes from oauth.NewHTTPClient.
func OverHTTP(client *http.Client, now func() time.Time) Exchanger {
	return overHTTP{client, now}
}

type overHTTP struct {
	client *http.Client
	now    func() time.Time
}

func (o overHTTP) Refresh(ctx context.Context, grant *Grant, resource Resource) (oauth.Token, error) {
	conn, err := grant.Conn(o.client, o.now)
	if err != nil {
		return oauth.Token{}, err
	}
	extra := url.Values{}
	if resource.Indicator != "" {
		extra.Set("resource", resource.Indicator) // RFC 8707 section 2.2
	}
	if grant.Machine() {
		return mint(ctx, conn, grant, resource, extra)
	}
	return conn.Refresh(ctx, grant.Refresh, resource.Scopes, extra)
}

// Token returns a token of the account called name that is good for want, from the
// grant file when it has one, else by the refresh rule. Where the provider's tokens
// live shorter than want.MinValidity it returns as fresh a one as there is; its
// Expiry tells.
//
// Errors: *SignInNeeded, *Rejected, *Temporary, ErrPurpose, ErrName, ErrVersion, and
// those of tokenstore.
func (m *Manager) Token(ctx context.Context, name string, want Want) (Access, error) {
	keys, err := m.keys(name)
	if err != nil {
		return Access{}, err
	}
	// Without the lock: a grant file is replaced as a whole, never written into.
	seen, err := m.read(ctx, name, keys)
	if err != nil {
		return Access{}, err
	}
	resource, err := seen.resource(want.Purpose)
	if err != nil {
		return Access{}, err
	}
	old := seen.Access[resource.Name]
	if old.usable(m.now(), want) {
		return old, nil
	}
	return m.tokenLocked(ctx, name, keys, want, old)
}

// Grant returns the grant of the account called name, to look at.
func (m *Manager) Grant(ctx context.Context, name string) (*Grant, error) {
	keys, err := m.keys(name)
	if err != nil {
		return nil, err
	}
	return m.read(ctx, name, keys)
}

// Interrupted returns the mark of a refresh of name that was begun and whose answer
// was never stored, nil when there is none.
func (m *Manager) Interrupted(ctx context.Context, name string) (*tokenstore.Mark, error) {
	grant, err := m.Grant(ctx, name)
	if err != nil {
		return nil, err
	}
	mark, err := m.Store.ReadMark(name)
	if err != nil || mark == nil || mark.Serial != grant.Serial {
		return nil, err
	}
	return mark, nil
}

// List names the accounts that have a grant, sorted.
func (m *Manager) List() ([]string, error) { return m.Store.Names() }

// Writable proves, before a person is sent to a browser, that a grant of name could
// be kept.
func (m *Manager) Writable(ctx context.Context, name string) error {
	keys, err := m.keys(name)
	if err != nil {
		return err
	}
	unlock, err := m.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	room, err := m.reserve(name, keys)
	if err != nil {
		return err
	}
	room.Abort()
	return nil
}

// Save keeps the grant of a sign-in in the place of any older one, of which nothing
// stays. It reads no old grant, so that it needs no key: signing in again is also the
// way out of a lost one. It sets grant.Serial.
func (m *Manager) Save(ctx context.Context, grant *Grant) error {
	if err := grant.check(); err != nil {
		return fmt.Errorf("save grant: %w", err)
	}
	keys, err := m.keys(grant.Account)
	if err != nil {
		return err
	}
	unlock, err := m.lock(ctx, grant.Account)
	if err != nil {
		return err
	}
	defer unlock()
	grant.Serial = m.nextSerial(grant)
	plain, err := encode(grant)
	if err != nil {
		return err
	}
	if len(plain) > grantLimit/2 { // a refresh must find room for longer tokens
		return fmt.Errorf("save grant of %s: over %d bytes", grant.Account, grantLimit/2)
	}
	room, err := m.reserve(grant.Account, keys)
	if err != nil {
		return err
	}
	if err := room.Commit(plain); err != nil {
		return &Temporary{Account: grant.Account, Step: "write the grant", Err: err}
	}
	m.clearMark(grant.Account) // it spoke of the old grant
	return nil
}

// nextSerial grows from the clock, for the old grant may be unreadable, and passes the
// mark's, which must not seem to speak of the new grant.
func (m *Manager) nextSerial(grant *Grant) int64 {
	serial := max(grant.Serial, m.now().UnixMilli())
	if mark, err := m.Store.ReadMark(grant.Account); err == nil && mark != nil {
		serial = max(serial, mark.Serial)
	}
	return serial + 1
}

// Delete removes the grant of name and all that is kept beside it. It waits for a
// refresh that is under way, which would bring the grant back.
func (m *Manager) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	unlock, err := m.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.Store.Remove(name); err != nil {
		return fmt.Errorf("delete grant of %s: %w", name, err)
	}
	return nil
}

func (m *Manager) read(ctx context.Context, name string, keys tokenstore.Keys) (*Grant, error) {
	plain, err := m.Store.Read(ctx, name, keys)
	if err != nil {
		return nil, fmt.Errorf("read grant of %s: %w", name, err)
	}
	grant, err := decode(name, plain)
	if err != nil {
		return nil, fmt.Errorf("read grant of %s: %w", name, err)
	}
	return grant, nil
}

func (m *Manager) lock(ctx context.Context, name string) (func(), error) {
	m.log().Debug("locking the grant", "account", name)
	unlock, err := m.Store.Lock(ctx, name)
	if err != nil {
		return nil, &Temporary{Account: name, Step: "lock the grant", Err: err}
	}
	return unlock, nil
}

func (m *Manager) reserve(name string, keys tokenstore.Keys) (Room, error) {
	room, err := m.Store.Reserve(name, keys)
	if errors.Is(err, tokenstore.ErrNoKey) {
		return nil, err // no waiting mends that
	}
	if err != nil {
		return nil, &Temporary{Account: name, Step: "make room for the grant", Err: err}
	}
	return room, nil
}

func (m *Manager) clearMark(name string) {
	if err := m.Store.ClearMark(name); err != nil {
		m.log().Warn("refresh mark not removed", "account", name, "error", err)
	}
}

func (m *Manager) now() time.Time {
	if m.Now == nil {
		return time.Now().Round(0)
	}
	// Round drops the monotonic reading: stored times have none, and one kind of
	// comparison is enough.
	return m.Now().Round(0)
}

func (m *Manager) log() *slog.Logger {
	if m.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Log
}

func (m *Manager) at(step string) {
	if m.step != nil {
		m.step(step)
	}
}

// resource finds what a token for purpose is for; the first is the default.
func (g *Grant) resource(purpose provider.Purpose) (Resource, error) {
	for _, r := range g.Resources {
		if purpose == "" || slices.Contains(r.Purposes, purpose) {
			return r, nil
		}
	}
	return Resource{}, fmt.Errorf("token of %s for %s: %w", g.Account, purpose, ErrPurpose)
}

// renewed is the grant with an answer of the token endpoint put in.
func (g *Grant) renewed(resource Resource, token oauth.Token, asked time.Time) *Grant {
	next := *g
	next.Serial++
	next.Refreshed = asked
	if !token.Refresh.IsZero() { // RFC 6749 section 6: none means keep the old one
		if !token.Refresh.Equal(g.Refresh) {
			next.RefreshExpiry = time.Time{} // it was the old one's
		}
		next.Refresh = token.Refresh
	}
	if !token.RefreshExpiry.IsZero() {
		next.RefreshExpiry = token.RefreshExpiry
	}
	next.Access = maps.Clone(g.Access)
	if next.Access == nil {
		next.Access = make(map[string]Access, 1)
	}
	next.Access[resource.Name] = Access{Token: token.Access, Expiry: token.Expiry, Issued: asked, Scopes: token.Scopes}
	return &next
}

// keys returns the keys of name, asked at most once in a call: the key may have to be
// unlocked by a person, and not a second time under the lock.
func (m *Manager) keys(name string) (tokenstore.Keys, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	keys, err := m.Keys(name)
	if err != nil {
		return nil, fmt.Errorf("find the key of %s: %w", name, err)
	}
	return &keysOnce{Keys: keys}, nil
}

type keysOnce struct {
	tokenstore.Keys
	identity age.Identity
}

func (k *keysOnce) Identity(ctx context.Context) (age.Identity, error) {
	if k.identity != nil {
		return k.identity, nil
	}
	identity, err := k.Keys.Identity(ctx)
	if err == nil {
		k.identity = identity
	}
	return identity, err
}
