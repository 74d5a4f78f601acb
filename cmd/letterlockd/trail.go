package main

import (
	"context"
	"log/slog"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
)

// A trail writes to the log who got in at a mail server.
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

// note logs a success; mailauth logs refusals. The name that was presented is foreign
// text, which slog quotes.
func (t *trail) note(p credential.Presented, v credential.Verdict, err error) {
	if err == nil {
		t.log.Info("signed in", "user", p.User, "as", v.MailUser(p.Protocol), "protocol", p.Protocol, "mechanism", p.Mechanism, "remote", p.Remote)
	}
}
