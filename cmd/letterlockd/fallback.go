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
func (l *plan) beside(sasl *mailauth.SASLOptions, book *senders.Book, known people) {
	if l.conf.Postfix.Fallback == "" {
		return
	}
	guests := guests{known: known, domain: l.conf.Domains[0]} // the schema wants one beside a socket
	up := mailauth.NewUpstream(mailauth.UpstreamOptions{
		Address: l.conf.Postfix.Fallback, Ours: credential.HasForm, Name: guests.name, Log: l.log, Now: l.now,
	})
	sasl.Door = l.watched(mailauth.Guard(up.Beside(l.inner), l.scales))
	sasl.Upstream, sasl.Throttle = up, l.scales
	book.Guests()
}

// people are those of letterlockd, as far as they are known while the database is away.
type people interface {
	PersonByAddress(ctx context.Context, address string) (identity.Person, error)
}

// guests name those who signed in elsewhere.
type guests struct {
	known  people
	domain string
}

// name is what Postfix is told about somebody who signed in elsewhere. A name without a
// domain, as PAM has them, gets ours. Whoever is disabled here stays out here, whatever the
// other side says; and ann+phone@ is Ann's app password of that name, which nobody but
// letterlockd can vouch for.
func (g guests) name(ctx context.Context, user string) (string, error) {
	if !strings.Contains(user, "@") {
		user += "@" + g.domain
	}
	name, err := identity.CanonicalAddress(user)
	if err != nil {
		return "", &credential.Refused{Reason: credential.ReasonName, Proven: true}
	}
	person, err := g.known.PersonByAddress(ctx, name)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return g.stranger(ctx, name)
	case err != nil:
		return "", err
	case !person.Disabled.IsZero():
		return "", &credential.Refused{Reason: credential.ReasonDisabled, Person: person.ID, Proven: true}
	}
	return name, nil
}

// stranger is the name of somebody who is no person here.
func (g guests) stranger(ctx context.Context, name string) (string, error) {
	local, domain, _ := strings.Cut(name, "@")
	// Behind each plus sign a label could begin.
	for at, r := range local {
		if r != '+' || at == 0 {
			continue
		}
		person, err := g.known.PersonByAddress(ctx, local[:at]+"@"+domain)
		if err == nil {
			return "", &credential.Refused{Reason: credential.ReasonName, Person: person.ID, Proven: true}
		}
		if !errors.Is(err, identity.ErrNotFound) {
			return "", err
		}
	}
	return name, nil
}
