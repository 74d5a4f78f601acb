package main

import (
	"context"
	"errors"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
	"github.com/letterlock-mail/letterlock/internal/server/senders"
)

// beside adds to what Postfix asks the logins that were there before letterlockd, where
// the configuration names a socket that knows them.
func (l *plan) beside(sasl *mailauth.SASLOptions, book *senders.Book) {
	if l.conf.Postfix.Fallback == "" {
		return
	}
	up := mailauth.NewUpstream(mailauth.UpstreamOptions{
		Address: l.conf.Postfix.Fallback, Ours: credential.HasForm, Name: l.guestName, Log: l.log, Now: l.now,
	})
	sasl.Door = l.watched(mailauth.Guard(up.Beside(l.inner), l.scales))
	sasl.Upstream, sasl.Throttle = up, l.scales
	book.Guests()
}

// guestName is what Postfix is told about somebody who signed in elsewhere. A name without
// a domain, as PAM has them, gets ours. Whoever is disabled here stays out here, whatever
// the other side says.
func (l *plan) guestName(ctx context.Context, user string) (string, error) {
	if !strings.Contains(user, "@") {
		user += "@" + l.conf.Domains[0]
	}
	name, err := identity.CanonicalAddress(user)
	if err != nil {
		return "", &credential.Refused{Reason: credential.ReasonName, Proven: true}
	}
	person, err := l.db.PersonByAddress(ctx, name)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return name, nil
	case err != nil:
		return "", err
	case !person.Disabled.IsZero():
		return "", &credential.Refused{Reason: credential.ReasonDisabled, Person: person.ID, Proven: true}
	}
	return name, nil
}
