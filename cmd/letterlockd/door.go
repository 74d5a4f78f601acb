package main

import (
	"context"
	"errors"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
)

// A door lets mailauth ask credential: each of the two rooms has its own words for what
// goes through.
type door struct{ d *credential.Door }

// Password implements mailauth.Door.
func (d door) Password(ctx context.Context, p mailauth.Presented) (mailauth.Verdict, error) {
	return verdict(d.d.Password(ctx, credential.Presented(p)))
}

// Token implements mailauth.Door.
func (d door) Token(ctx context.Context, p mailauth.Presented) (mailauth.Verdict, error) {
	return verdict(d.d.Token(ctx, credential.Presented(p)))
}

func verdict(v credential.Verdict, err error) (mailauth.Verdict, error) {
	if refused, no := errors.AsType[*credential.Refused](err); no {
		return mailauth.Verdict{}, &mailauth.Refused{Reason: string(refused.Reason), Proven: refused.Proven}
	}
	return mailauth.Verdict(v), err
}
