package credential

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// elsewhere knows one token, and whose accounts are bound.
type elsewhere struct {
	token  OutsideToken
	err    error
	bound  map[string]identity.PersonID
	broken error
	shown  []string
	rights map[string]identity.Grant // by person and client
	asked  []identity.Grant
}

func (e *elsewhere) OutsideGrant(_ context.Context, first identity.Grant) (identity.Grant, error) {
	e.asked = append(e.asked, first)
	if held, ok := e.rights[string(first.Person)+" "+string(first.Client)]; ok {
		return held, e.broken
	}
	return first, e.broken
}

func (e *elsewhere) Verify(_ context.Context, token secret.String) (OutsideToken, error) {
	e.shown = append(e.shown, token.Reveal())
	if e.err != nil {
		return OutsideToken{}, e.err
	}
	return e.token, nil
}

func (e *elsewhere) Binding(_ context.Context, issuer, subject string) (identity.Binding, error) {
	person, ok := e.bound[issuer+" "+subject]
	if e.broken != nil {
		return identity.Binding{}, e.broken
	}
	if !ok {
		return identity.Binding{}, fmt.Errorf("binding: %w", identity.ErrNotFound)
	}
	return identity.Binding{Issuer: issuer, Subject: subject, Person: person}, nil
}

// Tokens of other issuers: who it is says the binding alone, what it may do the
// administrator's list, and what cannot be judged is no "no". Our own secrets are shown to
// nobody else.
func TestTokensOfOtherIssuers(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	good := OutsideToken{Issuer: "https://op.test", Subject: "1", Client: "webmail", Scopes: []string{ScopeIMAP, ScopeSMTP}, Issued: now, Expires: now.Add(time.Hour)}
	yes := func(*elsewhere, *Presented) {}
	for what, c := range map[string]struct {
		change func(*elsewhere, *Presented)
		reason Reason // empty: let in
		later  bool
	}{
		"a good one":              {yes, "", false},
		"without a name":          {func(_ *elsewhere, p *Presented) { p.User = "" }, "", false},
		"somebody else's name":    {func(_ *elsewhere, p *Presented) { p.User = "bob@example.org" }, ReasonUser, false},
		"of an account not bound": {func(e *elsewhere, _ *Presented) { e.token.Subject = "2" }, ReasonUser, false},
		"of another issuer's 1":   {func(e *elsewhere, _ *Presented) { e.token.Issuer = "https://evil.test" }, ReasonUser, false},
		"of a disabled person":    {func(e *elsewhere, _ *Presented) { e.token.Subject = "3" }, ReasonDisabled, false},
		"for another protocol":    {func(_ *elsewhere, p *Presented) { p.Protocol = identity.Sieve }, ReasonProtocol, false},
		"expired":                 {func(e *elsewhere, _ *Presented) { e.token.Expires = now }, ReasonExpired, false},
		"refused by its issuer":   {func(e *elsewhere, _ *Presented) { e.err = fmt.Errorf("no: %w", identity.ErrNotFound) }, ReasonForm, false},
		"its issuer is away":      {func(e *elsewhere, _ *Presented) { e.err = errAway }, "", true},
		"the database is away":    {func(e *elsewhere, _ *Presented) { e.broken = errAway }, "", true},
		"taken away by the person": {func(e *elsewhere, _ *Presented) {
			e.rights = map[string]identity.Grant{"ann outside:https://op.test webmail": {ID: "g", Revoked: now}}
		}, ReasonRevoked, false},
		"another client was taken away": {func(e *elsewhere, _ *Presented) {
			e.rights = map[string]identity.Grant{"ann outside:https://op.test other": {ID: "g", Revoked: now}}
		}, "", false},
		"a token of ours, unknown": {func(_ *elsewhere, p *Presented) { p.Secret = secret.New("llat_x") }, ReasonForm, false},
		"an app password":          {func(_ *elsewhere, p *Presented) { p.Secret = anAppPassword(t) }, ReasonForm, false},
	} {
		store := newFakeStore()
		store.people["ann"] = identity.Person{ID: "ann", Address: "ann@example.org"}
		store.people["old"] = identity.Person{ID: "old", Address: "old@example.org", Disabled: now}
		e := &elsewhere{token: good, bound: map[string]identity.PersonID{"https://op.test 1": "ann", "https://op.test 3": "old"}}
		p := Presented{User: "ann@example.org", Secret: secret.New("eyJ.e30.x"), Protocol: identity.IMAP, Secured: true}
		c.change(e, &p)
		door := New(Options{Store: store, Tokens: store, Outside: e, Bindings: e, Rights: e, Now: func() time.Time { return now }})
		v, err := door.Token(t.Context(), p)
		var refused *Refused
		switch {
		case c.later:
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v, want later", what, err)
			}
		case c.reason != "":
			if !errors.As(err, &refused) || refused.Reason != c.reason {
				t.Errorf("%s: %v, want refused: %s", what, err, c.reason)
			}
		case err != nil || v.Login != "ann@example.org" || v.Issuer != "https://op.test" || v.Grant.Client != "webmail" || v.Grant.ID == "" || !v.Expires.Equal(now.Add(time.Hour)):
			t.Errorf("%s: %+v, %v", what, v, err)
		}
		// What is refused for another reason begins nothing that a person would see.
		if begun := len(e.asked) > 0; begun != (c.reason == "" && !c.later || c.reason == ReasonRevoked) {
			t.Errorf("%s: a right was looked for: %t", what, begun)
		}
		for _, text := range e.shown {
			if text != "eyJ.e30.x" {
				t.Errorf("%s: a secret of ours was shown to the issuer", what)
			}
		}
	}
}

func anAppPassword(t *testing.T) secret.String {
	t.Helper()
	password, _, _, err := NewAppPassword(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	return password
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
