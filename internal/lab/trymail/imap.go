package trymail

import (
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gosasl "github.com/emersion/go-sasl"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// An imapSession is one connection; it has a mailbox once somebody signed in.
type imapSession struct {
	*imapmemserver.UserSession // nil until then
	servers                    *Servers
	conn                       *imapserver.Conn
}

var _ imapserver.SessionSASL = (*imapSession)(nil)

// Login is the LOGIN command.
func (s *imapSession) Login(user, password string) error {
	login, err := s.servers.checker.password(user, secret.New(password), "imap")
	if err != nil {
		return imapRefusal(err)
	}
	s.welcome(login)
	return nil
}

// AuthenticateMechanisms are the token mechanisms, and PLAIN where app passwords are
// taken.
func (s *imapSession) AuthenticateMechanisms() []string { return s.servers.checker.mechanisms() }

// Authenticate begins a sign-in.
func (s *imapSession) Authenticate(mechanism string) (gosasl.Server, error) {
	return s.servers.checker.server(mechanism, "imap", s.welcome, imapRefusal)
}

func (s *imapSession) welcome(user string) {
	s.UserSession = imapmemserver.NewUserSession(s.servers.boxes.of(user))
	s.servers.sessions.add(user, s.conn)
}

// Close is called when the connection has ended.
func (s *imapSession) Close() error {
	s.servers.sessions.remove(s.conn)
	if s.UserSession == nil {
		return nil
	}
	return s.UserSession.Close()
}

func imapRefusal(err error) error {
	if errors.Is(err, errUnavailable) {
		return &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeUnavailable, Text: "Temporary authentication failure"}
	}
	return imapserver.ErrAuthFailed
}
