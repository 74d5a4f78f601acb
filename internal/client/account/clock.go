package account

import (
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// defaultValidity is how long a token must live when the caller does not say: enough
// for a login and a fetch at every provider but Microsoft's HVE, which wants ten
// minutes and whose callers say so.
const defaultValidity = 5 * time.Minute

// clockSkew is how far the clock may have been put back since a token was issued
// before we stop believing the token's times: NTP corrects by seconds.
const clockSkew = time.Minute

// usable reports whether a cached token may be handed out.
//
// Wall clocks are all there is across processes and restarts, so these are the rules:
//
//   - Expiry unknown: a token is good for the call that got it and no other.
//   - Clock put forward: the token looks older than it is and is renewed. Harmless.
//   - Clock put back before the token's issue (1970 at boot, a wrong zone repaired):
//     nobody knows how much of its life is over, so it is renewed. Up to clockSkew is
//     taken as the moment of issue, so that a token never seems to live longer than
//     the provider said.
//   - Clock put back to a moment after its issue cannot be told from no change. Then
//     the server refuses the token, and the caller says so with Want.Refused.
//   - A provider whose tokens live shorter than wanted cannot please the caller; a
//     refresh at every call would only make it throttle us. Its tokens are good for
//     the first quarter of their life.
func (a Access) usable(now time.Time, want Want) bool {
	if a.Expiry.IsZero() || !a.allowed(want) || now.Before(a.Issued.Add(-clockSkew)) {
		return false
	}
	if now.Before(a.Issued) {
		now = a.Issued
	}
	need := want.validity()
	if life := a.Expiry.Sub(a.Issued); life < need {
		need = max(life-life/4, 1)
	}
	return a.Expiry.Sub(now) >= need
}

// obtainedSince reports whether another caller has got this token since we saw old.
// It is as fresh as one that we could get ourselves, so that a crowd waiting for one
// lock makes one request even where tokens are short-lived or tell no expiry.
func (a Access) obtainedSince(old Access, now time.Time, want Want) bool {
	if !a.allowed(want) || a.Token.Equal(old.Token) {
		return false
	}
	return a.Expiry.IsZero() || now.Before(a.Expiry)
}

// allowed is false without a token, and for the token that a server has refused.
func (a Access) allowed(want Want) bool {
	return !a.Token.IsZero() && !a.refused(want.Refused)
}

func (a Access) refused(refused secret.String) bool {
	return !refused.IsZero() && a.Token.Equal(refused)
}

func (w Want) validity() time.Duration {
	if w.MinValidity <= 0 {
		return defaultValidity
	}
	return w.MinValidity
}
