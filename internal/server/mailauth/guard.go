package mailauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// Guard returns a Door behind a throttle: it asks the throttle before each check and
// tells it how the check ended. A check that could not be made tells nothing, and neither
// does a right secret that may not do this; what the throttle had set aside is given back,
// or an outage would end as a storm of refusals.
func Guard(door Door, counts Throttle) Door { return newGuard(door, counts) }

// GuardAmongOthers is Guard for a mail server that asks others when we say no. A password
// that has not the form of ours is no guess at one of ours: it is somebody's elsewhere, and
// whether it was right we never hear. An office that signs in by LDAP would otherwise be
// counted as a storm, and its app passwords refused with it.
func GuardAmongOthers(door Door, counts Throttle) Door {
	g := newGuard(door, counts)
	g.among = true
	return g
}

func newGuard(door Door, counts Throttle) *guard {
	g := &guard{door: door, throttle: counts}
	// Read ends the process where the system has no randomness, and returns no error.
	_, _ = rand.Read(g.key[:])
	return g
}

// ErrTooMany is what a guarded Door says instead of looking at a secret. It is "later" and
// not "no": nobody has looked at the secret, and a mail program
// on a train, among others who guess, would throw a good one away.
var ErrTooMany = errors.New("too many attempts")

type guard struct {
	door     Door
	throttle Throttle
	among    bool     // others are asked after us
	key      [32]byte // of fingerprints; of this process, never written
}

// maxHold bounds a delay before a check: Postfix wants its answer within ten seconds,
// and the check itself needs some of them.
const maxHold = 3 * time.Second

func (g *guard) Password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return g.pass(ctx, p, g.door.Password)
}

func (g *guard) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return g.pass(ctx, p, g.door.Token)
}

func (g *guard) pass(ctx context.Context, p credential.Presented, check func(context.Context, credential.Presented) (credential.Verdict, error)) (credential.Verdict, error) {
	attempt := throttle.Attempt{
		Remote: p.Remote, Account: strings.ToLower(p.User), Protocol: p.Protocol, Fingerprint: g.fingerprint(p),
	}
	if err := hold(ctx, g.throttle, attempt); err != nil {
		return credential.Verdict{}, err
	}
	verdict, err := check(ctx, p)
	refused, no := errors.AsType[*credential.Refused](err)
	switch {
	case err == nil:
		g.throttle.Tell(ctx, attempt, true)
	case no && !refused.Proven && !(g.among && !sasl.IsToken(p.Mechanism) && !credential.HasForm(p.Secret)):
		g.throttle.Tell(ctx, attempt, false)
	default:
		g.throttle.Release(attempt)
	}
	return verdict, err
}

// hold asks the throttle, and waits as long as it says.
func hold(ctx context.Context, counts Throttle, attempt throttle.Attempt) error {
	advice := counts.Ask(ctx, attempt)
	if advice.Refuse {
		return fmt.Errorf("%w: %s", ErrTooMany, advice.Reason)
	}
	if advice.Wait > 0 {
		select {
		case <-time.After(min(advice.Wait, maxHold)):
		case <-ctx.Done():
			counts.Release(attempt)
			return ctx.Err()
		}
	}
	return nil
}

// fingerprint lets the throttle see that the same wrong secret comes again. One hash behind
// the key does what HMAC needs two for: what comes out is cut in half, which leaves nothing
// to extend.
func (g *guard) fingerprint(p credential.Presented) string {
	var room [256]byte
	in := append(room[:0], g.key[:]...)
	in = append(in, p.User...)
	in = append(in, 0)
	in = append(in, p.Secret.Reveal()...)
	sum := sha256.Sum256(in)
	clear(in)
	return hex.EncodeToString(sum[:16])
}
