package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// signOut ends the session here.
func (d *Desk) signOut(w http.ResponseWriter, r *http.Request) {
	_, person, ok := d.o.Sessions.Current(r)
	line := identity.Event{At: d.o.Now(), Kind: "signout"}
	if ok {
		line.Person, line.Actor, line.From = person.ID, actor(person.ID), d.o.Sessions.Client(r)
	}
	if err := SignOut(w, r, d.o.Sessions, d.o.Store, line); err != nil {
		d.o.Log.Error("session not ended", "error", err)
		web.Fault(w, http.StatusServiceUnavailable, "The session could not be ended just now.", "This browser has forgotten it. Sign out again in a minute, to be sure.")
		return
	}
	outPage().Show(w, http.StatusOK, nil)
}

// outCookie marks a browser that was signed out: its next sign-in asks the provider for a new
// proof. Else whoever comes next at the same browser would be let in by the provider's session,
// unasked, by the same click.
const (
	outCookie = "letterlock-out"
	outLife   = 12 * time.Hour
)

// Leaving is what a sign-out needs of the store.
type Leaving interface {
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
	AddEvent(ctx context.Context, e identity.Event) error
}

// SignOut has the browser signed out: its session ends, and so does a sign-in that waits for
// its second factor, which whoever sits there next would need no first one for. The cookies
// go even when the store could not be asked. line is that of the audit trail, without which
// nothing ends; one that names nobody tells the time alone and is not written.
func SignOut(w http.ResponseWriter, r *http.Request, sessions *web.Sessions, store Leaving, line identity.Event) error {
	browser, name := sessions.Value(r, browserCookie), sessions.Value(r, halfCookie)
	http.SetCookie(w, sessions.Cookie(halfCookie, "", -1))
	http.SetCookie(w, sessions.Cookie(browserCookie, "", -1)) // what is under way at a provider ends with it
	http.SetCookie(w, sessions.Cookie(outCookie, "1", outLife))
	return sessions.End(w, r, func(ctx context.Context) error {
		if browser != "" && name != "" {
			_, err := store.TakeOnce(ctx, journeyKey("half", browser, name), halfKind, line.At)
			if err != nil && !errors.Is(err, identity.ErrNotFound) {
				return fmt.Errorf("end a sign-in half done: %w", err)
			}
		}
		if line.Person == "" {
			return nil
		}
		if err := store.AddEvent(ctx, line); err != nil {
			return fmt.Errorf("write audit trail: %w", err)
		}
		return nil
	})
}

const endedKind = "signin.ended"

// endedKey is of one session at an issuer, or of one account there.
func endedKey(issuer, session, subject string) identity.Digest {
	if session != "" {
		return identity.DigestOf("ended session\n" + issuer + "\n" + session)
	}
	return identity.DigestOf("ended account\n" + issuer + "\n" + subject)
}

// EndHalves has sign-ins that stand on a session at an issuer, or without one on an account
// there, and that wait for their second factor, end at now. They lie in the store under
// secrets of their browsers, so that what is kept is that they ended.
func EndHalves(ctx context.Context, store Once, issuer, session, subject string, now time.Time) error {
	at, err := now.MarshalText()
	if err != nil {
		return fmt.Errorf("end sign-ins half done: %w", err)
	}
	key := endedKey(issuer, session, subject)
	err = store.PutOnce(ctx, key, endedKind, at, now.Add(halfLife+time.Minute))
	if errors.Is(err, identity.ErrExists) { // an earlier logout: this one counts
		if _, err = store.TakeOnce(ctx, key, endedKind, now); err == nil || errors.Is(err, identity.ErrNotFound) {
			err = store.PutOnce(ctx, key, endedKind, at, now.Add(halfLife+time.Minute))
		}
	}
	if err != nil && !errors.Is(err, identity.ErrExists) { // by now another's, of this moment
		return fmt.Errorf("end sign-ins half done: %w", err)
	}
	return nil
}

// ended reports whether the issuer has said since that what a half sign-in stands on is over.
func (d *Desk) ended(ctx context.Context, h half) (bool, error) {
	keys := []identity.Digest{endedKey(h.Account.Issuer, "", h.Account.Subject)}
	if h.Account.Upstream != "" {
		keys = append(keys, endedKey(h.Account.Issuer, h.Account.session(), ""))
	}
	for _, key := range keys {
		data, err := d.o.Store.ReadOnce(ctx, key, endedKind, d.o.Now())
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		var at time.Time
		if err == nil {
			err = at.UnmarshalText(data)
		}
		if err != nil {
			return false, fmt.Errorf("find ends of sign-ins: %w", err)
		}
		if !h.At.After(at) {
			return true, nil
		}
	}
	return false, nil
}
