package credential

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The scopes of mail, as the authorization server grants them. ScopeMail is everything;
// filters are not part of reading mail: one that forwards everything outlives the
// token, so imap alone does not reach them.
const (
	ScopeIMAP     = "imap"
	ScopePOP3     = "pop3"
	ScopeSMTP     = "smtp"
	ScopeSieve    = "sieve"
	ScopeSendOnly = "send-only"
	ScopeMail     = "urn:ietf:params:oauth:scope:mail"
)

const (
	tokenPrefix = "llat_"
	tokenLength = len(tokenPrefix) + 43 // base64url of 256 bits
)

// heldToken is an access token as the database told it once.
type heldToken struct {
	owned
	token  identity.AccessToken
	grant  identity.Grant
	scopes []string
}

// Token checks an access token. A user name may be missing: then it is the person the
// token belongs to.
func (d *Door) Token(ctx context.Context, p Presented) (Verdict, error) {
	user, err := d.admit(p, true)
	if err != nil {
		return Verdict{}, err
	}
	text := p.Secret.Reveal()
	if d.o.Outside != nil && d.o.Bindings != nil && d.o.Tokens != nil && text != "" && !ours(text) {
		return d.outside(ctx, p, user)
	}
	if d.o.Tokens == nil || !isToken(text) {
		return Verdict{}, &Refused{Reason: ReasonForm}
	}
	e, err := d.lookUpToken(ctx, identity.DigestOf(text))
	if err != nil {
		return Verdict{}, err
	}
	refused := &Refused{Reason: d.tokenRight(e, p.Protocol), Person: e.person.ID, Proven: true}
	if refused.Reason != "" {
		return Verdict{}, refused
	}
	login, err := d.login(ctx, &e.owned, user, "")
	if err != nil {
		return Verdict{}, err
	}
	if login == "" {
		refused.Reason = ReasonUser
		return Verdict{}, refused
	}
	grant := e.grant
	return Verdict{Person: e.person, Login: login, Grant: &grant, Scopes: e.scopes, Issued: e.token.Issued, Expires: e.token.Expires}, nil
}

// isToken knows the form of our tokens: others are refused before any store is asked.
func isToken(text string) bool {
	if len(text) != tokenLength || !strings.HasPrefix(text, tokenPrefix) {
		return false
	}
	for _, c := range []byte(text[len(tokenPrefix):]) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// Bearer is what the authorization server asks about a token: the token, what it was
// allowed by, and whose it is, as this door would judge it. Whether that is good here and
// now the caller checks, each time. identity.ErrNotFound: nobody has it;
// identity.ErrRevoked: it has ended, whatever the database says.
func (d *Door) Bearer(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, identity.Person, error) {
	e, err := d.lookUpToken(ctx, digest)
	if refused, no := errors.AsType[*Refused](err); no {
		if err = identity.ErrNotFound; refused.Reason == ReasonRevoked {
			err = identity.ErrRevoked
		}
	}
	if err == nil && d.hasEnded(e) {
		err = identity.ErrRevoked
	}
	if err != nil {
		return identity.AccessToken{}, identity.Grant{}, identity.Person{}, fmt.Errorf("find token: %w", err)
	}
	return e.token, e.grant, e.person, nil
}

func (d *Door) lookUpToken(ctx context.Context, digest identity.Digest) (*heldToken, error) {
	now, s := d.o.Now(), d.state.Load()
	e, ok := d.tokens.get(digest)
	if ok && (d.current(s, &e.owned, now) || s.failed && d.lastKnown(s, &e.owned, now)) {
		return e, nil
	}
	if !ok && d.isUnknown(digest, now) {
		return nil, &Refused{Reason: ReasonUnknown}
	}
	return d.fetchToken(ctx, digest)
}

func (d *Door) fetchToken(ctx context.Context, digest identity.Digest) (*heldToken, error) {
	s := d.state.Load() // from before the question, as in fetchCredential
	asking, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	token, grant, err := d.o.Tokens.AccessToken(asking, digest)
	if errors.Is(err, identity.ErrNotFound) {
		d.tokens.drop(digest)
		d.setUnknown(digest)
		return nil, &Refused{Reason: ReasonUnknown}
	}
	if errors.Is(err, identity.ErrRevoked) {
		d.tokens.drop(digest)
		return nil, &Refused{Reason: ReasonRevoked}
	}
	var person identity.Person
	if err == nil {
		person, err = d.o.Tokens.Person(asking, grant.Person)
	}
	old, known := d.tokens.peek(digest)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		d.tokens.drop(digest)
		return nil, &Refused{Reason: ReasonDisabled, Proven: true}
	case err != nil:
		if known && d.lastKnown(d.state.Load(), &old.owned, d.o.Now()) {
			return old, nil
		}
		return nil, fmt.Errorf("%w: look up token: %w", ErrUnavailable, err)
	}
	e := &heldToken{token: token, grant: grant, scopes: effective(token.Scopes), owned: owned{epoch: s.epoch, round: s.round, person: person}}
	if !grant.Revoked.IsZero() {
		d.ended.add(endedKey{"grant", string(grant.ID)})
	}
	if !token.Revoked.IsZero() {
		d.ended.add(endedKey{"token", string(digest[:])})
	}
	d.tokens.put(digest, e)
	if known && old.addresses.Load() != nil {
		if _, err := d.askAddresses(ctx, &e.owned); err != nil && ctx.Err() == nil {
			d.o.Log.Warn("look up addresses", "person", person.ID, "error", err)
		}
	}
	return e, nil
}

// tokenRight checks everything but the name, at every sign-in.
func (d *Door) tokenRight(e *heldToken, protocol identity.Protocol) Reason {
	switch {
	case !e.person.Disabled.IsZero():
		return ReasonDisabled
	case d.hasEnded(e):
		return ReasonRevoked
	case !d.o.Now().Before(e.token.Expires):
		return ReasonExpired
	case !slices.Contains(e.scopes, scopeOf(protocol)):
		return ReasonProtocol
	}
	return ""
}

// hasEnded reports that a token was revoked, alone or with its grant, by what was read of
// it or by what was ever seen here.
func (d *Door) hasEnded(e *heldToken) bool {
	return !e.token.Revoked.IsZero() || !e.grant.Revoked.IsZero() ||
		d.ended.has(endedKey{"grant", string(e.grant.ID)}) || d.ended.has(endedKey{"token", string(e.token.Digest[:])})
}

// scopeOf is the scope that a protocol needs; no token has the empty one.
func scopeOf(protocol identity.Protocol) string {
	switch protocol {
	case identity.IMAP:
		return ScopeIMAP
	case identity.POP3:
		return ScopePOP3
	case identity.SMTP:
		return ScopeSMTP
	case identity.Sieve:
		return ScopeSieve
	}
	return ""
}

// effective writes out what scopes imply, as introspection does, and leaves out those
// that are nothing to mail.
func effective(scopes []string) []string {
	var seen []string
	add := func(names ...string) {
		for _, name := range names {
			if !slices.Contains(seen, name) {
				seen = append(seen, name)
			}
		}
	}
	for _, scope := range scopes {
		switch scope {
		case ScopeMail:
			add(ScopeMail, ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve)
		case ScopeSendOnly:
			add(ScopeSendOnly, ScopeSMTP)
		case ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve:
			add(scope)
		}
	}
	return seen
}
