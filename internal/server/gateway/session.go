package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// sessions are the browsers that were seen lately, as the store described them, each
// believed for a few seconds. The store decides; this saves it from one question a picture.
type sessions struct {
	o  Options
	mu sync.RWMutex
	by map[identity.Digest]*entry
}

// An entry is one browser.
type entry struct {
	id   identity.Digest
	bind [32]byte // key that binds the web mail's cookies to this session

	state  atomic.Pointer[known]
	ticket atomic.Pointer[ticket]
	asking sync.Mutex // one asks the store at a time, the others take its answer
}

// known is what the store said.
type known struct {
	session identity.MailSession
	person  identity.Person
	asked   time.Time
}

// A ticket is what the web mail is shown.
type ticket struct {
	basic   secret.String // of the Authorization header
	expires time.Time
}

const (
	maxEntries = 50_000
	touchPause = time.Minute
	// secretLength is that of web.NewSecret: base64url of 256 bits.
	secretLength = 43
)

func newSessions(o Options) *sessions {
	return &sessions{o: o, by: map[identity.Digest]*entry{}}
}

// find returns nil when the cookie stands for no session that may go on, and an error only
// when the store could not be asked and what is known is too old.
func (s *sessions) find(ctx context.Context, cookie string) (*entry, error) {
	if len(cookie) != secretLength {
		return nil, nil
	}
	id := identity.DigestOf(cookie)
	s.mu.RLock()
	e := s.by[id]
	s.mu.RUnlock()
	now := s.o.Now()
	if e != nil {
		if k := e.state.Load(); now.Sub(k.asked) < s.o.Recheck {
			return e, nil
		}
	} else {
		e = &entry{id: id, bind: bindingKey(cookie)}
	}
	return s.ask(ctx, e)
}

// ask asks the store about an entry, once for all that want to know at this moment.
func (s *sessions) ask(ctx context.Context, e *entry) (*entry, error) {
	e.asking.Lock()
	defer e.asking.Unlock()
	now := s.o.Now()
	old := e.state.Load()
	if old != nil && now.Sub(old.asked) < s.o.Recheck {
		return e, nil
	}
	session, person, err := s.o.Store.MailSession(ctx, e.id, now)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		s.drop(e.id)
		return nil, nil
	case err != nil:
		// With the store away nobody can revoke anything either. The ticket's own end is
		// the bound: no new one can be made.
		if t := e.ticket.Load(); old != nil && t != nil && now.Before(t.expires) && ctx.Err() == nil {
			s.o.Log.Warn("web mail session goes on unasked: the database is away", "gateway", s.o.Name, "error", err)
			return e, nil
		}
		return nil, fmt.Errorf("find mail session: %w", err)
	}
	if session.Gateway != s.o.Name || !person.Disabled.IsZero() {
		s.drop(e.id)
		return nil, nil
	}
	if now.Sub(session.Seen) >= s.o.Idle {
		s.drop(e.id)
		if err := s.o.Store.EndMailSession(ctx, e.id, now, false); err != nil {
			s.o.Log.Warn("idle web mail session not ended", "error", err)
		}
		return nil, nil
	}
	if now.Sub(session.Seen) >= touchPause {
		if err := s.o.Store.TouchMailSession(ctx, e.id, now); err != nil {
			s.o.Log.Warn("web mail session not touched", "error", err)
		}
	}
	if old != nil && old.person.Address != person.Address {
		e.ticket.Store(nil) // the mailbox has another name now
	}
	e.state.Store(&known{session: session, person: person, asked: now})
	return s.keep(e), nil
}

// keep puts an entry where others find it, and returns the one that was there first.
func (s *sessions) keep(e *entry) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.by[e.id]; first != nil {
		if first != e {
			first.state.Store(e.state.Load())
		}
		return first
	}
	if len(s.by) >= maxEntries {
		s.thin()
	}
	s.by[e.id] = e
	return e
}

// thin makes room: those who are gone first, then whoever comes. They are asked for again.
func (s *sessions) thin() {
	gone := s.o.Now().Add(-s.o.TokenLife)
	for id, e := range s.by {
		if e.state.Load().asked.Before(gone) {
			delete(s.by, id)
		}
	}
	for id := range s.by {
		if len(s.by) < maxEntries*9/10 {
			return
		}
		delete(s.by, id)
	}
}

func (s *sessions) drop(id identity.Digest) {
	s.mu.Lock()
	delete(s.by, id)
	s.mu.Unlock()
}

// provide sees to it that the entry has a ticket that lasts for the request. Of many that
// come at once one makes the new ticket; the old one stays good for those under way. The
// entry may lose it at any moment after (see ask): who needs it holds what is returned.
func (s *sessions) provide(ctx context.Context, e *entry) (*ticket, error) {
	if t := e.ticket.Load(); t != nil && s.fresh(t) {
		return t, nil
	}
	e.asking.Lock()
	defer e.asking.Unlock()
	old := e.ticket.Load()
	if old != nil && s.fresh(old) {
		return old, nil
	}
	next, err := s.mint(ctx, e)
	if err != nil {
		if errors.Is(err, identity.ErrNotFound) {
			s.drop(e.id)
			return nil, err
		}
		if old != nil && s.o.Now().Add(requestTime).Before(old.expires) {
			s.o.Log.Warn("web mail token not renewed, the old one goes on", "gateway", s.o.Name, "error", err)
			return old, nil
		}
		return nil, err
	}
	e.ticket.Store(next)
	return next, nil
}

// requestTime is how long a request may reasonably take until it has signed in to IMAP.
const requestTime = 10 * time.Second

// fresh: renewed while half of its life is left, so that slow requests end in time.
func (s *sessions) fresh(t *ticket) bool {
	return s.o.Now().Before(t.expires.Add(-s.o.TokenLife / 2))
}

// mint makes a token for the web mail of this one browser.
func (s *sessions) mint(ctx context.Context, e *entry) (*ticket, error) {
	random, err := web.NewSecret(s.o.Random)
	if err != nil {
		return nil, err
	}
	k, now := e.state.Load(), s.o.Now()
	token := secret.New("llat_" + random)
	access := identity.AccessToken{Digest: identity.DigestOf(token.Reveal()), Grant: k.session.Grant, Scopes: s.o.scopes(), Issued: now, Expires: now.Add(s.o.TokenLife)}
	if err := s.o.Store.IssueMail(ctx, e.id, access); err != nil {
		return nil, fmt.Errorf("issue web mail token: %w", err)
	}
	// Roundcube's XOAUTH2 pastes the password behind "auth=", so that the scheme must
	// stand in it.
	pair := k.person.Address + ":Bearer " + token.Reveal()
	return &ticket{basic: secret.New("Basic " + base64.StdEncoding.EncodeToString([]byte(pair))), expires: access.Expires}, nil
}

// bindingKey is the key of one session's cookies. It comes of the browser's own secret: the
// store has only a digest of that.
func bindingKey(cookie string) (key [32]byte) {
	mac := hmac.New(sha256.New, []byte(cookie))
	mac.Write([]byte("letterlock web mail cookies"))
	mac.Sum(key[:0])
	return key
}
