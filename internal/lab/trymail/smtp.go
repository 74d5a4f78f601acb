package trymail

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	gosasl "github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A smtpSession is one connection. Mail is taken from who signed in, as nobody else,
// and for mailboxes of the same domain only: it goes nowhere.
type smtpSession struct {
	servers *Servers
	user    string // empty until signed in
	to      []string
}

var _ smtp.AuthSession = (*smtpSession)(nil)

// AuthMechanisms are the token mechanisms, and PLAIN where app passwords are taken.
func (s *smtpSession) AuthMechanisms() []string { return s.servers.checker.mechanisms() }

// Auth begins a sign-in.
func (s *smtpSession) Auth(mechanism string) (gosasl.Server, error) {
	return s.servers.checker.server(mechanism, "smtp", func(user string) { s.user = user }, smtpRefusal)
}

func smtpRefusal(err error) error {
	if errors.Is(err, errUnavailable) {
		return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Temporary authentication failure"}
	}
	return smtp.ErrAuthFailed
}

// Mail checks the sender.
func (s *smtpSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.user == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	owners, err := s.servers.checker.owners(from, s.user)
	if err != nil {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Sender address rejected: look-up failed"}
	}
	if !slices.ContainsFunc(owners, func(owner string) bool { return strings.EqualFold(owner, s.user) }) {
		return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Sender address rejected: not owned by user"}
	}
	return nil
}

// Rcpt takes mailboxes of the sender's domain.
func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	to = strings.ToLower(to)
	if domain(to) == "" || domain(to) != domain(s.user) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "This server delivers to its own domain only"}
	}
	s.to = append(s.to, to)
	return nil
}

func domain(address string) string {
	_, after, _ := strings.Cut(address, "@")
	return after
}

// Data puts the message into the inboxes.
func (s *smtpSession) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for _, to := range s.to {
		if err := s.servers.boxes.deliver(to, message); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
	return nil
}

// Reset forgets the message, not the person.
func (s *smtpSession) Reset() { s.to = nil }

// Logout ends the connection.
func (s *smtpSession) Logout() error { return nil }
