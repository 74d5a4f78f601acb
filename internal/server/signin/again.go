package signin

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Again is what becomes of sign-ins later, when providers are asked again whether people
// still belong. Either may be nil.
type Again struct {
	// Keep takes the refresh token of an account that has come in.
	Keep func(ctx context.Context, account Account) error
	// Returned is told that a disabled person has just proved to belong; it returns them as
	// they are then.
	Returned func(ctx context.Context, b identity.Binding, person identity.Person) (identity.Person, error)
}

// returned asks whether a disabled person may come in again, now that the provider says
// that they belong.
func (d *Desk) returned(ctx context.Context, b identity.Binding, person identity.Person) (identity.Person, error) {
	if d.o.Again.Returned == nil {
		return person, nil
	}
	person, err := d.o.Again.Returned(ctx, b, person)
	if err != nil {
		return person, fmt.Errorf("let a member in again: %w", err)
	}
	return person, nil
}

// keep hands over what the provider gave for asking again. Not to have it is no reason to
// keep anybody out.
func (d *Desk) keep(ctx context.Context, account Account) {
	if d.o.Again.Keep == nil || account.Refresh.IsZero() {
		return
	}
	if err := d.o.Again.Keep(ctx, account); err != nil {
		d.o.Log.Warn("refresh token not kept", "issuer", account.Issuer, "error", err)
	}
}

// Errors of Refresh that say something about the account.
var (
	// ErrSpent: the issuer does not take the refresh token any more.
	ErrSpent = errors.New("the refresh token is not good any more")
	// ErrNotMember: the issuer says who it is, and that they do not belong.
	ErrNotMember = errors.New("the claim does not have the value")
)

// Refresh asks the issuer about an account by its refresh token. fresh is the token to use
// the next time; it is returned beside an error too, because the old one may be spent.
func (p *OIDC) Refresh(ctx context.Context, subject string, refresh secret.String) (fresh secret.String, err error) {
	conn, err := p.conn(ctx)
	if err != nil {
		return fresh, err
	}
	token, err := conn.Refresh(ctx, refresh, nil, nil)
	var fault *oauth.Error
	if errors.As(err, &fault) && fault.Code == "invalid_grant" {
		return fresh, ErrSpent
	}
	if err != nil {
		return fresh, err
	}
	if fresh = token.Refresh; fresh.IsZero() {
		fresh = refresh // RFC 6749 section 6: the old one goes on
	}
	if token.ID.IsZero() {
		if p.o.Claim != "" {
			return fresh, errors.New("the issuer gives no ID token when it is asked again")
		}
		return fresh, nil
	}
	id, err := conn.VerifyID(ctx, token.ID, "", false)
	if err != nil {
		return fresh, err
	}
	if id.Subject != subject { // OpenID Connect Core section 12.2
		return fresh, errors.New("the issuer answered about another account")
	}
	var refused *Refused
	if _, err := p.who(ctx, conn, id, token); errors.As(err, &refused) && refused.Reason == "claim" {
		return fresh, ErrNotMember
	} else if err != nil {
		return fresh, err
	}
	return fresh, nil
}

// keysPause is how long keys are kept at least, and keysLife at most: anybody may send a
// logout token, and must not make us ask the issuer each time.
const (
	keysPause = 30 * time.Second
	keysLife  = time.Hour
)

// VerifyLogout checks a logout token of the issuer, by keys that are kept; a signature that
// they do not know may be of a new one.
func (p *OIDC) VerifyLogout(ctx context.Context, raw string) (oauth.LogoutClaims, error) {
	conn, err := p.conn(ctx)
	if err != nil {
		return oauth.LogoutClaims{}, err
	}
	for _, life := range []time.Duration{keysLife, keysPause} {
		keys, fresh, keysErr := p.keys(ctx, conn, life)
		if keysErr != nil {
			return oauth.LogoutClaims{}, keysErr
		}
		var claims oauth.LogoutClaims
		if claims, err = conn.VerifyLogout(ctx, raw, keys); err == nil || fresh {
			return claims, judgeLogout(err)
		}
	}
	return oauth.LogoutClaims{}, judgeLogout(err)
}

// ErrLogoutToken: the logout token is none, whatever else works.
var ErrLogoutToken = errors.New("not a logout token of the issuer")

func judgeLogout(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrLogoutToken, err)
}

// keys are those fetched within life, or new ones.
func (p *OIDC) keys(ctx context.Context, conn *oauth.Conn, life time.Duration) (keys []crypto.PublicKey, fresh bool, err error) {
	p.mu.Lock()
	keys, at := p.known, p.knownAt
	p.mu.Unlock()
	if len(keys) > 0 && p.o.Now().Sub(at) < life {
		return keys, false, nil
	}
	if keys, err = conn.Keys(ctx); err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	p.known, p.knownAt = keys, p.o.Now()
	p.mu.Unlock()
	return keys, true, nil
}
