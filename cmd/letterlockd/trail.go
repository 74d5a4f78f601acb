package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
	"github.com/letterlock-mail/letterlock/internal/server/tally"
)

// A trail writes to the log who got in at a mail server, and has refusals counted for the
// audit trail.
type trail struct {
	door    mailauth.Door
	refused func(tally.Refusal)
	log     *slog.Logger
	// among: the mail server asks others when we say no. That a password of theirs is not
	// one of ours is no refusal: they may well let it in, and the person would read each
	// hour that somebody was refused in their name.
	among bool
}

// Password implements mailauth.Door.
func (t *trail) Password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	v, err := t.door.Password(ctx, p)
	t.note(p, v, err)
	return v, err
}

// Token implements mailauth.Door.
func (t *trail) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	v, err := t.door.Token(ctx, p)
	t.note(p, v, err)
	return v, err
}

// note logs a success; mailauth logs refusals. The name that was presented is foreign
// text, which slog quotes.
func (t *trail) note(p credential.Presented, v credential.Verdict, err error) {
	refused, no := errors.AsType[*credential.Refused](err)
	refusal := tally.Refusal{User: p.User, From: p.Remote, Protocol: p.Protocol}
	switch {
	case no && t.among && refused.Reason == credential.ReasonForm && !sasl.IsToken(p.Mechanism):
	case no:
		refusal.Person, refusal.Reason = refused.Person, string(refused.Reason)
		t.refused(refusal)
	case errors.Is(err, mailauth.ErrTooMany):
		refusal.Reason = "put off: too many wrong secrets"
		t.refused(refusal)
	case err == nil:
		t.log.Info("signed in", "user", p.User, "as", v.MailUser(p.Protocol), "protocol", p.Protocol, "mechanism", p.Mechanism, "remote", p.Remote)
	}
}
