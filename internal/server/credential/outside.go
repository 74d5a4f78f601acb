package credential

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Outside knows access tokens of other issuers that the administrator lets in.
type Outside interface {
	// Verify says whose token it is. identity.ErrNotFound is a definite no; any other
	// error means that nobody could judge.
	Verify(ctx context.Context, token secret.String) (OutsideToken, error)
}

// An OutsideToken is a token of another issuer, in force and let in. It may do what its
// scopes say, which are the administrator's words and not the token's.
type OutsideToken struct {
	Issuer, Subject string
	Client          string
	Scopes          []string
	Issued, Expires time.Time
}

// Bindings say which person an account at an issuer is.
type Bindings interface {
	Binding(ctx context.Context, issuer, subject string) (identity.Binding, error)
}

// OutsideRights remember which clients of other issuers act for whom, so that people see it
// and take it away.
type OutsideRights interface {
	// OutsideGrant finds the newest grant of first's person for first's client, a revoked one
	// too; where there never was any, first begins.
	OutsideGrant(ctx context.Context, first identity.Grant) (identity.Grant, error)
}

// ours: a secret in the form of ours is never shown to anybody else, also when a program
// sends an app password where a token belongs.
func ours(text string) bool {
	_, password := parseAppPassword(text)
	return password || strings.HasPrefix(text, "ll") && strings.IndexByte(text, '_') > 0
}

// outside checks a token of another issuer. Nothing is cached: who is unbound or disabled
// is out with the next sign-in, and while the database is away such tokens wait.
func (d *Door) outside(ctx context.Context, p Presented, user string) (Verdict, error) {
	asking, cancel := context.WithTimeout(ctx, 2*d.o.Timeout)
	defer cancel()
	token, err := d.o.Outside.Verify(asking, p.Secret)
	if errors.Is(err, identity.ErrNotFound) {
		d.o.Log.Info("token of another issuer refused", "reason", err)
		return Verdict{}, &Refused{Reason: ReasonForm}
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("%w: judge token: %w", ErrUnavailable, err)
	}
	o := owned{}
	binding, err := d.o.Bindings.Binding(asking, token.Issuer, token.Subject)
	if err == nil {
		o.person, err = d.o.Tokens.Person(asking, binding.Person)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return Verdict{}, &Refused{Reason: ReasonUser, Proven: true}
	case err != nil:
		return Verdict{}, fmt.Errorf("%w: find the token's person: %w", ErrUnavailable, err)
	}
	scopes := effective(token.Scopes)
	refused := &Refused{Person: o.person.ID, Proven: true}
	switch {
	case !o.person.Disabled.IsZero():
		refused.Reason = ReasonDisabled
		return Verdict{}, refused
	case !d.o.Now().Before(token.Expires):
		refused.Reason = ReasonExpired
		return Verdict{}, refused
	case !slices.Contains(scopes, scopeOf(p.Protocol)):
		refused.Reason = ReasonProtocol
		return Verdict{}, refused
	}
	login, err := d.login(ctx, &o, user, "")
	if err != nil {
		return Verdict{}, err
	}
	if login == "" {
		refused.Reason = ReasonUser
		return Verdict{}, refused
	}
	grant := &identity.Grant{Person: o.person.ID, Client: identity.ClientID(token.Client), Scopes: token.Scopes, Created: token.Issued}
	if d.o.Rights != nil {
		held, err := d.o.Rights.OutsideGrant(asking, d.firstGrant(o.person.ID, token))
		if err != nil {
			return Verdict{}, fmt.Errorf("%w: find the program's right: %w", ErrUnavailable, err)
		}
		// The issuer goes on giving it tokens: until the person allows it again, none is good.
		if !held.Revoked.IsZero() {
			refused.Reason = ReasonRevoked
			return Verdict{}, refused
		}
		grant.ID = held.ID
	}
	return Verdict{Person: o.person, Login: login, Grant: grant, Scopes: scopes, Issuer: token.Issuer, Issued: token.Issued, Expires: token.Expires}, nil
}

// firstGrant is the one by which a client begins to act for a person. There is one for both,
// whoever is asked first.
func (d *Door) firstGrant(person identity.PersonID, token OutsideToken) identity.Grant {
	client := identity.OutsideClient(token.Issuer, token.Client)
	id := identity.DigestOf(string(person) + " " + string(client))
	return identity.Grant{ID: identity.GrantID(hex.EncodeToString(id[:16])), Person: person, Client: client, Scopes: token.Scopes, Created: d.o.Now()}
}
