package main

import (
	"errors"
	"io"
	"log"
	"net"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gosasl "github.com/emersion/go-sasl"
)

// A mailbox is an IMAP server that takes the issuer's tokens by OAUTHBEARER.
type mailbox struct {
	listener net.Listener
	server   *imapserver.Server
}

func newMailbox(i *issuer) (*mailbox, error) {
	user := imapmemserver.NewUser("you@example.org", "")
	if err := user.Create("INBOX", nil); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := imapserver.New(&imapserver.Options{
		InsecureAuth: true,
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}},
		Logger:       log.New(io.Discard, "", 0),
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &tokenSession{UserSession: imapmemserver.NewUserSession(user), issuer: i}, nil, nil
		},
	})
	go func() { _ = server.Serve(listener) }()
	return &mailbox{listener, server}, nil
}

type tokenSession struct {
	*imapmemserver.UserSession
	issuer *issuer
}

func (s *tokenSession) Login(string, string) error {
	return errors.New("no passwords here")
}

func (s *tokenSession) AuthenticateMechanisms() []string { return []string{gosasl.OAuthBearer} }

func (s *tokenSession) Authenticate(string) (gosasl.Server, error) {
	return saysNo{gosasl.NewOAuthBearerServer(func(o gosasl.OAuthBearerOptions) *gosasl.OAuthBearerError {
		if o.Username != "you@example.org" || !s.issuer.good(o.Token) {
			return &gosasl.OAuthBearerError{Status: "invalid_token", Schemes: "bearer"}
		}
		return nil
	})}, nil
}

// saysNo makes a refusal an answer of IMAP's; go-imap takes any other error for a
// fault of the server.
type saysNo struct{ gosasl.Server }

func (s saysNo) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := s.Server.Next(response)
	if err != nil {
		err = &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeAuthenticationFailed, Text: "invalid token"}
	}
	return challenge, done, err
}
