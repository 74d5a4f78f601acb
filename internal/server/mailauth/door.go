package mailauth

import (
	"context"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Door judges what somebody presented at a mail server. Only a *[Refused] is a no;
// every other error means that nobody could judge, and is answered with "later".
type Door interface {
	Password(context.Context, Presented) (Verdict, error)
	Token(context.Context, Presented) (Verdict, error)
}

// Presented is a secret at the door.
type Presented struct {
	User      string // as it was typed; may be empty with a token
	Secret    secret.String
	Protocol  identity.Protocol
	Remote    netip.Addr // zero: not known
	Mechanism string
	Secured   bool // came over TLS
}

// A Verdict is a yes.
type Verdict struct {
	Person     identity.Person
	Login      string
	Credential *identity.Credential
	Grant      *identity.Grant
	Scopes     []string
}

// MailUser is the name that a mail server is told.
func (v Verdict) MailUser(p identity.Protocol) string {
	switch {
	case p != identity.SMTP:
		return v.Login
	case v.Credential != nil && v.Credential.Limited():
		return identity.LoginName(v.Person.Address, v.Credential.Name)
	}
	return v.Person.Address
}

// Refused is a no; the reason is for logs only.
type Refused struct {
	Reason string
	Proven bool
}

func (r *Refused) Error() string { return "refused: " + r.Reason }
