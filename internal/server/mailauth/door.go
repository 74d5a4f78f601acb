package mailauth

import (
	"context"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
)

// A Door judges what somebody presented at a mail server; a *credential.Door is one. Only
// a *[credential.Refused] is a no; every other error means that nobody could judge, and
// is answered with "later".
type Door interface {
	Password(context.Context, credential.Presented) (credential.Verdict, error)
	Token(context.Context, credential.Presented) (credential.Verdict, error)
}
