package account

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// writeAttempts is how often a grant is written that is the only copy of a rotated
// refresh token, with writePause and then twice that between. Room was reserved, so a
// failure is odd and may pass.
const (
	writeAttempts = 3
	writePause    = 100 * time.Millisecond
)

// stepRefresh is Temporary.Step of what went wrong at the provider or on the way.
const stepRefresh = "refresh the token"

// errUnfit and errSame are answers that are none.
var (
	errUnfit = errors.New("no access token, or one that is too long")
	errSame  = errors.New("the provider gave the same token again that the server refused")
)

// tokenLocked is the refresh rule. old is the access token that was found wanting.
func (m *Manager) tokenLocked(ctx context.Context, name string, keys tokenstore.Keys, want Want, old Access) (Access, error) {
	began := m.now()
	unlock, err := m.lock(ctx, name)
	if err != nil {
		return Access{}, err
	}
	defer func() { unlock(); m.at("unlocked") }()
	m.at("locked")
	grant, err := m.read(ctx, name, keys)
	if err != nil {
		return Access{}, err
	}
	for told := m.told(grant, began); ; told = nil {
		resource, err := grant.resource(want.Purpose)
		if err != nil {
			return Access{}, err
		}
		current := grant.Access[resource.Name]
		if now := m.now(); current.usable(now, want) || current.obtainedSince(old, now, want) {
			return current, nil
		}
		if told != nil && told.Resource == resource.Name {
			return Access{}, m.fault(grant, told)
		}
		access, err := m.refresh(ctx, grant, resource, keys)
		if err == nil && access.refused(want.Refused) {
			return Access{}, &Temporary{Account: name, Step: stepRefresh, Err: errSame}
		}
		newer := m.newer(ctx, grant, keys, err)
		if newer == nil {
			return access, err
		}
		grant = newer
	}
}

// newer returns the grant that somebody who does not keep our lock (a folder shared
// by two machines, a restored backup) wrote while the provider refused ours. Each
// round trip takes another refresh token, so the loop ends when the writer does.
func (m *Manager) newer(ctx context.Context, grant *Grant, keys tokenstore.Keys, err error) *Grant {
	var over *SignInNeeded
	if !errors.As(err, &over) {
		return nil
	}
	again, err := m.read(ctx, grant.Account, keys)
	if err != nil || again.Refresh.IsZero() || again.Refresh.Equal(grant.Refresh) {
		return nil
	}
	m.log().Info("grant replaced by another process, adopted", "account", grant.Account, "serial", again.Serial)
	return again
}

// refresh makes one request under the account's lock and stores the answer.
func (m *Manager) refresh(ctx context.Context, grant *Grant, resource Resource, keys tokenstore.Keys) (Access, error) {
	interrupted := m.interrupted(grant)
	if grant.Refresh.IsZero() && !grant.Machine() {
		return Access{}, m.signInNeeded(grant, interrupted, nil)
	}
	room, err := m.reserve(grant.Account, keys)
	if err != nil {
		return Access{}, err
	}
	m.at("reserved")
	if err := m.begin(ctx, grant, resource, interrupted); err != nil {
		room.Abort()
		return Access{}, err
	}
	m.at("marked")
	asked := m.now()
	token, err := m.ask(ctx, grant, resource)
	if err != nil {
		room.Abort()
		return Access{}, m.failed(ctx, grant, resource, interrupted, err)
	}
	m.at("answered")
	next := grant.renewed(resource, token, asked)
	if err := m.commit(room, next, keys); err != nil {
		return Access{}, err
	}
	m.at("committed")
	m.clearMark(grant.Account)
	m.at("cleared")
	m.log().Info("token refreshed", "account", grant.Account, "resource", resource.Name,
		"expiry", token.Expiry, "rotated", !next.Refresh.Equal(grant.Refresh))
	return next.Access[resource.Name], nil
}

// interrupted returns the mark of an earlier refresh with this very grant. A mark with
// another serial was survived: the answer was stored, only the mark was not removed.
func (m *Manager) interrupted(grant *Grant) *tokenstore.Mark {
	mark, err := m.Store.ReadMark(grant.Account)
	if err != nil {
		// It only explains; a store that is really broken stops us at the next step.
		m.log().Warn("refresh mark not readable", "account", grant.Account, "error", err)
		return nil
	}
	if mark == nil || mark.Serial != grant.Serial {
		return nil
	}
	m.log().Warn("an earlier refresh was interrupted before its answer was stored",
		"account", grant.Account, "began", mark.Began, "pid", mark.PID, "resource", mark.Resource)
	return mark
}

// begin writes down that a request is about to leave. An earlier mark stays: it is the
// likelier cause if the provider refuses.
func (m *Manager) begin(ctx context.Context, grant *Grant, resource Resource, interrupted *tokenstore.Mark) error {
	// From here on the exchange is seen through, so this is the last moment to stop.
	if err := context.Cause(ctx); err != nil {
		return &Temporary{Account: grant.Account, Step: stepRefresh, Err: err}
	}
	if interrupted != nil {
		return nil
	}
	mark := tokenstore.Mark{Began: m.now(), PID: os.Getpid(), Resource: resource.Name, Serial: grant.Serial}
	if err := m.Store.SetMark(grant.Account, mark); err != nil {
		return &Temporary{Account: grant.Account, Step: "write the refresh mark", Err: err}
	}
	return nil
}

func (m *Manager) ask(ctx context.Context, grant *Grant, resource Resource) (oauth.Token, error) {
	grace := m.Grace
	if grace <= 0 {
		grace = 10 * time.Second
	}
	ctx, cancel := seeThrough(ctx, grace)
	defer cancel()
	m.at("sending")
	token, err := m.Exchange.Refresh(ctx, grant, resource)
	if err != nil {
		return oauth.Token{}, err
	}
	if token.Access.IsZero() || len(token.Access.Reveal()) > tokenLimit || len(token.Refresh.Reveal()) > tokenLimit {
		return oauth.Token{}, &oauth.Error{Endpoint: "token", Status: http.StatusOK, Err: errUnfit}
	}
	return token, nil
}

// failed removes the mark when the refresh token is known to be unspent, names the
// fault, and leaves it for those who wait. The grant file is as it was.
func (m *Manager) failed(ctx context.Context, grant *Grant, resource Resource, interrupted *tokenstore.Mark, err error) error {
	if interrupted == nil && unspent(err) {
		m.clearMark(grant.Account)
	}
	fault := m.classify(grant, interrupted, err)
	m.log().Warn("refresh failed", "account", grant.Account, "error", fault)
	m.share(ctx, grant, resource, fault)
	return fault
}

// commit stores the only copy of what may be a rotated refresh token. When that fails
// for good the access token is not handed out: the mark stays and tells.
func (m *Manager) commit(room Room, grant *Grant, keys tokenstore.Keys) error {
	plain, err := encode(grant)
	if err != nil {
		room.Abort()
		return &Temporary{Account: grant.Account, Step: "write the grant", Err: err}
	}
	for attempt := 1; ; attempt++ {
		if err = room.Commit(plain); err == nil {
			return nil
		}
		m.log().Error("grant not written", "account", grant.Account, "attempt", attempt, "error", err)
		if attempt == writeAttempts {
			return &Temporary{Account: grant.Account, Step: "write the grant", Err: err}
		}
		<-time.After(time.Duration(attempt) * writePause) // no ctx: giving up strands the grant
		room = m.anotherRoom(grant.Account, keys)
	}
}

// anotherRoom reserves again; without room the Commit tells why.
func (m *Manager) anotherRoom(name string, keys tokenstore.Keys) Room {
	room, err := m.Store.Reserve(name, keys)
	if err != nil {
		return noRoom{err}
	}
	return room
}

type noRoom struct{ err error }

func (r noRoom) Commit([]byte) error { return r.err }
func (r noRoom) Abort()              {}
