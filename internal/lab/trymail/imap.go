package trymail

import (
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gosasl "github.com/emersion/go-sasl"
)

// An imapSession is one connection; it has a mailbox once somebody signed in.
type imapSession struct {
	*imapmemserver.UserSession // nil until then
	servers                    *Servers
}

var _ imapserver.SessionSASL = (*imapSession)(nil)

// Login refuses: there are no passwords here.
func (s *imapSession) Login(string, string) error { return imapserver.ErrAuthFailed }

// AuthenticateMechanisms are the token mechanisms.
func (s *imapSession) AuthenticateMechanisms() []string { return mechanisms() }

// Authenticate begins a sign-in.
func (s *imapSession) Authenticate(mechanism string) (gosasl.Server, error) {
	return s.servers.checker.server(mechanism, "imap", func(user string) {
		s.UserSession = imapmemserver.NewUserSession(s.servers.boxes.of(user))
	}, imapRefusal)
}

func imapRefusal(err error) error {
	if errors.Is(err, errUnavailable) {
		return &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeUnavailable, Text: "Temporary authentication failure"}
	}
	return imapserver.ErrAuthFailed
}
