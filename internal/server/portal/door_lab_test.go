//go:build lab

package portal_test

import (
	"errors"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// signsIn presents the password as a mail server would.
func (p *place) signsIn(password string, want bool) {
	p.t.Helper()
	verdict, err := p.door.Password(p.t.Context(), credential.Presented{User: "ann@example.org", Secret: secret.New(password), Protocol: identity.IMAP,
		Remote: netip.MustParseAddr("127.0.0.1"), Mechanism: "PLAIN", Secured: true})
	var refused *credential.Refused
	switch {
	case want && (err != nil || verdict.Person.ID != ann):
		p.t.Errorf("the new app password: %+v, %v", verdict, err)
	case !want && !errors.As(err, &refused):
		p.t.Errorf("after the revocation: %+v, %v", verdict, err)
	}
}
