package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
)

// A trail writes each sign-in at a mail server to the log.
type trail struct {
	door mailauth.Door
	log  *slog.Logger
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

// note logs; the name that was presented is foreign text, which slog quotes.
func (t *trail) note(p credential.Presented, v credential.Verdict, err error) {
	log := t.log.With("user", p.User, "protocol", p.Protocol, "mechanism", p.Mechanism, "remote", p.Remote)
	refused, no := errors.AsType[*credential.Refused](err)
	switch {
	case err == nil:
		log.Info("signed in", "as", v.MailUser(p.Protocol))
	case no:
		log.Warn("refused", "reason", refused.Reason)
	default:
		log.Error("sign-in could not be checked", "error", err)
	}
}
